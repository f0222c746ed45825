import logging
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from torch.multiprocessing import start_processes

from limbeck.data import ClassificationAugmentation, ImageFolder
from limbeck.data.base import BadSampleError
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.skipped import SkippedSamples, add_lines
from tests.tiny_models import classifier
from tests.training.tiny_runs import PLAIN_SGD, STEADY, fit

pytestmark = pytest.mark.filterwarnings("ignore:.*")


def write_folder(root: Path, damaged: tuple[str, ...] = (), images: int = 6) -> ImageFolder:
    """Two classes, black and white."""
    for name, value in (("black", 0), ("white", 255)):
        (root / name).mkdir(parents=True)
        for number in range(images):
            path = root / name / f"{number}.png"
            PIL.Image.fromarray(np.full((32, 32), value, np.uint8)).save(path)
            if f"{name}/{number}" in damaged:
                path.write_bytes(path.read_bytes()[:50])
    return ImageFolder(root)


def data_of(folder: Path, train: ImageFolder, val: ImageFolder, **options) -> DataModule:
    augmentation = ClassificationAugmentation(size=32)
    stated = {"batch_size": 4, "workers": 0, "augmentation": augmentation, "on_bad_sample": "skip"}
    return DataModule(val, train, **stated | options)


def student() -> DistillationModule:
    return DistillationModule(classifier(classes=2), optimizer=PLAIN_SGD, learning_rate=STEADY)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_goes_on_and_lists_what_it_skipped(tmp_path, caplog, workers):
    caplog.set_level(logging.WARNING, "limbeck")
    train = write_folder(tmp_path / "train", damaged=("black/2", "white/5"))
    # The whole first batch, and one of the second.
    val = write_folder(tmp_path / "val", damaged=tuple(f"black/{n}" for n in range(5)))
    data = data_of(tmp_path, train, val, workers=workers)
    run = tmp_path / "run"
    trainer = fit(student(), data, run, SkippedSamples(), max_epochs=2)
    assert trainer.global_step == 6

    listed = (run / "skipped.txt").read_text().splitlines()
    assert len(listed) == 7
    assert sum("training: " in line for line in listed) == 2
    assert any(line.startswith(f"training: {tmp_path}/train/black/2.png: not") for line in listed)
    assert all(" not a readable image (" in line for line in listed)
    assert "5 samples of the validation set were skipped, 5 of 12 so far" in caplog.text
    assert caplog.text.count("of the validation set") == 1  # not once a validation

    # A resumed run, or another one in this folder, adds to the list; it opens the images anew.
    (tmp_path / "train/white/0.png").write_bytes(b"")
    again = data_of(tmp_path, ImageFolder(tmp_path / "train"), val)
    fit(student(), again, run, SkippedSamples(), max_epochs=2)
    longer = (run / "skipped.txt").read_text().splitlines()
    assert longer[:7] == listed
    assert len(longer) == 8
    assert "white/0.png" in longer[7]


def test_an_evaluation_lists_what_it_skipped(tmp_path):
    val = write_folder(tmp_path / "val", damaged=("white/1",))
    data = data_of(tmp_path, val, val)
    trainer = fit(student(), data, tmp_path / "run", SkippedSamples(), max_steps=1)
    scores = trainer.validate(trainer.model, data, verbose=False)
    assert scores[0]["val/top1"] <= 1
    assert (tmp_path / "run/skipped.txt").read_text().count("validation: ") == 1


def test_nothing_is_written_where_nothing_was_skipped(tmp_path):
    train = write_folder(tmp_path / "train")
    for mode in ("skip", "error"):
        data = data_of(tmp_path, train, train, on_bad_sample=mode)
        fit(student(), data, tmp_path / "run", SkippedSamples())
    assert not (tmp_path / "run/skipped.txt").exists()


def test_without_skipping_a_damaged_image_ends_the_run(tmp_path):
    train = write_folder(tmp_path / "train", damaged=("black/2",))
    data = data_of(tmp_path, train, train, on_bad_sample="error")
    with pytest.raises(BadSampleError, match=r"black/2\.png: not a readable image"):
        fit(student(), data, tmp_path / "run", SkippedSamples())


def test_what_can_be_read_again_is_said_so(tmp_path):
    train = write_folder(tmp_path / "train")
    data = data_of(tmp_path, train, train)
    data.bad_samples["training"][3] = True  # a worker could not read it
    fit(student(), data, tmp_path / "run", SkippedSamples())
    expected = "training: image 3 (counting from 0) could not be read once, but can be now\n"
    assert (tmp_path / "run/skipped.txt").read_text() == expected


def test_lines_are_added_once(tmp_path):
    path = tmp_path / "new" / "skipped.txt"
    for lines in (["a", "b"], ["b", "c"]):
        add_lines(path, lines)
    assert path.read_text() == "a\nb\nc\n"


def one_rank(rank: int, folder: Path, port: int) -> None:
    logging.disable()
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    train, val = ImageFolder(folder / "train"), ImageFolder(folder / "val")
    data = data_of(folder, train, val)
    fit(student(), data, folder / "run", SkippedSamples(), strategy="ddp", devices=2)
    # Each has seen its own part alone.
    assert data.bad_samples["validation"].nonzero()[:, 0].tolist() == [2 + rank]
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()  # or its threads may abort the process as it exits


def test_two_processes_write_one_list(tmp_path):
    write_folder(tmp_path / "train")
    write_folder(tmp_path / "val", damaged=("black/2", "black/3"))
    port = find_free_network_port()
    start_processes(one_rank, (tmp_path, port), nprocs=2, start_method="forkserver")
    lines = (tmp_path / "run/skipped.txt").read_text().splitlines()
    assert [line.partition(": not")[0] for line in lines] == [
        f"validation: {tmp_path}/val/black/{number}.png" for number in (2, 3)
    ]
