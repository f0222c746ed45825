import json
import logging
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from torch import Tensor

from limbeck import NotAliveError
from limbeck.data.loading import scaled
from limbeck.methods import KD, FitNet, Method, Step
from limbeck.metrics import COCOAveragePrecision
from limbeck.report.curves import read_metrics
from limbeck.schedules import EarlyStop, LateStart, WarmUp, Weight
from limbeck.training.callbacks import (
    BalanceReport,
    MovingAverage,
    NonFiniteLossError,
)
from limbeck.training.logs import Rows
from limbeck.training.module import DistillationModule
from limbeck.training.resumption import LastCheckpoint
from tests import observation, tiny_models
from tests.observation import same
from tests.training import tiny_runs


def taught(method: Method | None = None, **options: object) -> DistillationModule:
    """A classifier with a teacher, 4 steps an epoch."""
    stated = {"optimizer": tiny_runs.PLAIN_SGD, "learning_rate": tiny_runs.STEADY}
    methods = {"method": KD() if method is None else method}
    return DistillationModule(
        tiny_models.classifier(0), tiny_models.classifier(1), methods, **stated | options
    )


def fit(module: DistillationModule, folder: Path, *callbacks: L.Callback, **options) -> L.Trainer:
    return tiny_runs.fit(module, tiny_runs.shapes("classification"), folder, *callbacks, **options)


# -- alive, or refused --------------------------------------------------------------------------


def test_the_wiring_is_shown_once_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[str] = []
    watch = tiny_runs.Watch(lambda _: steps.append(capsys.readouterr().out))
    module = DistillationModule(
        tiny_models.detector(), tiny_models.detector(1), {"hints": FitNet(["fpn"])}
    )
    module.companions.append(watch)  # behind limbeck's own
    tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, max_epochs=2)
    assert "hints" in steps[0]
    assert "conv 1x1" in steps[0]
    assert not any(steps[1:])


def test_a_plain_run_has_no_wiring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(DistillationModule(tiny_models.classifier()), tmp_path)
    assert capsys.readouterr().out == ""


def test_a_student_that_learns_nothing_from_a_method_is_refused(tmp_path: Path) -> None:
    frozen = tiny_models.detector().requires_grad_(False)
    module = DistillationModule(frozen, tiny_models.detector(1), {"hints": FitNet(["fpn"])})
    with pytest.raises(NotAliveError, match="no parameter of the student is trained"):
        tiny_runs.fit(module, tiny_runs.shapes(), tmp_path)

    half = tiny_models.detector()
    half.backbone.requires_grad_(False)
    module = DistillationModule(half, tiny_models.detector(1), {"hints": FitNet(["fpn"])})
    with pytest.raises(NotAliveError, match=r"hints/fpn\.0 is not connected to the student"):
        tiny_runs.fit(module, tiny_runs.shapes(), tmp_path)
    assert module.pair.number == 0


def test_a_frozen_plain_student_is_refused(tmp_path: Path) -> None:
    module = DistillationModule(tiny_models.classifier().requires_grad_(False))
    with pytest.raises(ValueError, match="nothing is trained"):
        fit(module, tmp_path)


def test_a_detector_whose_stride_does_not_divide_the_images_is_advised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tiny_runs.shapes()
    data.train.size = 72
    student = tiny_models.detector()
    student.transform.size_divisible = 8
    tiny_runs.fit(DistillationModule(student), data, tmp_path, max_steps=1)
    (warning,) = (r.getMessage() for r in caplog.records if r.levelno == logging.WARNING)
    assert warning.startswith("student: Images of padded height 72 have 5 cells at stride 16")


