from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader

from limbeck import Distillation
from limbeck.data.loading import scaled
from limbeck.methods import KD, FitNet
from limbeck.metrics import COCOAveragePrecision, VOCAveragePrecision
from limbeck.models import BasicBlocks, Classifier
from limbeck.schedules import WarmUp
from limbeck.training.module import DistillationModule
from limbeck.training.optimization import LearningRate, Optimizer
from limbeck.training.scoring import headline_of, within
from tests import observation, tiny_models
from tests.training import tiny_runs


def fitnet() -> dict[str, FitNet]:
    return {"fitnet": FitNet(["fpn"], weight=2.0)}


def taught_detector(**options: object) -> DistillationModule:
    stated = {"optimizer": tiny_runs.PLAIN_SGD, "learning_rate": tiny_runs.STEADY}
    return DistillationModule(
        tiny_models.detector(0),
        tiny_models.detector(1),
        fitnet(),
        transfer={"head": "head"},
        **stated | options,
    )


def losses_of(
    module: DistillationModule, folder: Path, **options: object
) -> list[dict[str, float]]:
    """The terms of every step of an epoch."""
    seen: list[dict[str, float]] = []

    class Note(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: DistillationModule, *_) -> None:
            seen.append({name: term.item() for name, term in pl_module.terms.items()})

    tiny_runs.fit(module, tiny_runs.shapes(), folder, Note(), **options)
    return seen


# -- training -----------------------------------------------------------------------------------


