"""Focal and Global Distillation against the authors' module, and its masks."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.frame import Frame
from limbeck.methods import FGD, Step
from limbeck.methods import fgd as module
from limbeck.methods.fgd import attentions, box_masks
from limbeck.schedules import WarmUp
from tests import batches, small_models
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of

CASES = ["full", "padded", "no_boxes", "covered", "coarse"]
PARTS = ("foreground", "background", "attention", "relation")
WRITTEN = {"position": "conv_mask", "first": "0", "norm": "1", "second": "3"}


def written(own: str) -> str:
    """The original's name of a parameter of ours."""
    modules, _, inside = own.partition(".fpn_0.")
    if modules == "align":
        return f"align.{inside}"
    side = modules[0]  # s or t
    layer, _, kind = inside.partition(".")
    if layer == "position":
        return f"conv_mask_{side}.{kind}"
    return f"channel_add_conv_{side}.{WRITTEN[layer]}.{kind}"


def golden(shared: Path, name: str, boxes_by: str) -> tuple[dict[str, Tensor], FGD, Step]:
    """The case, the method with the authors' parameters and weights, and the step."""
    case = case_of(shared, "fgd.npz", name)
    weights = dict(zip(PARTS, case["weights_alpha_beta_gamma_lambda"].tolist(), strict=True))
    method = FGD(["fpn"], temperature=float(case["temperature"]), boxes_by=boxes_by, **weights)
    sizes = [tuple(size) for size in case["image_shapes_hw"].tolist()]
    frame = Frame((max(h for h, _ in sizes), max(w for _, w in sizes)), tuple(sizes), None)
    targets = [{"boxes": case[f"boxes.{i}"]} for i in range(len(sizes))]
    student = {"fpn": [case["student"].requires_grad_()], "input frame": frame}
    step = step_of(student, {"fpn": [case["teacher"]]}, targets)
    method.setup(step)
    with torch.no_grad():
        for own, parameter in method.named_parameters():
            parameter.copy_(case[f"param.{written(own)}"].reshape(parameter.shape))
    return case, method, step


def total_of(method: FGD, losses: dict[str, Tensor]) -> Tensor:
    return sum(loss * method.weights_at(0)[part] for part, loss in losses.items())


@pytest.mark.parametrize("name", CASES)
def test_parts_and_gradients_are_the_authors(shared: Path, name: str) -> None:
    case, method, step = golden(shared, name, "content")
    losses = method(step)
    assert list(losses) == [f"fpn.0.{part}" for part in PARTS]
    for part, theirs in zip(PARTS, ("fg", "bg", "attention", "relation"), strict=True):
        assert_loss(losses[f"fpn.0.{part}"], case[f"loss_{theirs}"])
    total = total_of(method, losses)
    assert_loss(total, case["loss_total"])
    named = dict(method.named_parameters())
    align = [own for own in named if own.startswith("align")]
    assert bool(align) == (name == "padded")
    found = torch.autograd.grad(
        total, [case["student"], *(named[own] for own in align)], retain_graph=True
    )
    assert_gradient(found[0], case["grad_student"])
    for own, gradient in zip(align, found[1:], strict=True):
        assert_gradient(gradient, case[f"grad.{written(own)}"])
    context = {own: parameter for own, parameter in named.items() if own not in align}
    gradients = torch.autograd.grad(losses["fpn.0.relation"], context.values())
    for own, gradient in zip(context, gradients, strict=True):
        expected = case[f"grad.{written(own)}"]
        assert_gradient(gradient.reshape(expected.shape), expected)


@pytest.mark.parametrize("name", CASES)
def test_masks_and_attentions_are_the_authors(shared: Path, name: str) -> None:
    case, method, step = golden(shared, name, "content")
    for mask, kind in zip(method.masks(step)["fpn.0"], ("fg", "bg"), strict=True):
        torch.testing.assert_close(mask, case[f"mask_{kind}"])
    aligned = method.align["fpn.0"](case["student"]) if name == "padded" else case["student"]
    for side, feature in (("student", aligned), ("teacher", case["teacher"])):
        spatial, channel = attentions(feature, method.temperature)
        torch.testing.assert_close(spatial.detach(), case[f"spatial_attention_{side}"])
        torch.testing.assert_close(channel.detach(), case[f"channel_attention_{side}"])


