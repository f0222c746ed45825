import copy

import pytest
import torch
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from limbeck.models import BasicBlocks, FasterRCNN
from tests.batches import photographs, targets
from tests.models.comparisons import assert_same_losses, same_detections
from tests.models.lively_weights import scramble

EVALUATION = {"min_size": 96, "max_size": 128}
TINY = BasicBlocks((1, 1, 1, 1), (4, 8, 8, 8))
SMALL = {"fpn_channels": 8, "box_head_channels": 16, "norm": "trained"}


def test_is_torchvisions_faster_rcnn_both_ways() -> None:
    stock = detection.fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=91, **EVALUATION
    )
    scramble(stock)
    ours = FasterRCNN("resnet50", 90, **EVALUATION)
    assert isinstance(ours, detection.FasterRCNN)
    ours.load_state_dict(stock.state_dict())
    for model in (ours, stock):
        model.rpn._post_nms_top_n["testing"] = 100  # enough to differ by, and quick
    images = photographs((100, 90), (96, 120))
    assert same_detections(ours, stock, images) > 50
    scramble(ours, seed=5)
    stock.load_state_dict(ours.state_dict())
    assert same_detections(ours, stock, images) > 50


def test_training_losses_are_torchvisions() -> None:
    ours = FasterRCNN(TINY, 3, levels=(2, 5), **SMALL).train()
    stock = detection.FasterRCNN(
        copy.deepcopy(ours.backbone),
        rpn_anchor_generator=AnchorGenerator(*anchors_of(ours)),
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2),
        box_head=copy.deepcopy(ours.roi_heads.box_head),
        box_predictor=FastRCNNPredictor(16, 4),
        _skip_resize=True,
    ).train()
    stock.load_state_dict(ours.state_dict())
    assert_same_losses(ours, stock, (photographs((128, 160), (150, 128)), targets(2)))


def anchors_of(model: FasterRCNN) -> tuple:
    return model.rpn.anchor_generator.sizes, model.rpn.anchor_generator.aspect_ratios


@pytest.mark.parametrize(
    ("backbone", "levels"),
    [("resnet18", (2, 6)), ("mobilenet_v2", (2, 6)), (TINY, (2, 5)), (TINY, (3, 4))],
)
def test_a_training_step_reaches_every_parameter(backbone, levels) -> None:
    model = FasterRCNN(backbone, 3, levels=levels, **SMALL)
    losses = model.train()(photographs((64, 96), (96, 64)), targets(2))
    assert set(losses) == {
        "loss_classifier",
        "loss_box_reg",
        "loss_objectness",
        "loss_rpn_box_reg",
    }
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_background_is_column_zero() -> None:
    model = FasterRCNN(TINY, 3, **SMALL)
    assert model.roi_heads.box_predictor.cls_score.out_features == 4
    model.roi_heads.box_predictor.cls_score.bias.data.copy_(torch.tensor([9.0, 0, 0, 0]))
    assert len(model.eval()(photographs((64, 64)))[0]["boxes"]) == 0


def test_pooling_does_not_depend_on_the_first_image() -> None:
    # torchvision's pooler would take strides 2 to 16 from an image 40 pixels high, for good.
    fresh, used = FasterRCNN(TINY, 3, **SMALL), FasterRCNN(TINY, 3, **SMALL)
    used.load_state_dict(fresh.state_dict())
    features = used.eval().backbone(torch.rand(1, 3, 64, 64))
    boxes = [torch.tensor([[4.0, 4.0, 30.0, 30.0]])]
    used.roi_heads.box_roi_pool(features, boxes, [(40, 40)])
    pooled = [m.roi_heads.box_roi_pool(features, boxes, [(64, 64)]) for m in (fresh, used)]
    torch.testing.assert_close(pooled[0], pooled[1])
    assert used.roi_heads.box_roi_pool.scales == [1 / 4, 1 / 8, 1 / 16, 1 / 32]


def test_the_pooled_level_is_the_rpns_alone() -> None:
    model = FasterRCNN("resnet18", 2)
    assert model.strides == (4, 8, 16, 32, 64)
    assert model.roi_heads.box_roi_pool.featmap_names == ["0", "1", "2", "3"]


@pytest.mark.parametrize("levels", [(2, 7), (1, 5), (6, 6)])
def test_levels_that_do_not_suit_are_refused(levels) -> None:
    with pytest.raises(ValueError, match=r"one extra level.*end at 5 or lower, or at 6"):
        FasterRCNN("resnet18", 2, levels=levels)
