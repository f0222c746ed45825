"""Choosing by masks, suppression and sampling, as torchvision does it and with fewer waits."""

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.ops import batched_nms

from limbeck.models.detection.parts.selection import (
    BalancedSampler,
    indices_of_rows,
    suppressed,
)

sys.path.append(str(Path(__file__).parents[4] / "benchmarks"))

from counting import AWAY, COPY, WAIT, counted


@pytest.mark.parametrize("shape", [(4, 50), (1, 1), (3, 0), (0, 5)])
def test_rows_are_chosen_by_one_wait_as_nonzero_chooses_them(shape: tuple[int, int]) -> None:
    masks = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.3
    expected = [row.nonzero()[:, 0] for row in masks]
    assert [row.tolist() for row in indices_of_rows(masks)] == [row.tolist() for row in expected]
    with counted() as counts:
        away = masks.to(AWAY)
        counts.of.clear()
        found = indices_of_rows(away)
        assert counts.total(WAIT, COPY) == 1
        assert [row.tolist() for row in found] == [row.tolist() for row in expected]


def boxes_of(count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes that overlap, scores and three groups."""
    generator = torch.Generator().manual_seed(1)
    corner = torch.rand(count, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40], 1)
    scores = torch.rand(count, generator=generator)
    return boxes, scores, torch.arange(count) % 3


@pytest.mark.parametrize("count", [0, 1, 200])
def test_suppression_is_torchvisions(count: int) -> None:
    boxes, scores, groups = boxes_of(count)
    expected = batched_nms(boxes, scores, groups, 0.5)
    assert torch.equal(suppressed(boxes, scores, groups, 0.5), expected)
    with counted() as counts:
        moved = [each.to(AWAY) for each in (boxes, scores, groups)]
        counts.of.clear()
        kept = suppressed(*moved, 0.5)
        assert counts.total(WAIT, COPY) <= 1
        assert kept.tolist() == expected.tolist()


@pytest.mark.parametrize(("count", "share"), [(64, 0.25), (256, 0.5), (10, 0.0)])
def test_the_sampler_draws_what_torchvisions_draws(count: int, share: float) -> None:
    generator = torch.Generator().manual_seed(2)
    labels = [torch.randint(-1, 3, (n,), generator=generator) for n in (300, 40, 0, 3)]
    torch.manual_seed(7)
    masks = BalancedPositiveNegativeSampler(count, share)(labels)
    state = torch.get_rng_state()
    torch.manual_seed(7)
    drawn = BalancedSampler(count, share)(labels)
    assert torch.equal(torch.get_rng_state(), state)
    for expected, found in zip(masks, drawn, strict=True):
        for mask, indices in zip(expected, found, strict=True):
            assert mask.nonzero()[:, 0].tolist() == indices.tolist()