def test_boxes_are_scaled_by_the_frame_where_nobody_says_otherwise(shared: Path) -> None:
    """The map is of the padded batch; by an image's content its boxes are somewhere else."""
    case, method, step = golden(shared, "padded", "frame")
    for mask, kind in zip(method.masks(step)["fpn.0"], ("fg", "bg"), strict=True):
        torch.testing.assert_close(mask, case[f"frame.mask_{kind}"])
        assert not torch.equal(mask[1], case[f"mask_{kind}"][1])
    losses = method(step)
    assert_loss(losses["fpn.0.foreground"], case["frame.loss_fg"])
    assert_loss(losses["fpn.0.background"], case["frame.loss_bg"])
    total = total_of(method, losses)
    assert_loss(total, case["frame.loss_total"])
    assert_gradient(torch.autograd.grad(total, case["student"])[0], case["frame.grad_student"])


def by_definition(
    boxes: Tensor, extent: tuple[int, int], grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """One box and one cell after the other."""
    foreground = torch.zeros(grid)
    scales = [(side / pixels) for side, pixels in zip(grid, extent, strict=True)]
    for x1, y1, x2, y2 in boxes.tolist():
        left, right = math.floor(x1 * scales[1]), math.ceil(x2 * scales[1])
        upper, lower = math.floor(y1 * scales[0]), math.ceil(y2 * scales[0])
        share = 1 / ((lower + 1 - upper) * (right + 1 - left))
        for y in range(max(upper, 0), min(lower + 1, grid[0])):
            for x in range(max(left, 0), min(right + 1, grid[1])):
                foreground[y, x] = max(foreground[y, x], share)
    outside = (foreground == 0).float()
    return foreground, outside / max(1, outside.sum())


def eighths(least: int, most: int) -> st.SearchStrategy[float]:
    """Numbers whose products with powers of 2 are exact."""
    return st.integers(8 * least, 8 * most).map(lambda number: number / 8)


corners = st.tuples(eighths(-40, 120), eighths(-40, 90), eighths(1, 200), eighths(1, 200))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(corners, max_size=6), min_size=1, max_size=3), st.booleans())
def test_the_masks_are_their_definition(drawn: list, one_at_a_time: bool) -> None:
    """Also of boxes that begin outside of the image, whose slices wrap in the original."""
    boxes = [torch.tensor(of_image).reshape(-1, 4) for of_image in drawn]
    for of_image in boxes:
        of_image[:, 2:] += of_image[:, :2]
    grids = [(12, 16), (6, 8), (1, 1)]
    extents = [(96, 128)] * len(boxes)  # strides that are powers of 2: no rounding
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", 1 if one_at_a_time else module._BLOCK)
        found = box_masks(boxes, extents, grids)
    for grid, masks in zip(grids, found, strict=True):
        expected = [by_definition(of_image, (96, 128), grid) for of_image in boxes]
        for mask, wanted in zip(masks, zip(*expected, strict=True), strict=True):
            torch.testing.assert_close(mask, torch.stack(wanted))


def test_a_box_that_begins_outside_of_the_image_is_cut_at_its_border() -> None:
    ((foreground, _),) = box_masks([torch.tensor([[-20.0, 0.0, 8.0, 8.0]])], [(32, 32)], [(4, 4)])
    assert (foreground[0] > 0).tolist() == [[True, True, False, False]] * 2 + [[False] * 4] * 2
    assert foreground.max().item() == pytest.approx(1 / (2 * 5))  # 2 rows, columns -3 to 1


