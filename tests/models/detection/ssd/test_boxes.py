"""The default boxes of SSD."""

from typing import Any

import pytest
import torch
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from limbeck.models.detection.ssd.boxes import default_boxes

IMAGES = ImageList(torch.zeros(1, 3, 64, 64), [(64, 64)])


def test_steps_and_scales_are_pixels_and_parts_of_the_image() -> None:
    generator = default_boxes(4, (0.1, 0.2, 0.4, 0.6, 0.8), ((), (), (4,), ()), (8,) * 4)
    maps = [torch.zeros(1, 1, side, side) for side in (8, 4, 2, 1)]
    anchors = generator(IMAGES, maps)[0].split([128, 32, 16, 2])
    torch.testing.assert_close(anchors[0][0], torch.tensor([0.8, 0.8, 7.2, 7.2]))
    torch.testing.assert_close(anchors[1][-2].mean(), torch.tensor(28.0))
    sides = (anchors[2][:4, 2:] - anchors[2][:4, :2]) / 64
    expected = [[0.4, 0.4], [0.24**0.5] * 2, [0.8, 0.2], [0.2, 0.8]]
    torch.testing.assert_close(sides, torch.tensor(expected))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_boxes_are_in_full_precision_on_maps_of_half(half: torch.dtype) -> None:
    generator = default_boxes(1, (0.1, 0.2), ((2,),), None)
    maps = torch.zeros(1, 1, 7, 9)
    (full,), (found,) = generator(IMAGES, [maps]), generator(IMAGES, [maps.to(half)])
    assert found.dtype == torch.float32
    assert torch.equal(found, full)


@pytest.mark.parametrize(
    ("scales", "ratios", "steps", "message"),
    [
        (
            (0.1, 0.2),
            ((2,), (2,)),
            None,
            r"scales=\[0.1, 0.2\]: expected 3, .* 2 levels and one more",
        ),
        (
            (0.1, 0.2, 0.3),
            ((2,),),
            None,
            "aspect_ratios=.*expected 2, one for each of the 2 levels.",
        ),
        ((0.1, 0.2, 0.3), ((2,), (2,)), (8,), r"steps=\[8\]: expected 2"),
    ],
)
def test_numbers_that_do_not_suit_the_levels_are_refused(scales, ratios, steps, message) -> None:
    with pytest.raises(ValueError, match=message):
        default_boxes(2, scales, ratios, steps)


@pytest.mark.parametrize("steps", [None, (8.0, 16.0)])
def test_centres_are_torchvisions_whatever_the_default_type(steps: Any) -> None:
    generator = default_boxes(2, (0.1, 0.2, 0.4), ((2,), (2, 3)), steps)
    sizes = [(5, 7), (3, 4)], [40, 56]
    expected = DefaultBoxGenerator._grid_default_boxes(generator, *sizes)
    try:
        torch.set_default_dtype(torch.bfloat16)
        found = generator._grid_default_boxes(*sizes, torch.bfloat16)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.dtype is torch.float32
    assert torch.equal(found, expected)
