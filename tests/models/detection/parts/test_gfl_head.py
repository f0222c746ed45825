import pytest
import torch
from torch import nn

from limbeck.models.detection.parts.distributions import BINS
from limbeck.models.detection.parts.gfl_head import GFLHead, GroupNorm


def test_rows_are_the_maps_cell_by_cell_with_each_levels_own_scale():
    head = GFLHead(32, 3, 2, levels=2)
    with torch.no_grad():
        head.regression_head.scales[1].scale.fill_(2.0)
    maps = [torch.randn(2, 32, 4, 5), torch.randn(2, 32, 2, 3)]
    found = head(maps)
    assert found["cls_logits"].shape == (2, 26, 3)
    assert found["bbox_regression"].shape == (2, 26, 4 * BINS)
    boxes = head.regression_head
    coarse = 2 * boxes.bbox_reg(boxes.conv(maps[1]))
    torch.testing.assert_close(found["bbox_regression"][1, 20 + 3 + 1], coarse[1, :, 1, 1])
    classes = head.classification_head
    fine = classes.cls_logits(classes.conv(maps[0]))
    torch.testing.assert_close(found["cls_logits"][0, 7], fine[0, :, 1, 2])


def test_every_class_begins_with_a_score_of_one_in_a_hundred():
    head = GFLHead(32, 3, 1, levels=1)
    found = head([torch.zeros(1, 32, 3, 3)])
    torch.testing.assert_close(found["cls_logits"].sigmoid(), torch.full((1, 9, 3), 0.01))
    convolutions = [m for m in head.modules() if isinstance(m, nn.Conv2d)]
    assert all(abs(m.weight.std().item() - 0.01) < 1e-3 for m in convolutions)
    assert [m.bias is None for m in convolutions] == [True, False, True, False]


def test_outputs_are_in_full_precision_under_autocast():
    head = GFLHead(32, 3, 1, levels=1)
    with torch.autocast("cpu", torch.bfloat16):
        found = head([torch.randn(1, 32, 3, 3)])
    assert {value.dtype for value in found.values()} == {torch.float32}


@pytest.mark.parametrize(
    ("channels", "depth", "message"),
    [(48, 4, "fpn_channels=48: expected a multiple of 32"), (32, 0, "head_depth=0: expected 1")],
)
def test_what_a_head_cannot_be_built_of_is_refused(channels, depth, message):
    with pytest.raises(ValueError, match=message):
        GFLHead(channels, 3, depth, levels=1)


def test_a_norm_of_one_value_is_its_bias():
    norm = GroupNorm(4, 4)
    nn.init.normal_(norm.bias)
    single = torch.randn(1, 4, 1, 1, requires_grad=True)
    torch.testing.assert_close(norm(single)[0, :, 0, 0], norm.bias)
    norm(single).sum().backward()
    assert single.grad.isfinite().all()
    with pytest.raises(ValueError, match="more than 1 value"):
        nn.GroupNorm(4, 4)(single)  # torch's own: when it takes this, ours can go
    larger = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(norm(larger), nn.GroupNorm.forward(norm, larger))
