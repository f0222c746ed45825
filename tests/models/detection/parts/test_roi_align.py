from pathlib import Path

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign

from limbeck.models.detection.parts.roi_align import RoIAlign
from tests.models.detection.published import golden

PYRAMID = {str(i): torch.rand(2, 3, 64 // 2**i, 96 // 2**i) for i in range(4)}
BOXES = [
    torch.tensor([[0.0, 0, 5, 3], [10, 20, 200, 230], [0, 0, 112, 112]]),
    torch.tensor([[3.0, 7, 380, 250]]),
]


@pytest.mark.parametrize(
    ("model", "levels", "canonical_level"), [("teacher", (2, 5), 4), ("student", (3, 6), 5)]
)
def test_pooling_is_mmdetections(shared: Path, model, levels, canonical_level) -> None:
    case = golden(shared / "golden/head/roi_extract.npz")
    maps = {str(k): case[f"{model}.feat.{k}"].float() for k in range(4)}
    pool = RoIAlign(levels, aligned=True, canonical_level=canonical_level)
    by_image = case["rois"][:, 0].argsort(stable=True)
    boxes = [case["rois"][case["rois"][:, 0] == i, 1:] for i in (0, 1)]
    assert torch.equal(pool.map_levels(boxes), case[f"{model}.levels"][by_image])
    pooled = pool(maps, boxes, [])
    torch.testing.assert_close(pooled, case[f"{model}.out"][by_image], rtol=1e-5, atol=1e-5)


def test_unaligned_pooling_is_torchvisions() -> None:
    stock = MultiScaleRoIAlign(list(PYRAMID), 7, 2)
    ours = RoIAlign((2, 5), aligned=False)
    expected = stock(PYRAMID, BOXES, [(256, 384)] * 2)
    assert torch.equal(ours(PYRAMID, BOXES, [(256, 384)] * 2), expected)


def test_a_single_level_and_no_boxes() -> None:
    pool = RoIAlign((3, 3), aligned=True)
    assert pool(PYRAMID, BOXES, []).shape == (4, 3, 7, 7)
    assert pool(PYRAMID, [torch.zeros(0, 4)] * 2, []).shape == (0, 3, 7, 7)


def test_half_precision_maps_are_pooled_with_float32_boxes() -> None:
    pool = RoIAlign((2, 5), aligned=True)
    half = pool({name: feature.bfloat16() for name, feature in PYRAMID.items()}, BOXES, [])
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), pool(PYRAMID, BOXES, []), rtol=0, atol=0.01)
