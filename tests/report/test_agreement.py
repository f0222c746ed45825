"""The check of a conversion: equal models agree, and each difference is found where it is."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.models import SSD, BasicBlocks, Classifier, FasterRCNN, RetinaNet
from limbeck.report.agreement import Agreement, Difference, agreement
from tests.batches import photographs
from tests.models.lively_weights import with_lively_heads

pytestmark = pytest.mark.usefixtures("narrow_resnets")

SIZES = {"min_size": 96, "max_size": 160, "fpn_channels": 8, "score_threshold": 0.1}


def retinanet(**arguments: Any) -> RetinaNet:
    model = RetinaNet("resnet18", 3, **({"head_depth": 1} | SIZES | arguments))
    return with_lively_heads(model).eval()


def faster_rcnn(**arguments: Any) -> FasterRCNN:
    model = FasterRCNN("resnet18", 3, **({"box_head_channels": 8} | SIZES | arguments))
    return with_lively_heads(model).eval()


def image() -> Tensor:
    return photographs((96, 128))[0]


def unequal(found: Agreement) -> list[str]:
    return [difference.output for difference in found.dense if not difference.is_equal]


def ssd(**arguments: Any) -> SSD:
    return with_lively_heads(
        SSD("resnet18", 3, image_size=(64, 64), levels=(3, 5), **arguments)
    ).eval()


@pytest.mark.parametrize("make", [retinanet, faster_rcnn, ssd])
def test_a_model_and_its_copy_agree(make: Any) -> None:
    model = make()
    found = agreement(model, copy.deepcopy(model).train(), image())
    assert found.is_equal
    assert found.detections == found.matched == found.others > 0
    assert all(each.largest == 0 < each.scale for each in found.dense)


@pytest.mark.parametrize(
    ("make", "place", "expected"),
    [
        (retinanet, "head.regression_head.bbox_reg.bias", ["box deltas"]),
        (retinanet, "head.classification_head.cls_logits.bias", ["class logits"]),
        (ssd, "head.regression_head.module_list.0.bias", ["box deltas"]),
        (ssd, "head.classification_head.module_list.0.bias", ["class logits"]),
        (faster_rcnn, "rpn.head.bbox_pred.bias", ["RPN deltas"]),
        (faster_rcnn, "rpn.head.cls_logits.bias", ["RPN logits"]),
        (faster_rcnn, "roi_heads.box_predictor.bbox_pred.bias", ["RoI box deltas"]),
        (faster_rcnn, "roi_heads.box_predictor.cls_score.bias", ["RoI class logits"]),
    ],
)
def test_a_changed_layer_is_found_in_its_output(make: Any, place: str, expected: list) -> None:
    model = make()
    other = copy.deepcopy(model)
    other.state_dict()[place][-1] += 0.5
    found = agreement(model, other, image())
    assert unequal(found) == expected
    assert next(d for d in found.dense if d.output in expected).largest == pytest.approx(
        0.5, abs=1e-5
    )
    assert not found.is_equal


def test_another_deviation_with_weights_that_fit_it_is_the_same() -> None:
    model = retinanet()
    std = (0.5, 0.25, 1.0)
    other = RetinaNet("resnet18", 3, head_depth=1, std=std, **SIZES)
    state = model.state_dict()
    scale = torch.tensor(std) / torch.tensor(model.transform.image_std)
    conv1 = "backbone.body.conv1.weight"
    other.load_state_dict(state | {conv1: state[conv1] * scale[:, None, None]})
    found = agreement(model, other, image())
    assert unequal(found) == []
    assert found.matched == found.detections > 0
    other.load_state_dict(state)
    assert unequal(agreement(model, other, image())) == ["class logits", "box deltas"]


def test_outputs_of_other_levels_are_not_compared() -> None:
    shapes = r"class logits are of \(1, 2313, 3\) and \(1, 2268, 3\): other levels"
    with pytest.raises(ValueError, match=shapes):
        agreement(
            retinanet(preset="detectron2"), retinanet(preset="detectron2", levels=(3, 5)), image()
        )


def test_presets_differ_after_the_dense_outputs_alone() -> None:
    lower = {"levels": (3, 5), "detections_per_image": 100}
    model, other = (retinanet(preset=p, **lower) for p in ("detectron2", "torchvision"))
    state = {k: v for k, v in model.state_dict().items() if k in other.state_dict()}
    for name in ("weight", "bias"):  # torchvision's column that is never used
        key = f"head.classification_head.cls_logits.{name}"
        value = state[key].unflatten(0, (9, 3))
        unused = torch.full_like(value[:, :1], -100.0 if name == "bias" else 0.0)
        state[key] = torch.cat([unused, value], dim=1).flatten(0, 1)
    other.load_state_dict(state)
    found = agreement(model, other, image())
    assert unequal(found) == []
    assert found.others > found.matched  # boxes that clipping emptied are kept
    assert not found.is_equal


def test_classifiers() -> None:
    blocks = BasicBlocks((1, 1), (4, 8))
    model = Classifier(blocks, 3)
    assert agreement(model, copy.deepcopy(model), image()).is_equal
    found = agreement(model, Classifier(blocks, 3), image())
    assert unequal(found) == ["logits"]
    assert found.dense[0].largest > 0
    assert model.training is False


def test_nan_is_no_agreement() -> None:
    assert not Difference("logits", float("nan"), 1.0).is_equal
    assert Difference("logits", 0.0, 0.0).is_equal


@pytest.mark.parametrize("second", [faster_rcnn, lambda: Classifier("resnet18", 3)])
def test_models_of_different_kinds_are_refused(second: Any) -> None:
    for pair in ((retinanet(), second()), (second(), retinanet())):
        with pytest.raises(TypeError, match="are not comparable"):
            agreement(*pair, image())