class Waits(TorchDispatchMode):
    """Counts in each step how often a number is read from a tensor, for which a GPU is waited."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[int]()
        self.step = 0

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.ops.aten._local_scalar_dense.default:
            self.counts[self.step] += 1
        return function(*args, **kwargs or {})


def test_nothing_is_read_from_the_device_between_logged_steps(tmp_path: Path) -> None:
    waits = Waits()

    class Note(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            waits.step += 1

    models = tiny_models.classifier(), tiny_models.classifier()
    module = DistillationModule(*models, {"kd": KD()}, optimizer=tiny_runs.PLAIN_SGD)
    data = tiny_runs.shapes("classification", train=8 * 7)
    with waits:
        trainer = tiny_runs.fit(
            module,
            data,
            tmp_path,
            Note(),
            RichProgressBar(),
            enable_progress_bar=True,
            logger=CSVLogger(tmp_path),
            log_every_n_steps=3,
        )
    # The bar begins with the first step, and the epoch ends with the seventh.
    assert set(range(1, 7)) & waits.counts.keys() == {1, 3, 6}
    assert trainer.progress_bar_metrics.keys() == {"train/task", "train/distillation"}


def test_a_run_is_the_loop_that_one_would_write(tmp_path: Path) -> None:
    """The module adds nothing to `Distillation` and an optimizer."""
    module = taught_detector()
    tiny_runs.fit(module, tiny_runs.shapes(), tmp_path)

    pair = Distillation(
        tiny_models.detector(0), tiny_models.detector(1), fitnet(), transfer={"head": "head"}
    )
    pair.methods.load_state_dict(taught_detector().pair.methods.state_dict())
    optimizer = torch.optim.SGD(pair.trainable_parameters(), lr=0.01)
    for images, targets in tiny_runs.shapes().train_dataloader():
        optimizer.zero_grad()
        pair(scaled(images), targets).total.backward()
        optimizer.step()
        pair.advance()
    assert module.pair.number == pair.number == 4
    ours, theirs = module.pair.student.state_dict(), pair.student.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_teacher_is_neither_trained_nor_changed(tmp_path: Path) -> None:
    module = taught_detector()
    before = observation.snapshot(module.pair.teacher)
    trainer = tiny_runs.fit(module, tiny_runs.shapes(), tmp_path)
    after = observation.snapshot(module.pair.teacher)
    assert all(torch.equal(before[name], after[name]) for name in before)
    held = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert held == {id(p) for p in module.pair.trainable_parameters()}


@pytest.mark.parametrize(
    ("options", "total", "per_epoch"),
    [
        ({"max_epochs": 3}, 15, 5),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 9, 3),  # 2 + 2 + 1 batches
        ({"max_epochs": 3, "max_steps": 7}, 7, 5),
        ({"max_epochs": -1, "max_steps": 7}, 7, 5),
        ({"max_epochs": 2, "limit_train_batches": 3}, 6, 3),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 4, 2),
    ],
)
def test_steps_are_optimizer_steps(
    options: dict[str, object],
    total: int,
    per_epoch: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[tuple[int, int]] = []
    build = LearningRate.build

    def note(self: LearningRate, optimizer: torch.optim.Optimizer, *steps: int) -> object:
        counted.append(steps)
        return build(self, optimizer, *steps)

    monkeypatch.setattr(LearningRate, "build", note)
    rate = LearningRate("step", warm_up=0, milestones=(1,))
    module = DistillationModule(
        tiny_models.classifier(), optimizer=tiny_runs.PLAIN_SGD, learning_rate=rate
    )
    rates: dict[int, float] = {}

    def see(module: DistillationModule) -> None:
        rates[module.pair.number] = module.optimizers().param_groups[0]["lr"]

    data = tiny_runs.shapes("classification", train=40)
    trainer = tiny_runs.fit(module, data, tmp_path, tiny_runs.Watch(see), **options)
    assert counted == [(total, per_epoch)]
    assert module.pair.number == trainer.global_step == total
    assert rates == pytest.approx({i: 0.01 if i < per_epoch else 0.001 for i in range(total)})


def test_an_endless_run_is_refused(tmp_path: Path) -> None:
    module = DistillationModule(tiny_models.classifier())
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs or trainer\.max_steps"):
        tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path, max_epochs=-1)


def test_a_share_that_leaves_no_batch_is_refused(tmp_path: Path) -> None:
    module = DistillationModule(tiny_models.classifier())
    with pytest.raises(ValueError, match=r"limit_train_batches is 0\.1, which leaves none of 4"):
        tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path, limit_train_batches=0.1)


def test_a_one_cycle_cannot_be_resumed_at_another_length(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    data = tiny_runs.shapes("classification")
    short = DistillationModule(tiny_models.classifier())
    tiny_runs.fit(short, data, tmp_path, max_epochs=2, max_steps=6).save_checkpoint(path)
    longer = DistillationModule(tiny_models.classifier())
    with pytest.raises(ValueError, match="is a one-cycle of 6 steps, and this run has 12"):
        tiny_runs.fit(longer, data, tmp_path, max_epochs=3, checkpoint=path)


@pytest.mark.parametrize(
    ("widths", "options", "found"),
    [
        ([8, 8, 16], {"optimizer": Optimizer("sgd")}, "it has another model.optimizer.name"),
        (
            [8, 8, 16],
            {"optimizer": Optimizer(bias_lr_factor=2.0)},
            r"groups of \[\d+\] parameters",
        ),
        ([8, 8, 16], {"learning_rate": LearningRate("one_cycle")}, "shape is not one_cycle"),
        ([12, 8, 16], {}, r"tensors have other shapes, first \S+, which is \(8,.* in it and \(12,"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(
    tmp_path: Path, widths: list[int], options: dict[str, Any], found: str
) -> None:
    path, data = tmp_path / "a.ckpt", tiny_runs.shapes("classification")
    course = {"learning_rate": LearningRate("cosine")}
    begun = DistillationModule(tiny_models.classifier(), **course)
    tiny_runs.fit(begun, data, tmp_path, max_steps=1).save_checkpoint(path)
    network = BasicBlocks(**tiny_models.BLOCKS | {"widths": widths})
    other = DistillationModule(Classifier(network, 5), **course | options)
    with pytest.raises(ValueError, match=found):
        tiny_runs.fit(other, data, tmp_path, max_epochs=1, checkpoint=path)


def test_a_checkpoint_of_another_version_of_torch_is_gone_on_with(tmp_path: Path) -> None:
    """Whose AdamW has fewer keys in its groups."""
    path, data = tmp_path / "a.ckpt", tiny_runs.shapes("classification")
    begun = DistillationModule(tiny_models.classifier(), learning_rate=LearningRate("cosine"))
    tiny_runs.fit(begun, data, tmp_path, max_epochs=2, max_steps=4).save_checkpoint(path)
    saved = torch.load(path, weights_only=False)
    for group in saved["optimizer_states"][0]["param_groups"]:
        group.pop("decoupled_weight_decay", None)
        del group["foreach"]
    torch.save(saved, path)
    again = DistillationModule(tiny_models.classifier(), learning_rate=LearningRate("cosine"))
    assert tiny_runs.fit(again, data, tmp_path, max_epochs=2, checkpoint=path).global_step == 8


def test_schedules_follow_the_optimizer_steps(tmp_path: Path) -> None:
    module = DistillationModule(
        tiny_models.classifier(),
        tiny_models.classifier(1),
        {"kd": KD(weight=WarmUp(1.0, steps=2))},
        student_weight=0.5,
    )
    weights: list[float] = []

    def see(module: DistillationModule) -> None:
        weights.extend(module.pair.methods["kd"].weights_at(module.pair.number).values())

    options = {"accumulate_grad_batches": 2, "max_epochs": 2}
    tiny_runs.fit(
        module, tiny_runs.shapes("classification"), tmp_path, tiny_runs.Watch(see), **options
    )
    assert weights == [0.0, 0.0, 0.5, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_gradients_are_clipped(tmp_path: Path) -> None:
    module = taught_detector()
    before = {n: p.detach().clone() for n, p in module.pair.named_trainable_parameters()}
    tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, max_steps=1, gradient_clip_val=0.5)
    after = dict(module.pair.named_trainable_parameters())
    moved = torch.stack([(after[n] - before[n]).norm() for n in before]).norm()
    assert moved.item() == pytest.approx(0.01 * 0.5, rel=1e-3)  # learning rate times clip


def test_each_gradient_is_clipped_before_all_of_them_are(tmp_path: Path) -> None:
    module = taught_detector(optimizer=replace(tiny_runs.PLAIN_SGD, clip_each=1e-3))
    before = {n: p.detach().clone() for n, p in module.pair.named_trainable_parameters()}
    tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, max_steps=1, gradient_clip_val=100.0)
    after = dict(module.pair.named_trainable_parameters())
    moved = torch.stack([(after[n] - before[n]).norm() for n in before])
    assert moved.max().item() == pytest.approx(0.01 * 1e-3, rel=1e-2)
    assert (moved > 0.9 * moved.max()).sum() > 5


def test_bfloat16_trains_the_same_float32_weights(tmp_path: Path) -> None:
    full = losses_of(taught_detector(), tmp_path / "full")
    module = taught_detector()
    half = losses_of(module, tmp_path / "half", precision="bf16-mixed")
    assert {p.dtype for p in module.pair.parameters()} == {torch.float32}
    for ours, theirs in zip(half, full, strict=True):
        assert ours == pytest.approx(theirs, rel=0.1)
    assert half != full
    assert module.scores["student"].keys() == module.scores["teacher"].keys()


def test_channels_last_computes_the_same(tmp_path: Path) -> None:
    plain = losses_of(taught_detector(), tmp_path / "plain")
    module = taught_detector(channels_last=True)
    kernels = [p for p in module.pair.parameters() if p.dim() == 4 and p.shape[2] > 1]
    assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)
    for ours, theirs in zip(losses_of(module, tmp_path / "last"), plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.slow
def test_compiled_trunks_compute_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = losses_of(taught_detector(), tmp_path / "plain")
    # inductor would need a compiler
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    module = taught_detector(compile=True)
    for model in (module.pair.student, module.pair.teacher):
        assert [n for n, m in model.named_modules() if m._compiled_call_impl] == ["backbone"]
    for ours, theirs in zip(losses_of(module, tmp_path / "compiled"), plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    assert not any("_orig_mod" in name for name in module.state_dict())
    torch.compiler.reset()


def test_the_wiring_is_checked_eagerly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient for each term keeps the graph, which a compiled backward pass may refuse."""
    graphs: list[nn.Module] = []
    before_first_step: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> object:
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    torch.compiler.reset()
    module = DistillationModule(
        tiny_models.classifier(), tiny_models.classifier(1), {"kd": KD()}, compile=True
    )
    module.companions.append(tiny_runs.Watch(lambda _: before_first_step.append(len(graphs))))
    options = {"num_sanity_val_steps": 0, "max_steps": 1, "limit_val_batches": 0}
    tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path, **options)
    assert before_first_step == [0]
    assert len(graphs) >= 2  # the student's and the teacher's
    torch.compiler.reset()


