import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from limbeck.models import BasicBlocks, FasterRCNNC4
from limbeck.models.detection.c4.inclusive_boxes import exclusive, iou
from limbeck.models.detection.c4.original import PairRPNHead
from limbeck.models.detection.parts.matcher import PADDED_SIZE

TINY = BasicBlocks((1, 1, 1), (4, 4, 4))


def model() -> FasterRCNNC4:
    return FasterRCNNC4(TINY, 3, preset="fgfi", box_head_channels=8).train()


def test_a_softmax_over_the_pair_is_a_sigmoid_of_what_the_head_gives() -> None:
    head = PairRPNHead(8, 9)
    torch.nn.init.normal_(head.cls_logits.weight)
    features = torch.randn(2, 8, 5, 7)
    (objectness,), _ = head([features])
    scores = head.cls_logits(head.conv(features))  # 9 backgrounds, then 9 foregrounds
    paired = F.softmax(scores.view(2, 2, 9 * 5, 7), dim=1).view_as(scores)
    torch.testing.assert_close(objectness.sigmoid(), paired[:, 9:])
    labels = torch.randint(2, (2, 9 * 5, 7))
    expected = F.cross_entropy(scores.view(2, 2, 9 * 5, 7), labels)
    losses = F.binary_cross_entropy_with_logits(objectness.flatten(), labels.float().flatten())
    torch.testing.assert_close(losses, expected)


@given(st.integers(0, 100), st.integers(0, 400), st.integers(0, 10))
def test_regions_are_drawn_as_the_original_does(positive: int, negative: int, never: int) -> None:
    labels = torch.tensor([2] * positive + [0] * negative + [-1] * never)
    (drawn,) = HEADS.subsample([labels])
    found = labels[drawn]
    assert len(drawn) == (256 if positive + negative else 0)
    assert (found == -1).sum() == 0
    if negative:
        assert (found > 0).sum() == min(positive, 64)
        chosen = drawn[found > 0]
        assert len(chosen.unique()) == len(chosen)


HEADS = model().roi_heads


def test_negatives_may_repeat() -> None:
    (drawn,) = HEADS.subsample([torch.tensor([1, 0, 0])])
    assert drawn.unique().tolist() == [0, 1, 2]


def test_a_pixel_is_padding() -> None:
    """The original tells the rows that fill its tensors by their size."""
    pixel, box = torch.tensor([[5.0, 5, 6, 6]]), torch.tensor([[4.0, 4, 8, 8]])
    assert iou(pixel, box).item() == 0
    assert iou(box, pixel).item() == -1
    proposals = torch.cat([pixel, box, exclusive(box)])
    _, (labels,) = HEADS.assign_targets_to_proposals([proposals], [box], [torch.tensor([3])])
    assert labels.tolist() == [-1, 3, 3]
    detector = model()
    anchors = detector.rpn.anchor_generator.grid_anchors([[30, 30]], [])[0]
    target = {"boxes": pixel + 200, PADDED_SIZE: torch.tensor([480, 480])}
    (labels,), _ = detector.rpn.assign_targets_to_anchors([anchors], [target])
    assert set(labels.tolist()) == {-1.0, 0.0}


def test_anchors_outside_their_own_image_are_ignored() -> None:
    detector = model()
    anchors = detector.rpn.anchor_generator.grid_anchors([[40, 40]], [])[0]
    target = {"boxes": torch.zeros(0, 4), PADDED_SIZE: torch.tensor([640, 320])}
    (labels,), _ = detector.rpn.assign_targets_to_anchors([anchors], [target])
    inside = (anchors[:, :2] >= 0).all(1) & (anchors[:, 2] <= 320) & (anchors[:, 3] <= 640)
    assert inside.any()
    assert torch.equal(labels == 0, inside)
