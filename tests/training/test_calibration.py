import logging
import time
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor

from limbeck.data import ClassificationAugmentation
from limbeck.data.sampling import calibration_batches
from limbeck.methods import Method, Step
from limbeck.methods.base import Calibration, Epochs, Steps
from limbeck.training.calibration import is_due
from limbeck.training.data import DataModule
from limbeck.training.export import TrainingTime
from limbeck.training.module import DistillationModule
from limbeck.training.resumption import LastCheckpoint
from tests import tiny_models
from tests.training import tiny_runs

IMAGES = 20


class Centred(Method):
    """Pulls logits to the teacher's, less the mean that was found over many images."""

    def __init__(self, when: Epochs | Steps, transform: str = "evaluation") -> None:
        super().__init__()
        self.student_taps = self.teacher_taps = {"logits": "logits"}
        self.weights = {"logits": 0.1}
        self.calibration = Calibration(when, IMAGES, transform)
        self.register_buffer("mean", torch.full((5,), torch.nan))
        self.observed: list[Tensor] = []
        self.seen: list[Tensor] = []

    def observe(self, step: Step) -> None:
        assert not step.student.model.training
        assert not torch.is_grad_enabled()
        self.observed.append(step.taught.features["logits"])
        self.seen.append(step.images)

    def solve(self) -> None:
        self.mean.copy_(torch.cat(self.observed).mean(0))
        self.observed = []

    def forward(self, step: Step) -> dict[str, Tensor]:
        wanted = step.taught.features["logits"] - self.mean
        return {"logits": (step.student.features["logits"] - wanted).square().mean()}


def taught(method: Method, **options: object) -> DistillationModule:
    stated = {"optimizer": tiny_runs.PLAIN_SGD, "learning_rate": tiny_runs.STEADY}
    return DistillationModule(
        tiny_models.classifier(0),
        tiny_models.classifier(1),
        {"centred": method},
        **stated | options,
    )


class Course(L.Callback):
    """The loss of every step, and the step before which the method was calibrated."""

    def __init__(self, crash: int | None = None) -> None:
        self.crash = crash
        self.losses: dict[int, float] = {}
        self.calibrated: list[int] = []
        self.mean: Tensor | None = None

    def on_before_zero_grad(self, trainer, pl_module, optimizer) -> None:
        method = pl_module.pair.methods["centred"]
        assert pl_module.pair.student.training
        if self.mean is None or len(method.seen) != self.count:
            self.calibrated.append(trainer.global_step - 1)
        self.mean, self.count = method.mean.clone(), len(method.seen)

    def on_train_batch_end(self, trainer, pl_module, outputs, *_) -> None:
        self.losses[trainer.global_step] = outputs["loss"].item()
        if trainer.global_step == self.crash:
            raise KeyError("power cut")


def fit(module, folder, *callbacks, **options) -> L.Trainer:
    return tiny_runs.fit(module, tiny_runs.shapes("classification"), folder, *callbacks, **options)


def calibrations(caplog: pytest.LogCaptureFixture) -> int:
    return sum("calibrating on" in record.message for record in caplog.records)


@pytest.mark.parametrize(
    ("when", "times"),
    [
        (Epochs(1), 3),
        (Epochs(2), 2),  # before the first and the third epoch
        (Steps(5), 3),  # before steps 0, 5, 10
        (Steps(2, slow_from=4, slow_every=6), 3),  # 0, 2, 6
        (Steps(100), 1),
    ],
)
def test_methods_are_calibrated_when_they_say_so(
    when: Epochs | Steps, times: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """4 steps an epoch, 3 epochs; and no more after the last one."""
    caplog.set_level(logging.INFO, "limbeck")
    method = Centred(when)
    module = taught(method)
    fit(module, tmp_path, max_epochs=3)
    assert calibrations(caplog) == times
    assert method.mean.isfinite().all()
    batches = times * 3  # of 8, 8 and 4 images
    assert [len(images) for images in method.seen] == [8, 8, 4] * times
    assert len(method.seen) == batches
    different = {images.sum().item() for images in method.seen}
    assert len(different) == batches  # other images every time


def test_the_published_schedule_of_detection() -> None:
    calibration = Calibration(Steps(5000, slow_from=20000, slow_every=31000), 2002, "training")
    due = [step for step in range(0, 90_000, 1000) if is_due(calibration, step, 0, 1)]
    assert due == [0, 5000, 10_000, 15_000, 31_000, 62_000]


def test_an_accumulated_step_is_calibrated_for_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "limbeck")
    fit(taught(Centred(Steps(1))), tmp_path, max_epochs=1, accumulate_grad_batches=2)
    assert calibrations(caplog) == 2