# -- evaluation ---------------------------------------------------------------------------------


def test_other_loaders_are_refused(tmp_path: Path) -> None:
    module = DistillationModule(tiny_models.classifier())
    loader = DataLoader([0])
    trainer = L.Trainer(logger=False, default_root_dir=tmp_path, accelerator="cpu")
    with pytest.raises(TypeError, match="DistillationModule needs a limbeck DataModule; found"):
        trainer.fit(module, loader, loader)


@pytest.mark.parametrize(
    ("metric", "kind", "headline"),
    [("auto", COCOAveragePrecision, "AP"), ("voc", VOCAveragePrecision, "mAP")],
)
def test_the_metric_of_a_detector(metric: str, kind: type, headline: str, tmp_path: Path) -> None:
    module = DistillationModule(tiny_models.detector(), metric=metric)
    made = module.new_metric(tiny_runs.shapes())
    assert type(made) is kind
    assert headline_of(made) == headline
    limits = {"limit_train_batches": 1, "limit_val_batches": 1}
    tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, **limits)
    assert headline in module.scores["student"]


def test_the_teacher_is_measured_on_all_data_and_a_plain_student_tried_on_two_batches(
    tmp_path: Path,
) -> None:
    data = tiny_runs.shapes("classification", val=32)
    taught = DistillationModule(tiny_models.classifier(), tiny_models.classifier(1), {"kd": KD()})
    plain = DistillationModule(tiny_models.classifier())
    for module, model, batches in (
        (taught, taught.pair.teacher, 4),
        (plain, plain.pair.student, 2),
    ):
        calls: list[int] = []
        model.register_forward_pre_hook(lambda _, images, calls=calls: calls.append(len(images[0])))
        watch = tiny_runs.Watch(lambda _, calls=calls: calls.append(0))
        tiny_runs.fit(module, data, tmp_path, watch, max_steps=1)
        assert calls[: calls.index(0)] == [8] * batches
    assert taught.scores["teacher"]["top1"] * 32 % 1 == pytest.approx(0, abs=1e-5)
    assert (plain.scores, plain.scored_at) == ({}, None), "two batches are no measurement"


