"""The anchors of the first Faster R-CNN."""

import pytest
import torch

from limbeck.models.detection.c4.anchors import integer_anchors

# As py-faster-rcnn's generate_anchors.py prints them; inclusive, so that 1 is added to x2 and y2.
PUBLISHED = [
    [-84, -40, 99, 55],
    [-176, -88, 191, 103],
    [-360, -184, 375, 199],
    [-56, -56, 71, 71],
    [-120, -120, 135, 135],
    [-248, -248, 263, 263],
    [-36, -80, 51, 95],
    [-80, -168, 95, 183],
    [-168, -344, 183, 359],
]


def test_anchors_are_the_published_ones() -> None:
    generator = integer_anchors([(128, 256, 512)], (0.5, 1.0, 2.0))
    expected = torch.tensor(PUBLISHED) + torch.tensor([0, 0, 1, 1])
    assert torch.equal(generator.cell_anchors[0], expected.float())


def test_the_anchors_of_a_map_are_16_pixels_apart() -> None:
    generator = integer_anchors([(16,)], (1.0,))
    (anchors,) = generator.grid_anchors([[2, 3]], [])
    expected = [
        [16.0 * x, 16.0 * y, 16.0 * x + 16, 16.0 * y + 16] for y in (0, 1) for x in range(3)
    ]
    assert anchors.tolist() == expected


def test_sizes_of_several_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 1 tuples of sizes"):
        integer_anchors([(16,), (32,)], (1.0,))