def test_a_resumed_run_calibrates_when_an_uninterrupted_one_would(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "limbeck")
    whole = Course()
    fit(taught(Centred(Epochs(2))), tmp_path / "whole", whole, max_epochs=4)
    assert calibrations(caplog) == 2

    last, losses = None, {}
    for crash in (3, 6, 9, 11, None):
        caplog.clear()
        course, keeper = Course(crash), LastCheckpoint(tmp_path / "last.ckpt", 1)
        try:
            fit(taught(Centred(Epochs(2))), tmp_path, course, keeper, checkpoint=last, max_epochs=4)
        except KeyError:
            last = keeper.path
        losses |= course.losses
        # It goes on from steps 2, 5, 8 (the end of an epoch, before the second calibration), 10.
        assert calibrations(caplog) == (1 if crash in (3, 9, 11) else 0)
    assert losses == whole.losses


def test_a_resumed_run_calibrates_anew_if_asked_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = LastCheckpoint(tmp_path / "last.ckpt", 1)
    with pytest.raises(KeyError):
        fit(taught(Centred(Epochs(4))), tmp_path, Course(3), keeper)
    caplog.clear()
    caplog.set_level(logging.INFO, "limbeck")
    module = taught(Centred(Epochs(4)), recalibrate=True)
    fit(module, tmp_path, checkpoint=keeper.path)
    assert calibrations(caplog) == 1


def test_calibration_counts_as_training_time(tmp_path: Path) -> None:
    class Slow(Centred):
        def observe(self, step: Step) -> None:
            super().observe(step)
            time.sleep(1.0)

    trainer = fit(taught(Slow(Epochs(1))), tmp_path, max_steps=1)
    timing = next(c for c in trainer.callbacks if isinstance(c, TrainingTime))
    assert timing.wall > 3 * 1.0  # three batches


# -- the images ---------------------------------------------------------------------------------


def test_processes_share_the_images_of_one() -> None:
    alone = calibration_batches(50, 4, 21, seed=3)
    assert [len(batch) for batch in alone] == [4, 4, 4, 4, 4, 1]
    parts = [calibration_batches(50, 4, 21, seed=3, rank=r, world_size=2) for r in (0, 1)]
    drawn = [draw for part in parts for batch in part for draw in batch]
    assert sorted(drawn) == sorted(draw for batch in alone for draw in batch)
    assert len(set(drawn)) == 21
    assert calibration_batches(50, 4, 21, seed=4) != alone
    assert calibration_batches(3, 4, 21, seed=4, rank=3, world_size=4) == []


def test_images_are_augmented_as_the_method_says() -> None:
    augmentation = ClassificationAugmentation(size=32, scale=(0.2, 0.5), flip=0.0)
    shapes = tiny_runs.shapes("classification")
    data = DataModule(shapes.val, shapes.train, batch_size=8, workers=0, augmentation=augmentation)

    def sums(kind: str, step: int) -> list[float]:
        loader = data.calibration_dataloader(32, kind, step)
        return sorted(image.double().sum().item() for images, _ in loader for image in images)

    plain = [augmentation.evaluation()(image).double().sum().item() for image, _ in shapes.train]
    assert sums("evaluation", 0) == sorted(plain)
    assert sums("evaluation", 1) == sums("evaluation", 0)  # all there are, in another order
    assert sums("training", 0) == sums("training", 0)
    assert sums("training", 0) != sums("training", 1) != sorted(plain)
