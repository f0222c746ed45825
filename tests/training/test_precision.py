"""`trainer.precision`: the networks in half precision, losses and weights in float32."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from torch import Tensor, nn

from limbeck import Distillation
from limbeck.methods import FGD, KD, CrossKD, FitNet, Method
from limbeck.methods.base import Step
from limbeck.schedules import WarmUp
from limbeck.training.callbacks import NonFiniteLossError
from limbeck.training.module import DistillationModule
from tests import batches, observation, small_models, tiny_models
from tests.commands.tiny_recipes import RUN
from tests.commands.tiny_recipes import classifier as classifier_recipe
from tests.commands.tiny_recipes import fit as fit_recipe
from tests.commands.tiny_recipes import plain as detector_recipe
from tests.commands.tiny_recipes import rows as logged
from tests.training import tiny_runs

HALVES = [torch.bfloat16, torch.float16]


class Careless(Method):
    """Forgets to compute in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.student_taps = {"C4": "C4"}
        self.weights = {"size": 1.0}

    def forward(self, step: Step) -> dict[str, Tensor]:
        return {"size": step.student.features["C4"].mean()}


class Seen(tiny_runs.Watch):
    """Loss terms of every step, and the precision of what both networks computed."""

    def __init__(self) -> None:
        super().__init__(self.note)
        self.terms: list[dict[str, Tensor]] = []
        self.features: set[torch.dtype] = set()

    def note(self, module: Any) -> None:
        if self.features:
            return
        for model in filter(None, (module.pair.student, module.pair.teacher)):
            for layer in model.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.register_forward_hook(self.note_dtype)

    def note_dtype(self, _: nn.Module, __: Any, output: Tensor) -> None:
        self.features.add(output.dtype)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.terms.append(dict(pl_module.terms))


def taught(task: str, **options: Any) -> DistillationModule:
    make = {"detection": tiny_models.detector, "classification": tiny_models.classifier}[task]
    method = FitNet(["fpn"]) if task == "detection" else KD()
    options = {"optimizer": tiny_runs.PLAIN_SGD, "learning_rate": tiny_runs.STEADY} | options
    return DistillationModule(make(), make(1), {"it": method}, **options)


# -- losses ---------------------------------------------------------------------------------------


def test_a_loss_in_half_precision_is_refused() -> None:
    pair = Distillation(small_models.resnet(), methods=[Careless()])
    pair(batches.pictures(), batches.labels())
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(TypeError, match=r"loss Careless/size is bfloat16; expected float32"),
    ):
        pair(batches.pictures(), batches.labels())


@pytest.mark.parametrize("half", HALVES)
def test_a_students_own_losses_become_float32(half: torch.dtype) -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, images: Tensor) -> dict[str, Tensor]:
            return {"own": self.layer(images.mean((2, 3))).mean()}

    pair = Distillation(Own())
    with torch.autocast("cpu", half):
        losses = pair(batches.pictures(), batches.labels())
    assert losses.raw["student/own"].dtype is torch.float32
    losses.total.backward()
    assert pair.student.layer.weight.grad.dtype is torch.float32


# -- whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["detection", "classification"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "16-true"])
def test_halves_train_like_float32(task: str, precision: str, tmp_path: Path) -> None:
    runs = {}
    for name in ("32-true", precision):
        seen = Seen()
        module = taught(task)
        tiny_runs.fit(module, tiny_runs.shapes(task), tmp_path / name, seen, precision=name)
        runs[name] = seen
    half = torch.float16 if precision == "16-true" else torch.bfloat16
    assert runs[precision].features == {half}
    for step, full in zip(runs[precision].terms, runs["32-true"].terms, strict=True):
        assert {loss.dtype for loss in step.values()} == {torch.float32}
        for name, loss in full.items():
            assert step[name].item() == pytest.approx(loss.item(), rel=0.1), name


