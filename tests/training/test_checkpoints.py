import random
import resource
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch

from limbeck.training.checkpoints import (
    BestCheckpoint,
    DamagedCheckpointError,
    WholeCheckpoints,
    damage,
)
from limbeck.training.module import DistillationModule
from limbeck.training.writing import UNWRITTEN
from tests import tiny_models
from tests.training import tiny_runs


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file may grow beyond ``room`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_checkpoint_is_replaced_whole_or_not_at_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, files = tmp_path / "new" / "last.ckpt", WholeCheckpoints()
    tensor = torch.arange(50_000)
    with full_disk(10_000):
        files.save_checkpoint({"tensor": tensor}, path)
    assert f"{path} could not be written" in caplog.text
    assert "there is none yet" in caplog.text
    assert not list(path.parent.iterdir())

    files.save_checkpoint({"tensor": tensor}, path)
    caplog.clear()
    with full_disk(10_000):
        files.save_checkpoint({"tensor": tensor + 1}, path)
    assert f"{path} is of an earlier step" in caplog.text
    assert torch.equal(torch.load(path)["tensor"], tensor)
    assert list(path.parent.iterdir()) == [path]
    files.save_checkpoint({"tensor": tensor + 1}, path)
    assert torch.equal(torch.load(path)["tensor"], tensor + 1)
    assert path not in UNWRITTEN


# -- the best one -------------------------------------------------------------------------------


@pytest.fixture
def _unwritten() -> Iterator[None]:
    UNWRITTEN.clear()
    yield
    UNWRITTEN.clear()


class Scores(L.Callback):
    """Makes validations come out as stated, on a disk that is full where the score is negative."""

    def __init__(self, *scores: float) -> None:
        self.scores = list(scores)
        self.limit = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        score = self.scores.pop(0)
        pl_module.log("score", abs(score))
        soft = 10_000 if score < 0 else self.limit[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, self.limit[1]))


@pytest.mark.usefixtures("_unwritten")
@pytest.mark.parametrize(
    ("scores", "kept", "said"),
    [
        ((1, -3, 2), 2, "after step 2, with score 3.000; it is of another one, with 2.000"),
        ((1, -3, 4), 4, ""),
        ((1, -3, -2), 1, "after step 2, with score 3.000; it is of another one, with 1.000"),
        ((-3, -2, -4), None, "after step 3, with score 4.000; there is none"),
    ],
)
def test_the_best_checkpoint_is_the_best_of_those_that_were_written(
    scores: tuple[float, ...], kept: float | None, said: str, tmp_path: Path
) -> None:
    best = BestCheckpoint(
        tmp_path,
        "best",
        monitor="score",
        mode="max",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    course = Scores(*scores)
    module = DistillationModule(tiny_models.classifier(0), optimizer=tiny_runs.PLAIN_SGD)
    data = tiny_runs.shapes("classification", train=8)
    options = {"max_epochs": 3, "plugins": [WholeCheckpoints()], "num_sanity_val_steps": 0}
    try:
        tiny_runs.fit(module, data, tmp_path, best, course, **options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, course.limit)
    path = tmp_path / "best.ckpt"
    assert UNWRITTEN.get(path.resolve(), "").endswith(said)
    assert bool(UNWRITTEN) == bool(said)
    assert path.exists() == (kept is not None)
    if kept is not None:
        found = WholeCheckpoints().load_checkpoint(path)
        assert found["global_step"] == [abs(score) for score in scores].index(kept) + 1
        assert best.best_model_score == kept


# -- damage -------------------------------------------------------------------------------------


def written(path: Path, **more: Any) -> bytes:
    """A checkpoint, and the bytes of its file."""
    tensors = {f"layer{i}": torch.full((20, 20), float(i)) for i in range(5)}
    state = {"state_dict": tensors, "global_step": 3, "loops": {}}
    WholeCheckpoints().save_checkpoint(state | {"pytorch-lightning_version": "2"} | more, path)
    return path.read_bytes()


def test_every_cut_and_every_flipped_bit_is_seen(tmp_path: Path) -> None:
    path, dice = tmp_path / "last.ckpt", random.Random(0)
    whole = written(path)
    assert not damage(path)
    assert torch.load(path)["global_step"] == 3  # torch and zipfile take it as before
    ends = [len(whole) - place for place in range(1, 90)]  # the checksum, and the directory's end
    for place in (*ends, *(dice.randrange(len(whole)) for _ in range(60))):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << dice.randrange(8)
        for damaged in (flipped, whole[:place]):
            path.write_bytes(damaged)
            with pytest.raises(DamagedCheckpointError, match=r"last\.ckpt"):
                WholeCheckpoints().load_checkpoint(path)


def test_a_checkpoint_without_a_checksum_is_compared_record_by_record(tmp_path: Path) -> None:
    """As earlier versions wrote it."""
    path = tmp_path / "last.ckpt"
    content = written(path)[:-64]
    earlier = content[:-2] + b"\0\0"
    path.write_bytes(earlier)
    assert WholeCheckpoints().load_checkpoint(path)["global_step"] == 3
    tensor = torch.full((20, 20), 3.0).numpy().tobytes()
    assert tensor in earlier
    path.write_bytes(earlier.replace(tensor, tensor[:-1] + b"\1"))
    assert "differ from their checksum" in damage(path)


def test_what_is_left_beside_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    last, best = (tmp_path / "run" / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    last.parent.mkdir(parents=True)
    last.write_bytes(written(best)[:500])
    with pytest.raises(DamagedCheckpointError, match="it was cut off") as told:
        WholeCheckpoints().load_checkpoint(last)
    assert f"`limbeck fit --resume {tmp_path / 'run'} --from_best` goes on" in str(told.value)
    best.write_bytes(b"")
    with pytest.raises(DamagedCheckpointError, match="No other checkpoint of that run is sound"):
        WholeCheckpoints().load_checkpoint(last)
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        WholeCheckpoints().load_checkpoint(tmp_path / "none.ckpt")


class Program:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("code of the file was run",)


def test_code_that_a_checkpoint_names_is_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "last.ckpt"
    written(path, evil=Program())
    assert not damage(path)
    with pytest.raises(DamagedCheckpointError, match=r"print, which was not run") as told:
        WholeCheckpoints().load_checkpoint(path)
    assert "weights_only" not in str(told.value)  # torch's advice
    assert not capsys.readouterr().out


def test_weights_alone_are_no_checkpoint_of_a_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pth")
    with pytest.raises(DamagedCheckpointError, match="expected global_step, loops,"):
        WholeCheckpoints().load_checkpoint(tmp_path / "model.pth")


def test_what_would_unfold_to_more_than_the_file_is_not_read(tmp_path: Path) -> None:
    written(tmp_path / "last.ckpt")
    path = tmp_path / "packed.ckpt"
    with (
        zipfile.ZipFile(tmp_path / "last.ckpt") as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(DamagedCheckpointError, match="is compressed, as torch"):
        WholeCheckpoints().load_checkpoint(path)
