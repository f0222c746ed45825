"""Masked Generative Distillation against the authors' modules, and its masks in a run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import MaskedGenerative, Step
from limbeck.training.module import DistillationModule
from tests import batches, small_models, tiny_models
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of
from tests.training import tiny_runs

CASES = {"spatial": "positions", "spatial_align": "positions", "channel_align": "channels"}


def golden_method(case: dict[str, Tensor], masked: str) -> tuple[MaskedGenerative, Step]:
    method = MaskedGenerative(
        ["fpn"], float(case["alpha"]), ratio=float(case["ratio"]), masked=masked
    )
    step = step_of({"fpn": [case["student"].requires_grad_()]}, {"fpn": [case["teacher"]]})
    method.setup(step)
    return method, step


@pytest.mark.parametrize(("name", "masked"), CASES.items())
def test_loss_and_gradients_are_the_authors(
    shared: Path, name: str, masked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = case_of(shared, "masked_generative.npz", name)
    method, step = golden_method(case, masked)
    monkeypatch.setattr(method, "mask", lambda aligned, step, level: case["mask"])
    own = {
        key: method.get_parameter(key.replace(".", ".fpn_0.", 1))
        for key in (k.removeprefix("param.") for k in case if k.startswith("param."))
    }
    assert len(own) == len(list(method.parameters()))
    with torch.no_grad():
        for key, parameter in own.items():
            parameter.copy_(case[f"param.{key}"])
    loss = method(step)["fpn.0"]
    assert_loss(loss, case["loss"])
    assert_loss(loss * method.weights_at(0)["fpn.0"], case["loss_weighted"])
    loss.backward()
    assert_gradient(case["student"].grad, case["grad_student"])
    for key, parameter in own.items():
        assert_gradient(parameter.grad, case[f"grad.{key}"])


@pytest.mark.parametrize(("name", "masked"), CASES.items())
def test_masks_are_the_authors(shared: Path, name: str, masked: str) -> None:
    case = case_of(shared, "masked_generative.npz", name)
    method, _ = golden_method(case, masked)
    torch.manual_seed(int(case["seed"]))
    assert torch.equal(method.kept(torch.rand(case["mask"].shape)).float(), case["mask"])


def masks_of(method: MaskedGenerative, step: Step, count: int = 2) -> list[Tensor]:
    aligned = torch.zeros(count, 6, 40, 50)
    return [method.mask(aligned, step, level) for level in range(2)]


def test_masks_differ_by_seed_step_process_and_level_and_by_nothing_else() -> None:
    method = MaskedGenerative()
    step = Step(torch.zeros(2), None, None, None, number=3, world_size=2, rank=1, seed=5)
    first, second = masks_of(method, step)
    torch.manual_seed(1)  # what others draw changes nothing
    again = zip(masks_of(method, step), (first, second), strict=True)
    assert all(torch.equal(a, b) for a, b in again)
    others = [replace(step, **{name: 9}) for name in ("number", "rank", "seed")]
    drawn = [first, second, *(masks_of(method, other)[0] for other in others)]
    assert len({tuple(mask.flatten().tolist()) for mask in drawn}) == 5
    assert not torch.equal(first[0], first[1])  # images have masks of their own


@pytest.mark.parametrize(("masked", "shape"), [("positions", (2, 1, 40, 50)), ("channels", (2, 6))])
def test_the_ratio_is_the_share_that_is_masked(masked: str, shape: tuple[int, ...]) -> None:
    method = MaskedGenerative(ratio=0.3, masked=masked)
    step = Step(torch.zeros(400), None, None, None, number=0, world_size=1)
    mask = masks_of(method, step, 400)[0]
    assert mask.flatten(1).shape[1:].numel() == torch.Size(shape[1:]).numel()
    assert set(mask.unique().tolist()) == {0.0, 1.0}
    assert (mask == 0).float().mean() == pytest.approx(0.3, abs=0.02)


class Watched(MaskedGenerative):
    """Notes the masks that it drew last at each step and level."""

    def __init__(self) -> None:
        super().__init__(["C3", "C4"], masked="channels", weight=1e-6)
        self.drawn: dict[tuple[int, int], Tensor] = {}

    def mask(self, aligned: Tensor, step: Step, level: int) -> Tensor:
        self.drawn[step.number, level] = super().mask(aligned, step, level)
        return self.drawn[step.number, level]


def test_a_resumed_run_draws_the_masks_that_it_would_have_drawn(tmp_path: Path) -> None:
    def run(last: Path | None, **options: int) -> dict[tuple[int, int], Tensor]:
        method = Watched()
        module = DistillationModule(
            tiny_models.classifier(0),
            tiny_models.classifier(1),
            {"it": method},
            optimizer=tiny_runs.PLAIN_SGD,
            learning_rate=tiny_runs.STEADY,
        )
        data = tiny_runs.shapes("classification")
        data.seed = 4
        trainer = tiny_runs.fit(
            module, data, tmp_path, checkpoint=last, limit_val_batches=0, **options
        )
        trainer.save_checkpoint(tmp_path / "last.ckpt")
        assert module.pair.seed == 4
        return method.drawn

    whole = run(None, max_steps=6, max_epochs=-1)
    begun = run(None, max_steps=3, max_epochs=-1)
    resumed = run(tmp_path / "last.ckpt", max_steps=6, max_epochs=-1)
    assert (
        [*begun, *resumed] == [*whole] == [(step, level) for step in range(6) for level in (0, 1)]
    )
    assert all(torch.equal(mask, whole[place]) for place, mask in (begun | resumed).items())
    assert not torch.equal(whole[0, 1], whole[1, 1])


def test_levels_of_a_pyramid_of_other_channels() -> None:
    pair = Distillation(
        small_models.retinanet(),
        small_models.retinanet(Bottleneck, channels=48),
        {"it": MaskedGenerative()},
    ).train()
    losses = pair(*batches.detection_batch(2, 128))
    assert [n for n in losses if n.startswith("it/")] == [f"it/fpn.{i}" for i in range(5)]
    found = pair.check(*batches.detection_batch(2, 128)).connections[0]
    assert found.adapter == ("conv 1x1 32 to 48, conv 3x3 48 to 48, ReLU, conv 3x3 48 to 48")


def test_maps_of_other_sizes_are_refused() -> None:
    models = small_models.resnet(), small_models.resnet(Bottleneck)
    with pytest.raises(
        ValueError, match=r"MaskedGenerative at C4 .* C5 .* differ in height or width"
    ):
        Distillation(*models, {"it": MaskedGenerative({"C4": "C5"})})


def test_pyramids_of_other_levels_are_refused() -> None:
    models = small_models.retinanet(), small_models.retinanet()
    with pytest.raises(ValueError, match=r"Generative at fpn .* do not pair off by stride"):
        Distillation(*models, {"it": MaskedGenerative({"fpn": "P3"})})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.5}, "ratio is 1.5"),
        ({"masked": "cells"}, "masked is 'cells'; expected positions or"),
    ],
)
def test_arguments_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedGenerative(**options)


def test_a_picture_covers_the_positions_that_the_loss_masks() -> None:
    pair = Distillation(
        small_models.retinanet(), small_models.retinanet(), [MaskedGenerative(["P3"], ratio=0.25)]
    )
    batch = batches.detection_batch(2, 128)
    columns = pair.picture(*batch, "MaskedGenerative").columns
    assert list(columns) == ["P3, masked", "P3, difference"]
    _, steps = pair.run(*batch)
    method = pair.methods["MaskedGenerative"]
    kept = method.mask(torch.zeros(2, 1, 16, 16), steps["MaskedGenerative"], 0)
    for image, masked in enumerate(columns["P3, masked"]):
        assert torch.equal(masked[::8, ::8], 1 - kept[image, 0])
        assert 0.1 < masked.mean() < 0.4
