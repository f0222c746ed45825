"""Whether training says that it waits for its data."""

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest

from limbeck.data import Shapes
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule
from limbeck.training.waiting import DataWaits, advice
from tests import tiny_models
from tests.training import tiny_runs

SLOW = "training waits for its data in 50% of the time: loading a batch takes 0.4 s, and a step"


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ((0.5, 0.4, 0.1, 2, 8), f"{SLOW} 0.1 s. data.workers is 2; 4 would keep up."),
        ((0.5, 0.4, 0.15, 0, 8), f"{SLOW} 0.15 s. data.workers is 0; 3 would keep up."),
        ((0.5, 0.4, 0.1, 2, 3), "data.workers is 2; 4 would keep up, and for 3 there are cores"),
        ((0.5, 0.4, 0.1, 3, 3), "data.workers is 3, and for 3 there are cores here, so that more"),
        ((0.5, 0.4, 0.1, 1, 1), "data.workers is 1, and there is one core here, so that more"),
    ],
)
def test_the_number_of_workers_that_would_do(loads: Any, expected: str) -> None:
    said = advice(*loads)
    assert said is not None
    assert expected in said


@pytest.mark.parametrize(
    "loads",
    [
        (0.05, 0.4, 0.1, 2, 8),  # hardly any time
        (0.5, 0.4, 0.2, 2, 8),  # the host waits, and the device works
    ],
)
def test_nothing_is_said_where_workers_keep_up(loads: Any) -> None:
    assert advice(*loads) is None


class Ready(Shapes):
    """One image, which costs nothing but a stated time."""

    seconds = 0.0

    def __getitem__(self, index: int) -> Any:
        time.sleep(self.seconds)
        if not hasattr(self, "sample"):
            self.sample = super().__getitem__(0)
        return self.sample


class Slow(Ready):
    seconds = 0.02


class SlowSteps(L.Callback):
    def on_train_batch_start(self, *_: Any) -> None:
        time.sleep(0.2)


def warnings_of(
    train: Shapes, folder: Path, caplog: pytest.LogCaptureFixture, *callbacks: L.Callback
) -> list[str]:
    data = DataModule(Shapes(train.task, size=64, count=8), train, batch_size=8, workers=0)
    module = DistillationModule(tiny_models.classifier())
    waits = next(c for c in module.companions if isinstance(c, DataWaits))
    waits.after = 4
    tiny_runs.fit(module, data, folder, *callbacks, log_every_n_steps=2, max_epochs=2)
    return [r.message for r in caplog.records if r.name == "limbeck.training.waiting"]


def test_steps_that_wait_for_data_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbeck.training.waiting.cores", lambda: 1000)
    (said,) = warnings_of(Slow("classification", size=64, count=8 * 12), tmp_path, caplog)
    share, needed = (
        int("".join(filter(str.isdigit, w))) for w in (said.split()[6], said.split()[-4])
    )
    assert "data.workers is 0" in said
    assert (share >= 10, needed >= 1) == (True, True)


def test_steps_that_do_not_wait_are_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = Ready("classification", size=64, count=8 * 12)
    assert warnings_of(train, tmp_path, caplog, SlowSteps()) == []


def test_waits_are_counted_where_batches_are_handed_over() -> None:
    data = DataModule(Shapes(count=4), Slow(count=4), batch_size=2, workers=0)
    loader = data.train_dataloader()
    for _ in loader:
        time.sleep(0.01)
    first = loader.waited
    assert first >= 4 * Slow.seconds
    assert len(list(loader)) == 2
    assert loader.waited > first