class Batches(tiny_runs.L.Callback):
    """The types of images and boxes."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, _: int) -> None:
        images, targets = batch
        self.types = [each.dtype for each in (images[0], targets[0]["boxes"])]


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_halves_do_not_round_boxes(precision: str, tmp_path: Path) -> None:
    seen, half = Batches(), torch.float16 if precision == "16-true" else torch.bfloat16
    options = {"precision": precision, "max_steps": 1}
    tiny_runs.fit(taught("detection"), tiny_runs.shapes(), tmp_path, seen, **options)
    assert seen.types == [half, torch.float32]


def test_a_run_in_bfloat16_goes_on(tmp_path: Path) -> None:
    data, options = tiny_runs.shapes("classification"), {"precision": "bf16-true"}
    trainer = tiny_runs.fit(taught("classification"), data, tmp_path, **options)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = taught("classification")
    checkpoint = tmp_path / "a.ckpt"
    tiny_runs.fit(again, data, tmp_path, checkpoint=checkpoint, max_epochs=2, **options)
    assert again.pair.number == 8


def test_the_average_of_a_student_in_bfloat16_is_in_float32(tmp_path: Path) -> None:
    module = taught("classification", moving_average=0.9999)
    types: list[torch.dtype] = []
    watch = tiny_runs.Watch(
        lambda seen: types.extend(v.dtype for v in seen.companions[0].average.values())
    )
    data = tiny_runs.shapes("classification")
    tiny_runs.fit(module, data, tmp_path, watch, precision="bf16-true")
    assert torch.bfloat16 not in types
    assert torch.float32 in types
    assert next(module.pair.student.parameters()).dtype is torch.bfloat16


@pytest.mark.parametrize("method", [FGD(["fpn"]), CrossKD()])
def test_modules_of_a_method_take_the_trainers_type(method: Method, tmp_path: Path) -> None:
    module = DistillationModule(tiny_models.detector(), tiny_models.detector(1), {"it": method})
    data, options = tiny_runs.shapes(), {"precision": "bf16-true", "max_steps": 1}
    tiny_runs.fit(module, data, tmp_path, limit_val_batches=0, **options)
    assert module.pair.number == 1


def test_float16_needs_a_gpu_and_gives_way_to_bfloat16(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="AMP with fp16 is not supported on CPU. Using"):
        trainer = tiny_runs.fit(
            taught("classification"),
            tiny_runs.shapes("classification"),
            tmp_path,
            precision="16-mixed",
            max_steps=1,
        )
    assert trainer.precision == "bf16-mixed"


@pytest.mark.parametrize("recipe", [detector_recipe, classifier_recipe])
def test_precision_is_stated_on_the_command_line(
    recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--trainer.precision", "bf16-mixed", "--trainer.max_steps", "2")
    fit_recipe(recipe(), words=(*words, "--trainer.log_every_n_steps", "1"))
    losses = [float(row["train/total"]) for row in logged(RUN) if row.get("train/total")]
    assert len(losses) == 2
    assert all(0 < loss < 100 for loss in losses)


# -- gradient scaling -----------------------------------------------------------------------------


def scaled(scale: float) -> MixedPrecision:
    """float16 with a gradient scaler, which works on a CPU too where it is asked for by hand."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


def test_steps_that_the_scaler_skips_are_steps_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Lightning counts them, the learning rate moves on, and so do the weights of losses."""
    module = taught("classification", learning_rate=tiny_runs.STEADY)
    module.pair.methods["it"].weights = {"logits": WarmUp(1.0, steps=8)}
    before = observation.snapshot(module.pair.student)
    seen: list[tuple[int, int, bool, float]] = []

    def note(module: Any) -> None:
        same = all(torch.equal(p, before[n]) for n, p in module.pair.student.named_parameters())
        weight = module.pair.methods["it"].weights_at(module.pair.number)["logits"]
        seen.append((module.pair.number, module.trainer.global_step, same, weight))

    data = tiny_runs.shapes("classification", train=48)
    with caplog.at_level(logging.WARNING):
        trainer = tiny_runs.fit(
            module, data, tmp_path, tiny_runs.Watch(note), plugins=[scaled(2.0**40)]
        )
    assert [step[:2] for step in seen] == [(i, i) for i in range(6)]
    assert [step[3] for step in seen] == [i / 8 for i in range(6)]
    assert seen[1][2], "the first gradient overflows, so the weights stay"
    assert trainer.precision_plugin.scaler.get_scale() < 2.0**40
    assert all(p.isfinite().all() for p in module.pair.student.parameters())
    assert module.pair.number == trainer.global_step == 6


def test_scaled_gradients_train(tmp_path: Path) -> None:
    runs = []
    for plugins in ([], [scaled(1024.0)]):
        module, seen = taught("detection"), Seen()
        tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, seen, plugins=plugins)
        runs.append([sum(terms.values()).item() for terms in seen.terms])
    assert seen.features == {torch.float16}
    assert runs[1] == pytest.approx(runs[0], rel=0.02)
    assert runs[1][-1] < runs[1][0]


def test_a_loss_that_is_not_finite_still_ends_the_run(tmp_path: Path) -> None:
    module = taught("classification")
    with torch.no_grad():
        module.pair.student.network.fc.bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="student/cross_entropy"):
        tiny_runs.fit(
            module,
            tiny_runs.shapes("classification"),
            tmp_path,
            plugins=[scaled(1024.0)],
            log_every_n_steps=1,
        )
