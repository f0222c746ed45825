from pathlib import Path

import pytest
import torch
from torchvision.models.detection import _utils
from torchvision.ops import clip_boxes_to_image

from limbeck.models.detection.parts.box_coder import BoundedBoxCoder, BoxCoder, box_coder
from limbeck.presets import OF_EVERY_DETECTOR
from tests.models.detection.published import golden

ONES, TENTHS = (1.0, 1.0, 1.0, 1.0), (10.0, 10.0, 5.0, 5.0)


def test_encoding_and_decoding_are_mmdetections(shared: Path) -> None:
    case = golden(shared / "golden/head/box_coder.npz")
    for weights, name in ((ONES, "std1"), (TENTHS, "std01")):
        coder = box_coder(OF_EVERY_DETECTOR["mmdetection"], weights)
        encoded = coder.encode_single(case["gt"], case["boxes"])
        torch.testing.assert_close(encoded, case[f"encode_{name}"], rtol=1e-5, atol=1e-5)
        decoded = coder.decode_single(case["deltas"], case["boxes"])
        torch.testing.assert_close(decoded, case[f"decode_{name}"], rtol=1e-5, atol=1e-4)
        if name == "std1":
            clipped = clip_boxes_to_image(decoded, (100, 120))
            expected = case["decode_std1_clip_h100_w120"]
            torch.testing.assert_close(clipped, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("library", "preset"), [("d2", "detectron2"), ("mmdet", "mmdetection")])
@pytest.mark.parametrize(("weights", "name"), [(ONES, "w1"), (TENTHS, "w10")])
def test_extreme_deltas(shared: Path, library, preset, weights, name) -> None:
    case = golden(shared / "golden/checkpoints/decode_cases.npz")
    deltas = case["deltas"] * torch.tensor(weights)  # the same boxes, whatever the weights
    decoded = box_coder(OF_EVERY_DETECTOR[preset], weights).decode_single(deltas, case["boxes"])
    torch.testing.assert_close(decoded, case[f"{library}_{name}"], rtol=1e-5, atol=1e-4)
    clipped = clip_boxes_to_image(decoded, tuple(case["img_shape"].tolist()))
    expected = case[f"{library}_{name}_clipped"]
    torch.testing.assert_close(clipped, expected, rtol=1e-5, atol=1e-4)


def test_only_shrinking_is_bounded_and_every_class_alike() -> None:
    boxes, generator = torch.tensor([[0.0, 0.0, 1000.0, 500.0]] * 6), torch.Generator()
    deltas = torch.randn(6, 12, generator=generator.manual_seed(0)) * 4
    deltas[:, 2::4] -= 40  # widths of the weights' 5 units: exp(-8) and less
    ours, stock = (
        kind(TENTHS).decode_single(deltas, boxes) for kind in (BoundedBoxCoder, BoxCoder)
    )
    width = (ours[:, 2::4] - ours[:, 0::4]).unique()
    torch.testing.assert_close(width, torch.full_like(width, 16.0), rtol=1e-4, atol=0)
    assert (stock[:, 2::4] - stock[:, 0::4] < 16).all()
    torch.testing.assert_close(ours[:, 1::2], stock[:, 1::2])


def test_no_boxes_at_all() -> None:
    assert BoundedBoxCoder(ONES).decode_single(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("weights", [ONES, TENTHS])
def test_boxes_are_coded_to_torchvisions_last_bit(weights) -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 2, generator=generator) * 500
    truth, boxes = torch.cat([corners, corners + 1 + corners.flip(1)], dim=2)
    ours, stock = BoxCoder(weights), _utils.BoxCoder(weights)
    assert torch.equal(ours.encode_single(truth, boxes), stock.encode_single(truth, boxes))
    deltas = torch.randn(50, 12, generator=generator) * 3
    assert torch.equal(ours.decode_single(deltas, boxes), stock.decode_single(deltas, boxes))
