"""Whether training says that it waits for its data."""

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
        (
            (0.5, 0.4, 0.1, 2, 3),
            "data.workers is 2; 4 would keep up, but there are cores for only",
        ),
        ((0.5, 0.4, 0.1, 3, 3), "data.workers is 3, and there are cores for only 3 here: more"),
        ((0.5, 0.4, 0.1, 1, 1), "data.workers is 1, and there is one core here: more"),
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


class Clock:
    """A clock that goes on where it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Timed(Shapes):
    """Reading an image takes a stated time."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__("classification", size=64, count=8 * 9)
        self.clock = clock
        self.seconds = seconds

    def __getitem__(self, index: int) -> Any:
        self.clock.now += self.seconds
        return super().__getitem__(index)


class TimedSteps(L.Callback):
    """A step takes a stated time, and what comes with an epoch or a validation an hour."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def on_train_batch_start(self, *_: Any) -> None:
        self.clock.now += self.seconds

    def on_validation_start(self, *_: Any) -> None:
        self.clock.now += 3600


def warnings_of(
    image: float, step: float, folder: Path, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """What is said of a run whose batches have 8 images, which the main process loads."""
    clock = Clock()
    data = DataModule(
        Shapes("classification", size=64, count=8), Timed(clock, image), batch_size=8, workers=0
    )
    module = DistillationModule(tiny_models.classifier())
    waits = next(c for c in module.companions if isinstance(c, DataWaits))
    waits.after = 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("limbeck.training.waiting.cores", lambda: 8)
        for name in ("loaders", "waiting"):
            patch.setattr(f"limbeck.training.{name}.time", clock)
        options = {"log_every_n_steps": 2, "max_epochs": 2}
        tiny_runs.fit(module, data, folder, TimedSteps(clock, step), **options)
    return [r.message for r in caplog.records if r.name == "limbeck.training.waiting"]


def test_steps_that_wait_for_data_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(0.02, 0.1, tmp_path, caplog) == [
        "training waits for its data in 62% of the time: loading a batch takes 0.16 s, and a step "
        "0.1 s. data.workers is 0; 2 would keep up."
    ]


def test_steps_that_hardly_wait_are_not_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert warnings_of(0.001, 0.1, tmp_path, caplog) == []