class Operations(TorchDispatchMode):
    """How often each operation is run within."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))


def test_more_boxes_are_no_more_operations_and_none_of_them_waits() -> None:
    def operations(count: int) -> Counter[str]:
        boxes = torch.rand(count, 4) * 30
        boxes[:, 2:] += boxes[:, :2] + 1
        with Operations() as seen:
            box_masks([boxes, boxes[:1]], [(64, 64)] * 2, [(8, 8), (4, 4)])
        return seen.counts

    assert operations(3) == operations(40)
    waits = ("_local_scalar_dense", "nonzero", "unique", "masked_select")
    assert not [name for name in operations(3) if any(wait in name for wait in waits)]


def pair_of(method: FGD) -> Distillation:
    models = small_models.retinanet(), small_models.retinanet(Bottleneck, channels=48)
    return Distillation(*models, {"it": method}).train()


def test_no_boxes_at_all_leave_the_background() -> None:
    pair = pair_of(FGD(["P3", "P4"]))
    images, _ = batches.detection_batch(2, 128)
    losses = pair(images, [batches.nothing(), batches.nothing()])
    assert losses.raw["it/P3.foreground"] == 0
    assert losses.raw["it/P3.background"] > 0
    losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pair.trainable_parameters())


def test_images_of_unequal_sizes_and_pictures_of_the_masks() -> None:
    images = batches.photographs((128, 128), (96, 64))
    targets = batches.targets(2)
    shown = {}
    for boxes_by in ("frame", "content"):
        pair = pair_of(FGD(["P3"], boxes_by=boxes_by))
        columns = pair.picture(images, targets, "it").columns
        assert list(columns) == ["P3, stride 8: foreground", "P3, stride 8: attention"]
        maps = columns["P3, stride 8: foreground"]
        assert [tuple(m.shape) for m in maps] == [(128, 128), (96, 64)]
        shown[boxes_by] = maps
    # The box 8, 8 to 40, 48 is on the cells 1 to 5 and 1 to 6, ends included.
    expected = torch.zeros(96, 64)
    expected[8:56, 8:48] = 1
    assert torch.equal(shown["frame"][1], expected)
    assert torch.equal(shown["frame"][0], shown["content"][0])
    assert not torch.equal(shown["frame"][1], shown["content"][1])


def test_both_context_blocks_are_trained() -> None:
    """The second layer is 0 at first, and what stands before it learns from the second step on."""
    pair = pair_of(FGD(["P3"], relation=1e-3))
    batch = batches.detection_batch(2, 128)
    before = {n: p.detach().clone() for n, p in pair.methods.named_parameters()}
    for _ in range(2):
        small_models.train_step(pair, batch, lr=1e-4)
    changed = {n for n, p in pair.methods.named_parameters() if not torch.equal(p, before[n])}
    assert changed == before.keys()


def test_the_weights_go_by_part_and_the_adapter_is_shown() -> None:
    pair = pair_of(FGD())
    found = pair.check(*batches.detection_batch(2, 128)).connections
    assert [c.adapter for c in found] == ["conv 1x1 32 to 48", "-"]
    assert found[0].weight == "5e-06, 0.0005, 0.001"
    assert len(pair.methods["it"].weights) == 4 * 5
    scaled = pair_of(FGD(["P3"], weight=WarmUp(10.0, 4))).methods["it"].weights_at(2)
    assert scaled == pytest.approx(
        {
            "P3.foreground": 5e-3,
            "P3.background": 2.5e-3,
            "P3.attention": 2.5e-3,
            "P3.relation": 2.5e-5,
        }
    )


def test_classifiers_are_refused() -> None:
    models = small_models.resnet(), small_models.resnet(Bottleneck)
    with pytest.raises(ValueError, match="FGD needs a student that detects"):
        Distillation(*models, [FGD(["C4"])])


def test_pyramids_of_other_levels_and_maps_of_other_sizes_are_refused() -> None:
    models = small_models.retinanet(), small_models.retinanet()
    with pytest.raises(ValueError, match=r"FGD at fpn .* do not pair off by stride"):
        Distillation(*models, [FGD({"fpn": "P3"})])
    with pytest.raises(ValueError, match=r"FGD at P4 .* P3 .*: .* differ in height or width"):
        Distillation(*models, [FGD({"P4": "P3"})])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0"),
        ({"boxes_by": "image"}, "boxes_by is 'image'; expected frame or content"),
    ],
)
def test_arguments_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FGD(**options)


def test_a_part_without_weight_stays_a_number_that_is_known_to_stay():
    method = FGD(relation=0.0)
    assert method.part_weights["relation"] == 0.0
    warm = FGD(weight=WarmUp(1.0, 10))
    assert warm.part_weights["relation"].at(10) == pytest.approx(5e-6)
