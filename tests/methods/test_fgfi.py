"""Fine-grained imitation: the mask's definition, level rules, and pairs of detectors."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import box_iou

from limbeck import Distillation
from limbeck.methods import FineGrainedImitation
from limbeck.methods import fgfi as module
from limbeck.methods.fgfi import imitation_masks, masks_of_images
from limbeck.models import FasterRCNNC4
from limbeck.models.detection.parts.anchors import ExactAnchorGenerator
from limbeck.models.resnet import BasicBlocks
from limbeck.schedules import LateStart
from tests import batches, observation, small_models

RULES = ["own_best", "overall_best", "canonical"]
LEVELS, SIZE = (3, 4, 5), 64


def anchors_on(size: int = SIZE) -> tuple[list[Tensor], list[tuple[int, int]]]:
    """Three levels with 2 sizes and 2 ratios each."""
    generator = ExactAnchorGenerator(
        LEVELS, tuple((2.0 * 2**k, 3.0 * 2**k) for k in LEVELS), ((0.5, 2.0),) * 3
    )
    grids = [(size // 2**k, size // 2**k) for k in LEVELS]
    generator.set_cell_anchors(torch.float32, torch.device("cpu"))
    return generator.grid_anchors([list(grid) for grid in grids], None), grids


def by_definition(anchors, grids, boxes, factor, rule):
    """One box, one level, one position after the other."""
    masks = [torch.zeros(grid, dtype=torch.bool) for grid in grids]
    for box in boxes:
        ious = [box_iou(box[None], level)[0] for level in anchors]
        for k, (iou, mask) in enumerate(zip(ious, masks, strict=True)):
            best = max(i.max() for i in ious) if rule == "overall_best" else iou.max()
            if rule == "canonical":
                side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
                wanted = min(max(math.floor(4 + math.log2(side / 224 + 1e-6)), 3), 5)
                if wanted != LEVELS[k]:
                    continue
            for i in (iou > factor * best).nonzero():
                position = int(i) // 4
                mask[position // mask.shape[1], position % mask.shape[1]] = True
    return masks


boxes_in = st.tuples(
    st.floats(0, 60, width=32),
    st.floats(0, 60, width=32),
    st.floats(1.5, 500, width=32),
    st.floats(1.5, 500, width=32),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(boxes_in, max_size=50), st.sampled_from([0.0, 0.3, 0.5, 0.9]))
@pytest.mark.parametrize("rule", RULES)
def test_the_mask_is_its_definition(rule: str, drawn: list, factor: float) -> None:
    boxes = torch.tensor(drawn).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    anchors, grids = anchors_on()
    found = imitation_masks(anchors, grids, boxes, factor, rule, [8, 16, 32])
    for mask, expected in zip(
        found, by_definition(anchors, grids, boxes, factor, rule), strict=True
    ):
        assert torch.equal(mask, expected)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    boxes = torch.rand(23, 4) * 30
    boxes[:, 2:] += boxes[:, :2] + 2
    anchors, grids = anchors_on()
    whole = imitation_masks(anchors, grids, boxes)
    monkeypatch.setattr(module, "_BLOCK", 1)  # a box at a time
    for one, other in zip(whole, imitation_masks(anchors, grids, boxes), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("rule", RULES)
def test_the_images_of_a_batch_are_masked_as_each_alone(rule: str) -> None:
    torch.manual_seed(0)
    boxes = [torch.rand(count, 4) * 30 for count in (3, 0, 7, 1)]
    for of_image in boxes:
        of_image[:, 2:] += of_image[:, :2] + 2
    anchors, grids = anchors_on()
    anchors[1] = anchors[1].view(-1, 4, 4)[:, :3].reshape(-1, 4)  # fewer at one level
    found = masks_of_images(anchors, grids, boxes, 0.5, rule, [8, 16, 32])
    for image, of_image in enumerate(boxes):
        alone = imitation_masks(anchors, grids, of_image, 0.5, rule, [8, 16, 32])
        assert all(torch.equal(m[image], one) for m, one in zip(found, alone, strict=True))
        assert any(mask[image].any() for mask in found) == (len(of_image) > 0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", None])
def test_the_whole_map_gives_the_loss_of_its_positions(
    activation: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    method = FineGrainedImitation(activation=activation)
    pair = pair_of(method, small_models.retinanet(), small_models.retinanet(Bottleneck))
    batch = batches.detection_batch(2, 128)
    found = []
    for bound in (2.0, -1.0):  # never, always
        monkeypatch.setattr(module, "_FASTER_TO", bound)
        pair.zero_grad()
        loss = pair(*batch).raw["it/imitation"]
        loss.backward()
        found.append([loss, *(p.grad for p in pair.methods.parameters())])
    assert found[0][0] > 0
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_elsewhere_than_on_a_cpu_memory_decides() -> None:
    feature = torch.zeros(2, 8, 10, 10, device="meta")
    wide, narrow, pointwise = nn.Conv2d(8, 24, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)
    # 72 values a position; in and out of 200 cells there are 16 or 32 each.
    assert [module._whole_is_less(narrow, feature, n) for n in (44, 45)] == [False, True]
    assert [module._whole_is_less(wide, feature, n) for n in (88, 89)] == [False, True]
    assert not module._whole_is_less(pointwise, feature, 200)
    assert module._ious_at_a_time(feature.device) > module._ious_at_a_time(torch.device("cpu"))


def test_levels_are_assigned_by_size() -> None:
    """224 px belong to level 4; what no level is there for goes to the nearest one."""
    anchors, grids = anchors_on(512)
    for side, level in ((20, 3), (111, 3), (112, 3), (223, 3), (224, 4), (447, 4), (448, 5)):
        boxes = torch.tensor([[30.0, 30.0, 30.0 + side, 30.0 + side]])
        masks = imitation_masks(anchors, grids, boxes, 0.5, "canonical", [8, 16, 32])
        assert [k for k, mask in zip(LEVELS, masks, strict=True) if mask.any()] == [level]


def test_levels_cannot_be_assigned_without_strides() -> None:
    anchors, grids = anchors_on()
    with pytest.raises(ValueError, match=r"strides=\(\): canonical needs one for each of 3 levels"):
        imitation_masks(anchors, grids, torch.zeros(1, 4), 0.5, "canonical")


def pair_of(method: FineGrainedImitation, student: nn.Module, teacher: nn.Module) -> Distillation:
    return Distillation(student, teacher, {"it": method}).train()


def test_on_a_pyramid_and_on_some_of_its_levels() -> None:
    torch.manual_seed(0)
    student, teacher = small_models.retinanet(), small_models.retinanet(Bottleneck, channels=48)
    batch = batches.detection_batch(2, 128)
    whole = pair_of(FineGrainedImitation(), student, teacher)
    method = whole.methods["it"]
    assert list(method.anchors_of.values()) == [0, 1, 2, 3, 4]
    loss = whole(*batch).raw["it/imitation"]
    assert loss > 0
    # The adapter gives nearly nothing at first: half the masked mean of the teacher's squares.
    _, steps = whole.run(*batch)
    masks = method.masks(steps["it"])
    maps = steps["it"].teacher.by_level(["maps"])
    squares = sum((maps[k].square().sum(1) * masks[k]).sum() for k in masks)
    positions = sum(mask.sum() for mask in masks.values())
    torch.testing.assert_close(loss, squares / positions / 2, rtol=0.05, atol=0)
    some = pair_of(FineGrainedImitation(["P4", "P3"]), student, teacher)
    assert some.methods["it"].anchors_of == {"P4": 1, "P3": 0}
    _, steps = some.run(*batch)
    chosen = some.methods["it"].masks(steps["it"])
    assert torch.equal(chosen["P4"], masks["maps.1"])
    assert torch.equal(chosen["P3"], masks["maps.0"])


def test_a_place_beside_the_maps_of_the_anchors() -> None:
    pair = pair_of(
        FineGrainedImitation({"C4": "C4.pre"}),
        small_models.retinanet(),
        small_models.retinanet(Bottleneck),
    )
    assert pair.methods["it"].anchors_of == {"C4": 1}
    assert pair(*batches.detection_batch(2, 128)).raw["it/imitation"] > 0


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_number_of_images_some_without_boxes(count: int) -> None:
    torch.manual_seed(0)
    pair = pair_of(
        FineGrainedImitation(), small_models.retinanet(), small_models.retinanet(Bottleneck)
    )
    images, targets = batches.detection_batch(count, 128)
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    some = pair(images, [none, *targets[1:]])
    some.total.backward()
    assert all(p.grad.isfinite().all() for p in pair.trainable_parameters() if p.grad is not None)
    assert (some.raw["it/imitation"] > 0) == (count > 1)


def test_without_a_box_there_is_a_zero_with_a_gradient() -> None:
    pair = pair_of(
        FineGrainedImitation(), small_models.retinanet(), small_models.retinanet(Bottleneck)
    )
    images, _ = batches.detection_batch(2, 128)
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    loss = pair(images, [none, none]).raw["it/imitation"]
    loss.backward()
    assert loss == 0
    assert all((p.grad == 0).all() for p in pair.methods.parameters())


def test_images_of_several_sizes_and_a_teacher_of_another_kind() -> None:
    torch.manual_seed(0)
    method = FineGrainedImitation({"P3": "P3", "P4": "P4"})
    pair = pair_of(method, small_models.retinanet(), small_models.faster_rcnn(Bottleneck))
    images, targets = batches.detection_batch(2, 128)
    images[1] = images[1][:, :96, :64]
    assert pair(images, targets).raw["it/imitation"] > 0


def test_the_teacher_stops_after_the_imitated_maps() -> None:
    teacher = small_models.faster_rcnn(Bottleneck)
    student = small_models.faster_rcnn()
    pair = pair_of(FineGrainedImitation(), student, teacher)
    with (
        observation.calls_of(teacher.rpn) as calls,
        observation.calls_of(teacher.backbone) as trunk,
    ):
        pair(*batches.detection_batch(2, 128))
    assert (len(calls), len(trunk)) == (0, 1)


@pytest.mark.parametrize("resize", ["area", "bilinear"])
def test_another_stride_of_the_teacher_is_refused_or_resized(resize: str) -> None:
    places = {"P4": "P3", "P5": "P6"}
    with pytest.raises(ValueError, match=r"P4: .*8, 8.*16, 16.* resize=area or bilinear"):
        pair_of(
            FineGrainedImitation(places),
            small_models.retinanet(),
            small_models.retinanet(Bottleneck),
        )
    pair = pair_of(
        FineGrainedImitation(places, resize=resize),
        small_models.retinanet(),
        small_models.retinanet(Bottleneck),
    )
    assert pair(*batches.detection_batch(2, 128)).raw["it/imitation"] > 0


def test_maps_that_differ_at_some_image_sizes_alone() -> None:
    """One network rounds down, the other up: 9 and 10 columns of 150 pixels, both 8 of 128."""
    blocks = BasicBlocks(depths=(1, 1, 1), widths=(4, 8, 16))
    build = partial(FasterRCNNC4, num_classes=4, preset="fgfi", box_head_channels=8)
    images, targets = batches.detection_batch(2, 150)
    pair = pair_of(FineGrainedImitation(), build(blocks), build("vgg11"))
    with pytest.raises(ValueError, match=r"10, 10\).*9, 9\) differ.* resize=area or bilinear"):
        pair(images, targets)
    pair = pair_of(FineGrainedImitation(resize="area"), build(blocks), build("vgg11"))
    assert pair(images, targets).raw["it/imitation"] > 0


def test_unequal_numbers_of_levels_are_to_be_named() -> None:
    student, teacher = small_models.retinanet(), small_models.faster_rcnn(Bottleneck)
    teacher.backbone.fpn.extra_blocks = None
    teacher.rpn.anchor_generator.sizes = teacher.rpn.anchor_generator.sizes[:4]
    teacher.rpn.anchor_generator.aspect_ratios = teacher.rpn.anchor_generator.aspect_ratios[:4]
    teacher.rpn.anchor_generator.cell_anchors = teacher.rpn.anchor_generator.cell_anchors[:4]
    with pytest.raises(ValueError, match=r"student has 5 features .*teacher 4 .* one by one"):
        pair_of(FineGrainedImitation(), student, teacher)


def test_a_student_without_anchors() -> None:
    with pytest.raises(
        ValueError, match=r"needs a student with anchors, which NarrowResNet does not"
    ):
        pair_of(
            FineGrainedImitation(["C4"]), small_models.resnet(), small_models.resnet(Bottleneck)
        )


def test_a_place_where_there_are_no_anchors() -> None:
    with pytest.raises(ValueError, match=r"C2 is 32 x 32.*anchors on 16 x 16, 8 x 8"):
        pair_of(
            FineGrainedImitation(["C2"]),
            small_models.retinanet(),
            small_models.retinanet(Bottleneck),
        )


@pytest.mark.parametrize(
    ("activation", "kind"), [("relu", nn.ReLU), ("leaky_relu", nn.LeakyReLU), (None, None)]
)
def test_the_adapter(activation: str | None, kind: type | None) -> None:
    torch.manual_seed(0)
    method = FineGrainedImitation(["P3"], kernel_size=1, activation=activation)
    pair = pair_of(
        method, small_models.retinanet(), small_models.retinanet(Bottleneck, channels=48)
    )
    adapter = method.adapter_of("P3")
    convolution = adapter if kind is None else adapter[0]
    told = str(pair.check(*batches.detection_batch(2, 128))).replace(" ", "")
    assert f"conv1x132to48{f',{kind.__name__}' if kind else ''}" in told
    assert kind is None or isinstance(adapter[1], kind)
    assert convolution.weight.shape == (48, 32, 1, 1)
    # N(0, 1) wrapped into (-2, 2), times 1e-4.
    assert convolution.weight.abs().max() < 2e-4
    assert 0.6e-4 < convolution.weight.std() < 1.0e-4


def test_the_adapter_of_a_path_is_in_the_wiring() -> None:
    path = "backbone.body.layer2"
    pair = pair_of(
        FineGrainedImitation([path]), small_models.retinanet(), small_models.retinanet(Bottleneck)
    )
    assert "conv 3x3 32 to 128" in str(pair.check(*batches.detection_batch(2, 128)))


def test_late_start_counts_steps() -> None:
    method = FineGrainedImitation(weight=LateStart(0.01, 400))
    assert [method.weights_at(n)["imitation"] for n in (0, 399, 400, 9999)] == [0, 0, 0.01, 0.01]


@pytest.mark.parametrize("arguments", [{"factor": 1.5}, {"factor": -0.1}, {"level_rule": "best"}])
def test_bad_arguments(arguments: dict) -> None:
    with pytest.raises(
        ValueError, match=r"expected a factor from 0 to 1 and a rule out of own_best"
    ):
        FineGrainedImitation(**arguments)


def test_unknown_activation_and_no_place() -> None:
    with pytest.raises(ValueError, match=r"activation='tanh': expected one of relu, leaky_relu"):
        FineGrainedImitation(activation="tanh")
    with pytest.raises(ValueError, match=r"places=\[\]: there is nothing to compare"):
        FineGrainedImitation([])


def test_masks_lie_over_the_images() -> None:
    pair = pair_of(
        FineGrainedImitation(["P3"]), small_models.retinanet(), small_models.retinanet(Bottleneck)
    )
    images, targets = batches.detection_batch(2, 128)
    images[1] = images[1][:, :96, :72]
    ((name, overlays),) = pair.picture(images, targets, "it").columns.items()
    assert name == "P3, stride 8"
    assert [tuple(o.shape) for o in overlays] == [(128, 128), (96, 72)]
    assert all(set(o.unique().tolist()) == {0.0, 1.0} for o in overlays)
    assert pair.training


def test_a_kernel_that_no_memory_holds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"FineGrainedImitation's kernel_size is 1000000; expect"):
        FineGrainedImitation(kernel_size=10**6)
