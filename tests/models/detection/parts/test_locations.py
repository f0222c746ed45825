"""Which object every location of FCOS has to predict."""

import pytest
import torch
from torchvision.models.detection import FCOS

from limbeck.models.detection.parts import locations
from limbeck.models.detection.parts.locations import centreness, match_locations
from tests import batches

GRIDS = ((16, 24), (8, 12), (4, 6))
RADIUS = 1.5


def anchors():
    """The squares of three levels, from a stride of 8, in an image of 128 x 192."""
    levels = []
    for level, (rows, columns) in enumerate(GRIDS, 3):
        stride = 2**level
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        centres = torch.stack([x, y], dim=-1).flatten(0, 1).float() * stride
        levels.append(torch.cat([centres - stride / 2, centres + stride / 2], dim=1))
    return levels


def crowds():
    """Boxes of all sizes in three images, one of which has none."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for count in (40, 0, 7):
        corners = torch.rand(count, 2, generator=generator) * torch.tensor([150.0, 90.0])
        sides = 4 * 2 ** (5 * torch.rand(count, 2, generator=generator))
        found.append(torch.cat([corners, corners + sides], dim=1))
    return found


def as_torchvision(boxes):
    """What torchvision's FCOS matches: read where it hands it to its head."""

    class Head:
        def compute_loss(self, targets, outputs, anchors, matched):
            return torch.stack(matched)

    class Stub:
        center_sampling_radius = RADIUS
        head = Head()

    every = torch.cat(anchors())
    targets = [{"boxes": b, "labels": torch.ones(len(b), dtype=torch.int64)} for b in boxes]
    counts = [len(level) for level in anchors()]
    return FCOS.compute_loss(Stub(), targets, {}, [every] * len(boxes), counts)


@pytest.mark.parametrize("block", [1, 2**24])
def test_matches_are_torchvisions(monkeypatch, block):
    monkeypatch.setattr(locations, "_BLOCK", block)
    boxes = crowds()
    found = match_locations(anchors(), boxes, RADIUS)
    assert torch.equal(found, as_torchvision(boxes))
    assert (found >= 0).sum(dim=1).tolist()[1] == 0
    assert all((found[i] >= 0).sum() > 20 for i in (0, 2))


def test_without_any_box():
    found = match_locations(anchors(), [batches.nothing()["boxes"]] * 2, RADIUS)
    assert found.shape == (2, sum(rows * columns for rows, columns in GRIDS))
    assert (found == -1).all()


def test_the_level_is_the_one_of_the_longest_distance():
    """By hand: in a box of 80 px about a location, 40 px to each side belong to stride 8."""
    small, large = torch.tensor([[56.0, 24.0, 136.0, 104.0]]), torch.tensor([[0.0, 0, 192, 128]])
    for boxes, level in ((small, 0), (large, 1)):
        found = match_locations(anchors(), [boxes], RADIUS)[0].split([r * c for r, c in GRIDS])
        assert [bool((of_level >= 0).any()) for of_level in found] == [level == i for i in range(3)]


def test_centreness_by_hand():
    distances = torch.tensor([[4.0, 4.0, 4.0, 4.0], [1.0, 2.0, 4.0, 2.0], [1.0, 1.0, 4.0, 4.0]])
    assert centreness(distances).tolist() == [1.0, 0.5, 0.25]
