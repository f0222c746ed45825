from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from limbeck.data import KITTI, Shapes, VisionDataset, WIDERFace
from limbeck.data.annotated import AnnotatedImage, AnnotatedImages, Objects
from limbeck.training.detections import DetectionFiles

CAT, DOG = 1, 2


def images() -> AnnotatedImages:
    nothing = torch.zeros(0)
    objects = Objects(torch.zeros(0, 4), nothing.long(), nothing, nothing.long())
    named = [
        AnnotatedImage(Path("JPEGImages", f"{name}.jpg"), image_id, (100, 100), objects)
        for image_id, name in enumerate(("000012", "000007"))
    ]
    return AnnotatedImages(["cat", "sea lion"], named, source=Path("test.txt"))


def validate(folder: Path, dataset: VisionDataset, batches: list[Any], world_size: int = 1) -> None:
    """The hooks of one validation: each batch has (image id, label, score, box) of one image."""
    module: Any = SimpleNamespace(data=SimpleNamespace(datasets={"validation": dataset}))
    first = world_size == 1 or distributed.get_rank() == 0
    trainer: Any = SimpleNamespace(
        sanity_checking=False,
        world_size=world_size,
        is_global_zero=first,
        state=SimpleNamespace(fn="validate"),
    )
    callback = DetectionFiles(folder)
    callback.on_validation_start(trainer, module)
    for image, labels, scores, boxes in batches:
        found = {"boxes": boxes, "scores": scores, "labels": labels}
        found = {name: torch.tensor(value) for name, value in found.items()}
        batch = [None], [{"image_id": torch.tensor(image)}]
        callback.on_validation_batch_end(trainer, module, {"student": [found]}, batch, 0)
    callback.on_validation_epoch_end(trainer, module)


SECOND = (1, [DOG], [0.25], [[0.0, 1.25, 30.5, 40.0]])
FIRST = (0, [DOG, 0, DOG], [0.9999999, 0.8, 1e-9], [[9.96, 0.0, 20.0, 30.0]] * 3)
LINES = """\
000012 0.99999988 11.0 1.0 20.0 30.0
000012 0.00000000 11.0 1.0 20.0 30.0
000007 0.25000000 1.0 2.2 30.5 40.0
"""


def test_lines_are_the_development_kits_and_the_unused_label_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "results"
    validate(folder, images(), [FIRST, SECOND])
    assert (folder / "comp4_det_test_sea lion.txt").read_text() == LINES
    assert (folder / "comp4_det_test_cat.txt").read_text() == ""
    validate(folder, images(), [])
    assert (folder / "comp4_det_test_sea lion.txt").read_text() == ""


def one_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=2)
    validate(folder / str(rank), images(), [[SECOND], [FIRST]][rank], world_size=2)
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(tmp_path: Path) -> None:
    multiprocessing.start_processes(one_rank, (tmp_path,), nprocs=2, start_method="forkserver")
    assert (tmp_path / "0" / "comp4_det_test_sea lion.txt").read_text() == LINES
    assert not (tmp_path / "1").exists()


def test_images_without_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.val is Shapes\. Give VOC, COCO"):
        validate(tmp_path, Shapes(count=1), [])


class OwnKITTI(KITTI):
    """A user's own."""


@pytest.mark.parametrize("kind", [KITTI, OwnKITTI])
def test_kittis_files_are_of_a_frame_each(kind: type[KITTI], shared: Path, tmp_path: Path) -> None:
    dataset = kind(shared / "data/kitti", "val")
    second = (1, [2, 1], [0.5, 0.75], [[1.0, 2.0, 30.126, 40.0], [5.0, 6.0, 70.0, 80.0]])
    validate(tmp_path, dataset, [second])
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["000003", "000007", "000142"]
    assert (tmp_path / "000003.txt").read_text() == ""
    lines = (tmp_path / "000007.txt").read_text().splitlines()
    place = "-1 -1 -1 -1000 -1000 -1000 -10"
    assert lines == [
        f"Pedestrian -1 -1 -10 1.00 2.00 30.13 40.00 {place} 0.50000000",
        f"Car -1 -1 -10 5.00 6.00 70.00 80.00 {place} 0.75000000",
    ]


def test_wider_faces_files_lie_in_folders_of_events(shared: Path, tmp_path: Path) -> None:
    events = ["10--People_Marching", "49--Greeting"]
    dataset = WIDERFace(shared / "data/widerface", "val", events=events)
    first = (0, [1, 1], [0.5, 0.75], [[1.0, 2.0, 30.0, 40.0], [5.0, 6.0, 70.0, 80.0]])
    validate(tmp_path, dataset, [first])
    marching, greeting = (image.path.stem for image in dataset.images)
    lines = (tmp_path / events[0] / f"{marching}.txt").read_text().splitlines()
    faces = ["5.00 6.00 65.00 74.00 0.75000000", "1.00 2.00 29.00 38.00 0.50000000"]
    assert lines == [marching, "2", *faces]
    assert (tmp_path / events[1] / f"{greeting}.txt").read_text() == f"{greeting}\n0\n"