# -- balance ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weight", "advice"),
    [(1e-5, "hardly moves the student"), (1e5, "drowns the task"), (0.2, None)],
)
def test_the_balance_is_shown_after_the_first_steps_with_advice(
    weight: float,
    advice: str | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    module = taught(KD(weight=weight), optimizer=tiny_runs.Optimizer("sgd", lr=1e-6))
    (report,) = (c for c in module.companions if isinstance(c, BalanceReport))
    assert report.after == 20
    fit(module, tmp_path, max_epochs=6)
    said = capsys.readouterr().out
    assert said.count("Balance of the loss terms after 20 steps") == 1
    for word in ("raw", "weighted", "gradient", "share", "student/cross_entropy", "method/logits"):
        assert word in said
    warned = [record.getMessage() for record in caplog.records if "gradient" in record.getMessage()]
    assert len(warned) == (0 if advice is None else 1)
    assert all("method/logits" in line and advice in line for line in warned)
    kept = json.loads((tmp_path / "balance.json").read_text())
    assert kept["step"] == 20
    assert [term["name"] for term in kept["terms"]] == ["student/cross_entropy", "method/logits"]
    assert kept["terms"][0]["level"] is None
    assert kept["terms"][1]["level"] > 0


def test_the_shares_of_the_gradient_are_logged(tmp_path: Path) -> None:
    module = taught()
    (report,) = (c for c in module.companions if isinstance(c, BalanceReport))
    report.after = 2
    rows = Rows(str(tmp_path), name="", version="")
    fit(module, tmp_path, logger=[rows], log_every_n_steps=1)
    logged = read_metrics(tmp_path / "metrics.csv")
    shares = {name: curve for name, curve in logged.items() if name.startswith("train/gradient/")}
    assert list(shares) == ["train/gradient/method/logits", "train/gradient/student/cross_entropy"]
    assert [steps.tolist() for steps, _ in shares.values()] == [[2], [2]]
    assert sum(values.item() for _, values in shares.values()) == pytest.approx(1)
    assert logged["train/total"][0].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("weight", "at"),
    [(LateStart(1.0, 3), 5), (EarlyStop(1.0, 0), 2), (WarmUp(1.0, 4), 3), (0.0, 2)],
)
def test_the_balance_waits_for_terms_that_set_in_late(
    weight: Weight, at: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An adapter that is not trained yet says nothing of the weight that would be level."""
    module = taught(KD(weight=weight))
    (report,) = (c for c in module.companions if isinstance(c, BalanceReport))
    report.after = 2
    fit(module, tmp_path, max_epochs=2)
    assert f"Balance of the loss terms after {at} steps" in capsys.readouterr().out


def test_the_balance_waits_for_the_students_own_losses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = taught()
    module.pair.student_weight = LateStart(1.0, 3)
    (report,) = (c for c in module.companions if isinstance(c, BalanceReport))
    report.after = 2
    fit(module, tmp_path, max_epochs=2)
    assert "Balance of the loss terms after 5 steps" in capsys.readouterr().out


def test_the_balance_report_leaves_the_run_as_it_is_and_is_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_report, without = taught(), taught()
    (report,) = (c for c in with_report.companions if isinstance(c, BalanceReport))
    report.after = 2
    trainer = fit(with_report, tmp_path)
    fit(without, tmp_path)
    assert same(
        observation.snapshot(with_report.pair.student), observation.snapshot(without.pair.student)
    )
    assert capsys.readouterr().out.count("Balance") == 1

    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = taught()
    (again,) = (c for c in resumed.companions if isinstance(c, BalanceReport))
    again.after = 2
    fit(resumed, tmp_path, max_epochs=2, checkpoint=tmp_path / "a.ckpt")
    assert resumed.pair.number == 8
    assert "Balance" not in capsys.readouterr().out


# -- not a number -------------------------------------------------------------------------------


class Poison(Method):
    """Two parts, of which the second is NaN from a step on."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step
        self.student_taps = {"logits": ""}
        self.weights = {"good": 1.0, "bad": 1.0}

    def forward(self, step: Step) -> dict[str, Tensor]:
        good = step.student.features["logits"].float().square().mean()
        return {"good": good, "bad": good * (torch.nan if step.number >= self.step else 1.0)}


@pytest.mark.parametrize("every", [1, 50])
def test_a_term_that_turns_nan_stops_the_run_and_is_named(every: int, tmp_path: Path) -> None:
    """It alone, though every term is NaN by the time that anybody looks."""
    module = taught(Poison(step=6))
    last = LastCheckpoint(tmp_path / "last.ckpt")
    with pytest.raises(NonFiniteLossError) as stopped:
        fit(module, tmp_path, last, max_epochs=5, log_every_n_steps=every)
    message = str(stopped.value)
    assert message.startswith("method/bad became NaN or infinite between steps ")
    assert f"The last good checkpoint is {tmp_path / 'last.ckpt'}." in message
    assert module.pair.number == (7 if every == 1 else 8)

    saved = torch.load(last.path, weights_only=False)
    assert saved["global_step"] == 4  # the end of the first epoch
    tensors = [v for v in saved["state_dict"].values() if isinstance(v, Tensor)]
    assert all(tensor.isfinite().all() for tensor in tensors)
    recovered = taught(Poison(step=100))
    fit(recovered, tmp_path, max_epochs=2, checkpoint=last.path)
    assert recovered.pair.number == 8


def test_a_stop_before_the_first_checkpoint_says_that_there_is_none(tmp_path: Path) -> None:
    module = taught(Poison(step=2))
    with pytest.raises(NonFiniteLossError, match="No checkpoint was written before"):
        fit(module, tmp_path, LastCheckpoint(tmp_path / "last.ckpt"))
    assert not (tmp_path / "last.ckpt").exists()
    assert not (tmp_path / "student").exists()


def test_a_parameter_that_turned_nan_is_not_saved(tmp_path: Path) -> None:
    """In the last step of an epoch, after all losses have been fine."""

    class Spoil(L.Callback):
        def on_before_zero_grad(self, trainer: L.Trainer, pl_module: L.LightningModule, *_) -> None:
            if trainer.global_step == 7:
                with torch.no_grad():
                    pl_module.pair.student.network.fc.bias[0] = torch.inf

    module = taught()
    last = LastCheckpoint(tmp_path / "last.ckpt")
    with pytest.raises(NonFiniteLossError, match=r"'student\.network\.fc\.bias' holds NaN or inf"):
        fit(module, tmp_path, Spoil(), last, max_epochs=3)
    assert torch.load(last.path, weights_only=False)["global_step"] == 4


# -- the teacher --------------------------------------------------------------------------------


def test_the_teacher_is_measured_before_the_first_step(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "limbeck")
    seen: list[dict[str, dict[str, float]]] = []
    module = taught()
    data = tiny_runs.shapes("classification")
    with torch.inference_mode():
        right = [
            (module.pair.teacher(scaled(images)).argmax(1) == targets).float().mean()
            for images, targets in data.val_dataloader()
        ]
    expected = torch.stack(right).mean().item()
    tiny_runs.fit(module, data, tmp_path, tiny_runs.Watch(lambda m: seen.append(dict(m.scores))))
    assert seen[0] == {"teacher": {"top1": pytest.approx(expected)}}
    assert f"teacher on the validation data: top1 {expected:.3f}" in caplog.messages


@pytest.mark.parametrize(("student", "warnings"), [([0.1, 0.3, 0.4], 1), ([0.1, 0.2, 0.2], 0)])
def test_a_teacher_that_is_weaker_than_the_student_is_warned_of_once(
    student: list[float],
    warnings: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    scores = iter([0.2, *student])  # the teacher's comes first
    monkeypatch.setattr(
        COCOAveragePrecision, "compute", lambda _: {"AP": torch.tensor(next(scores))}
    )
    module = DistillationModule(
        tiny_models.detector(), tiny_models.detector(1), {"hints": FitNet(["fpn"])}
    )
    tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, max_epochs=3)
    warned = [m for m in caplog.messages if "is weaker than the student" in m]
    assert len(warned) == warnings
    assert all("the teacher (AP 0.200)" in m and "(0.300)" in m for m in warned)


# -- moving average -----------------------------------------------------------------------------


class Trail(L.Callback):
    """The student's weights after every step, and those that were evaluated."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self.evaluated: list[dict[str, Tensor]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: DistillationModule) -> None:
        self.start = observation.snapshot(pl_module.pair.student)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: DistillationModule, *_) -> None:
        if len(self.steps) < trainer.global_step:
            self.steps.append(observation.snapshot(pl_module.pair.student))

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: DistillationModule, *_
    ) -> None:
        if not trainer.sanity_checking:
            self.evaluated.append(observation.snapshot(pl_module.pair.student))


def averages(trail: Trail, decay: float) -> list[dict[str, Tensor]]:
    """By hand: a = d a + (1 - d) w, with d = (1 + n) / (10 + n) in the first steps."""
    average, made = trail.start, []
    for number, weights in enumerate(trail.steps, 1):
        d = min(decay, (1 + number) / (10 + number))
        average = {
            name: d * average[name] + (1 - d) * value if value.is_floating_point() else value
            for name, value in weights.items()
        }
        made.append(average)
    return made


def close(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return all(torch.allclose(ours[k], theirs[k], rtol=1e-5, atol=1e-7) for k in theirs)


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"max_epochs": 2}, 8),
        ({"max_epochs": 2, "max_steps": 6}, 6),  # it ends between two validations
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, 4),
    ],
)
def test_the_average_is_what_is_evaluated_and_exported(
    options: dict[str, object], steps: int, tmp_path: Path
) -> None:
    module, trail = taught(moving_average=0.25), Trail()
    trainer = fit(module, tmp_path, trail, **options)
    expected = averages(trail, 0.25)
    assert len(expected) == steps
    validated = [expected[i] for i in range(steps // 2 - 1, steps, steps // 2)]
    if steps == 6:
        validated = [expected[3]]
    assert all(close(*pair) for pair in zip(trail.evaluated, validated, strict=True))
    assert close(observation.snapshot(module.pair.student), expected[-1])
    assert not close(trail.steps[-1], expected[-1])

    # Training itself goes on with the weights as they were.
    plain, raw = taught(), Trail()
    fit(plain, tmp_path, raw, **options)
    assert all(same(*pair) for pair in zip(trail.steps, raw.steps, strict=True))
    # And so it is measured when asked after the fit.
    trail.evaluated.clear()
    trainer.validate(module, tiny_runs.shapes("classification"), verbose=False)
    assert close(trail.evaluated[0], expected[-1])


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5, -0.1])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"model.moving_average is .*above 0, and below 1"):
        MovingAverage(decay)
