"""What is read of a dense head, level by level."""

import pytest
import torch
import torchvision.models.detection as tvd

from limbeck import Taps
from limbeck.dense_heads import dense_head
from limbeck.frame import network_frame
from limbeck.models import SSD
from tests import small_models, tiny_models

SSDS = {
    "ssdlite": lambda: tvd.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None),
    "SSD of mobilenet_v2": lambda: SSD("mobilenet_v2", 3, image_size=(256, 256)),
    "ssd": lambda: SSD("vgg16", 3),
}


def seen_by(model, names, pixels):
    """The taps of one evaluation pass over two square images."""
    images = list(torch.rand(2, 3, pixels, pixels))
    with torch.no_grad(), network_frame(model), Taps(model.eval(), names) as seen:
        model(images)
    return seen


@pytest.mark.parametrize("name", ["retinanet", "fcos", "limbeck's RetinaNet"])
def test_maps_of_a_head_are_its_last_convolutions(name):
    model = tiny_models.detector() if "limbeck" in name else getattr(small_models, name)()
    towers = {"cls_maps": "cls_tower", "box_maps": "box_tower"}
    seen = seen_by(model, [*towers, *towers.values()], 64)
    layers = model.head.classification_head.cls_logits, model.head.regression_head.bbox_reg
    for (maps, tower), layer in zip(towers.items(), layers, strict=True):
        assert len(seen[maps]) == len(model.anchor_generator.sizes)
        for found, features in zip(seen[maps], seen[tower], strict=True):
            assert torch.equal(found, layer(features))


def test_box_maps_of_a_gfl_come_behind_the_factor_of_each_level():
    model = small_models.gfl()
    head = model.head.regression_head
    with torch.no_grad():
        for level, scale in enumerate(head.scales):
            scale.scale.fill_(level + 1.0)
    seen = seen_by(model, ["box_maps", "box_tower", "cls_maps"], 128)
    for level, found in enumerate(seen["box_maps"]):
        expected = (level + 1) * head.bbox_reg(seen["box_tower"][level])
        torch.testing.assert_close(found, expected)
    assert len(seen["cls_maps"]) == len(seen["box_maps"]) == 5


@pytest.mark.parametrize("name", SSDS)
def test_maps_of_a_head_whose_levels_have_layers_of_their_own(name):
    model = SSDS[name]()
    side = model.transform.fixed_size[0]
    seen = seen_by(model, ["maps", "cls_maps", "box_maps"], side)
    heads = {"cls_maps": model.head.classification_head, "box_maps": model.head.regression_head}
    for name, head in heads.items():
        layers = zip(head.module_list, seen["maps"], seen[name], strict=True)
        assert all(torch.equal(found, layer(level)) for layer, level, found in layers)


@pytest.mark.parametrize("name", ["faster_rcnn", "resnet"])
def test_models_without_a_dense_head_have_no_maps_of_one(name):
    assert not dense_head(getattr(small_models, name)())
