import torch

from limbeck.models.detection.parts.roi_heads import l1_losses


def test_losses_of_the_box_head() -> None:
    logits, regression, deltas = torch.randn(3, 3), torch.randn(3, 12), torch.randn(3, 4)
    losses = l1_losses(logits, regression, torch.tensor([2, 0, 1]), deltas)
    entropy = -logits.log_softmax(1)[[0, 1, 2], [2, 0, 1]].mean()
    distance = (regression[0, 8:] - deltas[0]).abs().sum()
    distance += (regression[2, 4:8] - deltas[2]).abs().sum()
    torch.testing.assert_close(list(losses.values()), [entropy, distance / 3])
    empty = l1_losses(logits[:0], regression[:0], torch.zeros(0, dtype=torch.int64), deltas[:0])
    assert list(empty.values()) == [0, 0]
