"""How anchors cover objects where they lie, and the search for numbers that are better."""

import math
from collections.abc import Sequence

import pytest
import torch
from torchvision.ops import box_iou

from limbeck.data import Shapes
from limbeck.data.coverage import AnchorLevel, Coverage, Objects, searched

ANCHORS = torch.tensor([[-8.0, -8.0, 8.0, 8.0], [-16.0, -8.0, 16.0, 8.0]])


def objects(count: int = 50) -> Objects:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(count, 2, generator=generator) * 40
    sides = 4 + torch.rand(count, 2, generator=generator) * 20
    return Objects(torch.cat([corners, corners + sides], 1), torch.tensor([[64, 96]] * count))


@pytest.mark.parametrize("cells", [None, (2, 3)])
@pytest.mark.parametrize("stride", [(16.0, 16.0), (12.5, 20.0)])
def test_the_best_iou_is_that_of_all_cells(
    stride: tuple[float, float], cells: tuple[int, int] | None
) -> None:
    columns, rows = cells or (math.ceil(96 / stride[0]), math.ceil(64 / stride[1]))
    shifts = [[x * stride[0], y * stride[1]] * 2 for x in range(columns) for y in range(rows)]
    every = (torch.tensor(shifts)[:, None] + ANCHORS).reshape(-1, 4)
    found = AnchorLevel(4, ANCHORS, stride, cells).best_iou(objects())
    torch.testing.assert_close(found, box_iou(objects().boxes, every).amax(dim=1))


def test_coverage_counts_objects_at_the_level_of_their_best_anchor() -> None:
    boxes = torch.tensor([[0.0, 0.0, 8.0, 8.0], [0.0, 0.0, 32.0, 32.0], [0.0, 0.0, 2.0, 2.0]])
    levels = [
        AnchorLevel(level, torch.tensor([[0.0, 0.0, side, side]]), (side, side))
        for level, side in ((3, 8.0), (5, 32.0))
    ]
    found = Coverage.of(Objects(boxes, torch.full((3, 2), 64.0)), levels, 0.5)
    assert found.level.tolist() == [0, 1, 0]
    assert found.iou.tolist() == [1, 1, 0.0625]
    assert found.recall == pytest.approx(2 / 3)
    assert found.share(found.level == 0) == 0.5


def test_objects_are_scaled_with_their_images() -> None:
    data = Shapes(count=4, size=64)
    own, doubled = (Objects.of(data, lambda e, k=k: e * k, 100) for k in (1, 2))
    torch.testing.assert_close(doubled.boxes, 2 * own.boxes)
    assert own.extents.unique().tolist() == [100]
    assert doubled.extents.unique().tolist() == [200]
    assert len(own.sample(2).boxes) == 2


def test_a_search_finds_the_best_product() -> None:
    def score(values: Sequence[float]) -> float:
        return (
            -math.inf
            if min(values) < 1
            else -sum(
                math.log(value / best) ** 2
                for value, best in zip(values, (30.0, 1.0, 7.0), strict=True)
            )
        )

    found = searched([8.0, 8.0, 8.0], score)
    assert found == pytest.approx([30, 1, 7], rel=0.08)
