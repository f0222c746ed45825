"""Anchors of stated sides on the cells of one map."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList

from limbeck.models.detection.grid.anchors import GridAnchors


class OnMiddles(GridAnchors):
    """On the middles of the cells."""

    def centres(self, cells: int, side: int) -> Tensor:
        return (torch.arange(cells, dtype=torch.float64) + 0.5) * side / cells


def test_anchors_go_by_cell_row_after_row_then_by_shape() -> None:
    anchors = OnMiddles([(4, 2), (6, 6)]).on((2, 3), (20, 30))
    centres = [(x, y) for y in (5, 15) for x in (5, 15, 25)]
    expected = [
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for x, y in centres
        for w, h in [(4, 2), (6, 6)]
    ]
    assert anchors.tolist() == expected


def test_every_image_of_a_batch_has_the_same_in_full_precision() -> None:
    generator = OnMiddles([(4, 2), (6, 6)])
    images = ImageList(torch.zeros(2, 3, 20, 30), [(20, 30), (18, 22)])
    first, second = generator(images, [torch.zeros(2, 1, 2, 3, dtype=torch.bfloat16)])
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert torch.equal(first, generator.on((2, 3), (20, 30)))
    assert generator.num_anchors_per_location() == [2]


@pytest.mark.parametrize("shapes", [[], [(4, 2), (3,)], [(4, 0)], [(4, -2)]])
def test_shapes_that_are_not_two_positive_sides_are_refused(shapes: list) -> None:
    with pytest.raises(ValueError, match=r"expected one \(width, height\) or more, in pixels"):
        OnMiddles(shapes)
