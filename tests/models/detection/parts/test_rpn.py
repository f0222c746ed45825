import pytest
import torch
import torch.nn.functional as F

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
