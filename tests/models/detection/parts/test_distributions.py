import torch

from limbeck.models.detection.parts.distributions import BINS, DistributionCoder, expectation

ANCHORS = torch.tensor([[-32.0, -24.0, 32.0, 40.0], [0.0, 64.0, 128.0, 192.0]])  # strides 8 and 16


def certain(*distances):
    """Logits that are sure of a whole distance on each side."""
    logits = torch.full((len(distances), BINS), -100.0)
    logits[range(len(distances)), list(distances)] = 100.0
    return logits.flatten()


def test_sides_lie_at_their_expected_distance_from_the_anchors_centre():
    logits = torch.stack([certain(1, 2, 3, 4), certain(0, 1, 16, 2)])
    boxes = DistributionCoder().decode_single(logits, ANCHORS)
    expected = [[-8.0, -8.0, 24.0, 40.0], [64.0, 112.0, 320.0, 160.0]]
    torch.testing.assert_close(boxes, torch.tensor(expected))


def test_an_expectation_lies_between_two_bins():
    logits = torch.full((BINS,), -100.0)
    logits[3], logits[4] = 0.0, torch.tensor(3.0).log()  # shares of 1/4 and 3/4
    torch.testing.assert_close(expectation(logits), torch.tensor(3.75))


def test_distances_are_what_decoding_needs():
    coder, boxes = (
        DistributionCoder(),
        torch.tensor([[-8.0, 0.0, 24.0, 40.0], [60.0, 100.0, 70, 200]]),
    )
    distances = coder.distances(boxes, ANCHORS)
    torch.testing.assert_close(distances[0], torch.tensor([1.0, 1.0, 3.0, 4.0]))
    stride = torch.tensor([[8.0], [16.0]])
    centres = torch.tensor([[0.0, 8.0], [64.0, 128.0]])
    again = torch.cat([centres - stride * distances[:, :2], centres + stride * distances[:, 2:]], 1)
    torch.testing.assert_close(again, boxes)
