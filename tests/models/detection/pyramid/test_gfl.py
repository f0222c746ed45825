import pytest
import torch
from torchvision.ops import box_iou

from limbeck import Taps
from limbeck.models import GFL, BasicBlocks, load_student, save_student
from limbeck.models.detection.parts.distributions import BINS
from tests.batches import nothing, photographs, targets
from tests.models.comparisons import assert_learns_one_image, same_detections
from tests.models.lively_weights import with_lively_heads

TINY = BasicBlocks((1, 1, 1), (4, 8, 8))
SMALL = {"levels": (2, 4), "fpn_channels": 32, "head_depth": 1, "norm": "trained"}


def gfl(**arguments) -> GFL:
    sizes = {"min_size": 64, "max_size": 64}
    return GFL(TINY, 2, **SMALL | sizes | arguments)


def lively(model: GFL) -> GFL:
    """Boxes of many sizes, and classes that are found everywhere."""
    with torch.no_grad():
        with_lively_heads(model).head.regression_head.bbox_reg.weight.mul_(6)
    return model


@pytest.mark.parametrize(
    ("backbone", "levels"),
    [("resnet18", (3, 7)), ("mobilenet_v2", (3, 5)), (TINY, (2, 4)), (TINY, (4, 6))],
)
def test_a_training_step_reaches_every_parameter(backbone, levels) -> None:
    torch.manual_seed(0)
    model = GFL(backbone, 3, **SMALL | {"levels": levels, "head_depth": 2})
    losses = model.train()(photographs((128, 96), (96, 128)), targets(2))
    assert list(losses) == ["classification", "bbox_regression", "distribution"]
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_a_student_learns_one_image_and_labels_it_from_one() -> None:
    torch.manual_seed(0)
    assert_learns_one_image(gfl())


def test_p6_comes_from_p5_without_a_relu_before_p7() -> None:
    model = GFL(BasicBlocks((1, 1, 1, 1), (4, 8, 8, 8)), 2, fpn_channels=32, head_depth=1)
    maps = list(model.backbone(torch.randn(1, 3, 128, 128)).values())
    extra = model.backbone.fpn.extra_blocks
    torch.testing.assert_close(maps[3], extra.p6(maps[2]))
    torch.testing.assert_close(maps[4], extra.p7(maps[3]))
    assert (maps[3] < 0).any()
    assert model.strides == (8, 16, 32, 64, 128)


def test_anchors_are_squares_of_eight_strides_on_the_corner_of_each_cell() -> None:
    model = gfl().eval()
    with Taps(model, ["anchors"]) as taps:
        model(photographs((64, 64)))
    _, fine, coarse = taps["anchors"][0]
    assert (len(fine), len(coarse)) == (64, 16)
    assert fine[9].tolist() == [8 - 32, 8 - 32, 8 + 32, 8 + 32]
    assert coarse[1].tolist() == [16 - 64, -64, 16 + 64, 64]


def test_detections_are_what_the_head_predicts_above_the_threshold() -> None:
    """Decoded by hand; of two boxes of a class that overlap by more than 0.6, the better one."""
    model = lively(gfl(score_threshold=0.3)).eval()
    image = photographs((64, 64))
    (found,) = model(image)
    assert len(found["boxes"]) > 5
    with torch.no_grad():
        batch, _ = model.transform(image)
        outputs = model.head(list(model.backbone(batch.tensors).values()))
    scores = outputs["cls_logits"][0].sigmoid()
    bins = outputs["bbox_regression"][0].view(-1, 4, BINS).softmax(2)
    strides = torch.tensor([4.0] * 256 + [8.0] * 64 + [16.0] * 16)
    grids = ((4, 16), (8, 8), (16, 4))
    centres = [(x * s, y * s) for s, n in grids for y in range(n) for x in range(n)]
    for box, score, label in zip(*(found[n] for n in ("boxes", "scores", "labels")), strict=True):
        (cell,) = (scores[:, label - 1] == score).nonzero()[:, 0].tolist()
        left, top, right, bottom = strides[cell] * (bins[cell] * torch.arange(BINS)).sum(1)
        x, y = centres[cell]
        own = torch.stack([x - left, y - top, x + right, y + bottom]).clamp(0, 64)
        torch.testing.assert_close(box, own, atol=1e-3, rtol=1e-4)
    for label in (1, 2):
        boxes = found["boxes"][found["labels"] == label]
        assert box_iou(boxes, boxes).fill_diagonal_(0).max() <= 0.6
    assert found["scores"].min() > 0.3


def test_boxes_lie_in_the_image_and_are_not_empty() -> None:
    found = lively(gfl(score_threshold=0.01)).eval()(photographs((48, 64)))[0]
    boxes = found["boxes"]
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 64
    assert boxes[:, 3].max() <= 48
    assert len(boxes) > 10


def test_images_without_objects_teach_the_background_alone() -> None:
    model = gfl().train()
    losses = model(photographs((64, 64), (64, 64)), [nothing(), nothing()])
    assert losses["classification"] > 0
    assert losses["bbox_regression"] == losses["distribution"] == 0
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_cells_on_the_padding_of_an_image_are_not_learnt() -> None:
    model = gfl().eval()
    sides = (16, 8, 4)
    maps = [torch.randn(1, 32, side, side) for side in sides]
    outputs = model.head(maps)
    frame = model.transform([torch.zeros(3, 64, 64)])[0]
    anchors = model.anchor_generator(frame, maps)
    target = {**targets(1)[0], "padded_size": torch.tensor([32, 64])}
    losses = model.compute_loss([target], outputs, anchors, [side**2 for side in sides])
    upper = torch.cat([torch.arange(side**2) < side**2 // 2 for side in sides])
    cut = {name: value[:, upper] for name, value in outputs.items()}
    counts = [side**2 // 2 for side in sides]
    alone = model.compute_loss(targets(1), cut, [anchors[0][upper]], counts)
    for name, loss in losses.items():
        assert loss > 0
        torch.testing.assert_close(alone[name], loss)


def test_under_autocast_losses_are_in_full_precision_and_near() -> None:
    torch.manual_seed(0)
    model, images = gfl().train(), photographs((64, 64), (64, 64))
    full = model(images, targets(2))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images, targets(2))
    sum(half.values()).backward()
    for name, loss in full.items():
        assert half[name].dtype is torch.float32
        torch.testing.assert_close(half[name], loss, rtol=0.02, atol=0.02)


def test_a_student_comes_back_from_its_folder(tmp_path) -> None:
    model = lively(gfl(mean=(0.1, 0.2, 0.3), score_threshold=0.01))
    save_student(model, tmp_path)
    again = load_student(tmp_path)
    assert isinstance(again, GFL)
    assert same_detections(again, model, photographs((50, 64))) > 10
    assert model.without_limbeck() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (3, 6)}, r"levels=\(3, 6\).*P6 and P7, come as a pair.*or at 7"),
        ({"levels": (3, 4)}, r"levels=\(3, 4\): ATSS.* needs 3 levels"),
        ({"fpn_channels": 48}, "fpn_channels=48: expected a multiple of 32"),
        ({"head_depth": 0}, "head_depth is 0; expected a number: 1 or more"),
    ],
)
def test_arguments_that_do_not_suit_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GFL("resnet18", 2, **arguments)
