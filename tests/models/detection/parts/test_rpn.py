import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.detection import rpn as torchvision_rpn

from limbeck.models import FasterRCNN
from tests.models.detection.tiny_detectors import tiny


@pytest.mark.parametrize("preset", ["detectron2", "mmdetection"])
def test_losses_of_the_rpn(preset: str) -> None:
    """L1 and cross-entropy of all anchors: so few are all sampled."""
    rpn = tiny(FasterRCNN, preset).rpn
    labels = [torch.tensor([1.0, 0, -1, 1]), torch.tensor([0.0, 0, -1, 0])]
    objectness, deltas, wanted = torch.randn(8, 1), torch.randn(8, 4), torch.randn(8, 4)
    counted = torch.tensor([0, 1, 3, 4, 5, 7])
    entropy = F.binary_cross_entropy_with_logits(
        objectness[counted, 0], torch.tensor([1.0, 0, 1, 0, 0, 0]), reduction="sum"
    )
    distance = (deltas - wanted)[[0, 3]].abs().sum()
    count = {"detectron2": 2 * 256, "mmdetection": (2 + 1) + (1 + 3)}[preset]
    losses = rpn.compute_loss(objectness, deltas, labels, list(wanted.split(4)))
    torch.testing.assert_close(losses, (entropy / count, distance / count))
    assert rpn._post_nms_top_n == {"training": 1000, "testing": 1000}
    assert 0 < rpn.min_size < 1e-30


def stock_of(rpn: nn.Module) -> torchvision_rpn.RegionProposalNetwork:
    """torchvision's own network, with the same parts and numbers."""
    stock = torchvision_rpn.RegionProposalNetwork(
        rpn.anchor_generator,
        rpn.head,
        0.7,
        0.3,
        256,
        0.5,
        rpn._pre_nms_top_n,
        rpn._post_nms_top_n,
        rpn.nms_thresh,
    )
    stock.min_size = rpn.min_size
    return stock.train(rpn.training)


@pytest.mark.parametrize("training", [True, False])
def test_proposals_are_torchvisions_to_the_last_bit(training: bool) -> None:
    rpn = tiny(FasterRCNN, "torchvision").rpn.train(training)
    rpn._pre_nms_top_n = {"training": 60, "testing": 40}
    rpn._post_nms_top_n = {"training": 50, "testing": 30}
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(3, 150, 2, generator=generator) * 70 - 5
    sides = torch.rand(3, 150, 2, generator=generator) * 30 - 2  # some are empty
    boxes = torch.cat([corner, corner + sides], dim=2)
    objectness = torch.randn(450, 1, generator=generator)
    shapes, levels = [(64, 64), (40, 64), (64, 30)], [100, 45, 5]
    found, expected = (
        kind.filter_proposals(boxes, objectness, shapes, levels) for kind in (rpn, stock_of(rpn))
    )
    for ours, theirs in zip(found, expected, strict=True):
        assert all(torch.equal(*pair) for pair in zip(ours, theirs, strict=True))
    assert all(0 < len(of_image) <= (50 if training else 30) for of_image in found[0])


def test_losses_of_a_sample_are_torchvisions_to_the_last_bit() -> None:
    rpn = tiny(FasterRCNN, "torchvision").rpn
    generator = torch.Generator().manual_seed(0)
    labels = [torch.randint(-1, 2, (n,), generator=generator).float() for n in (900, 400)]
    objectness, deltas = torch.randn(1300, 1), torch.randn(1300, 4)
    wanted = list(torch.randn(1300, 4).split([900, 400]))
    found = []
    for kind in (rpn, stock_of(rpn)):
        torch.manual_seed(3)
        found.append(kind.compute_loss(objectness, deltas, labels, wanted))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
