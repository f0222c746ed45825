"""The regions that are sampled."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from limbeck.methods.head.proposals import Proposals
from limbeck.methods.head.regions import samples_of


@given(st.integers(0, 3), st.integers(0, 30), st.integers(1, 24))
def test_a_sample_holds_at_most_a_quarter_of_positives(truths: int, count: int, size: int) -> None:
    generator = torch.Generator().manual_seed(truths + 10 * count)
    corner = torch.rand(truths + count, 2, generator=generator) * 50
    boxes = torch.cat([corner, corner + 1 + torch.rand(len(corner), 2, generator=generator)], 1)
    truth = {"boxes": boxes[:truths], "labels": torch.arange(1, truths + 1)}
    positions = torch.arange(4 * count).view(count, 4)
    proposed = Proposals(boxes[truths:], torch.rand(count), positions)
    (found,) = samples_of([proposed], [truth], size)
    positives = int((found.labels > 0).sum())
    assert positives <= size // 4
    assert len(found.boxes) <= size
    assert (found.labels[:positives] > 0).all()
    assert torch.equal(found.truth[positives:], found.boxes[positives:])
    from_truth = found.positions[:, 0] == -1
    assert (found.labels[from_truth] == found.positions[from_truth, 3] + 1).all()