def test_validate_measures_both_and_training_the_student(tmp_path: Path) -> None:
    module = taught_detector()
    trainer = tiny_runs.fit(module, tiny_runs.shapes(), tmp_path, num_sanity_val_steps=0)
    assert module.scores.keys() == {"student"}
    trained = module.scores["student"]
    trainer.validate(module, tiny_runs.shapes(), verbose=False)
    assert module.scores.keys() == {"student", "teacher"}
    assert module.scores["student"] == trained


def test_of_a_teacher_of_other_classes_the_first_are_measured(tmp_path: Path) -> None:
    logits = torch.tensor([[0.1, 0.5, 0.9]])
    assert torch.equal(within(logits, 2), logits[:, :2])
    more = within(logits, 4)
    assert more.shape == (1, 4)
    assert more.argmax(1).item() == 2
    found = {"boxes": torch.rand(3, 4), "labels": torch.tensor([1, 9, 2]), "scores": torch.rand(3)}
    (kept,) = within([found], 2)
    assert torch.equal(kept["boxes"], found["boxes"][[0, 2]])
    assert kept["labels"].tolist() == [1, 2]

    module = DistillationModule(tiny_models.classifier(), tiny_models.classifier(1, classes=9))
    tiny_runs.fit(module, tiny_runs.shapes("classification"), tmp_path)
    data = tiny_runs.shapes("classification")
    with torch.inference_mode():
        right = [
            (module.pair.teacher.eval()(scaled(images))[:, :5].argmax(1) == targets).float().mean()
            for images, targets in data.val_dataloader()
        ]
    assert module.scores["teacher"]["top1"] == pytest.approx(torch.stack(right).mean().item())


def test_scores_travel_with_the_checkpoint(tmp_path: Path) -> None:
    module = taught_detector()
    trainer = tiny_runs.fit(module, tiny_runs.shapes(), tmp_path)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    resumed = taught_detector()
    path = tmp_path / "a.ckpt"
    tiny_runs.fit(resumed, tiny_runs.shapes(), tmp_path, checkpoint=path, num_sanity_val_steps=0)
    assert resumed.scores["teacher"] == module.scores["teacher"]


def test_a_checkpoint_of_another_teacher_is_refused(tmp_path: Path) -> None:
    trainer = tiny_runs.fit(taught_detector(), tiny_runs.shapes(), tmp_path)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    saved: dict[str, Tensor] = torch.load(tmp_path / "a.ckpt", weights_only=False)["state_dict"]
    assert not any("teacher" in name for name in saved)
    other = DistillationModule(tiny_models.detector(0), tiny_models.detector(2), fitnet())
    with pytest.raises(ValueError, match="was trained with another teacher"):
        tiny_runs.fit(other, tiny_runs.shapes(), tmp_path, checkpoint=tmp_path / "a.ckpt")
