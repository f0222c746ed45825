"""Python that builds an SSD with torchvision alone, for who has no limbeck."""

from typing import Any

_IMPORTS = """\
from functools import partial

import torchvision
from safetensors.torch import load_file
from torch import nn
from torchvision.models.detection import ssd, ssdlite
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

"""
_LOAD = """\
model.load_state_dict(load_file("student.safetensors"))
model.eval()
"""

_BACKBONES = {
    "vgg16": """\
layers = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"])
backbone = ssd.SSDFeatureExtractorVGG(layers, highres=False)
channels = [512, 1024, 512, 256, 256, 256]
head = ssd.SSDHead(channels, boxes.num_anchors_per_location(), {columns})
""",
    "mobilenet_v3_large": """\
norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
trunk = torchvision.models.mobilenet_v3_large(norm_layer=norm, reduced_tail={reduced_tail})
backbone = ssdlite._mobilenet_extractor(trunk, 6, norm)
channels = [672, trunk.features[-1].out_channels, 512, 256, 256, 128]
head = ssdlite.SSDLiteHead(channels, boxes.num_anchors_per_location(), {columns}, norm)
""",
}


def ssd_code(model: Any) -> str | None:
    """Build and load an SSD; None where torchvision alone cannot make it."""
    given, columns = model.arguments, model.num_classes + 1
    name = str(given["backbone"]).removeprefix("torchvision:")
    if name not in _BACKBONES:
        return None
    backbone = _BACKBONES[name].format(columns=columns, reduced_tail=given["reduced_tail"])
    height, width = given["image_size"]
    return (
        _IMPORTS
        + f"""\
boxes = DefaultBoxGenerator(
    {given["aspect_ratios"]}, scales={given["scales"]}, steps={given["steps"]}
)
"""
        + backbone
        + f"""\
model = ssd.SSD(
    backbone, boxes, ({width}, {height}), {columns}, head=head,
    image_mean={given["mean"]}, image_std={given["std"]},
    score_thresh={given["score_threshold"]}, nms_thresh={given["nms_threshold"]},
    detections_per_img={given["detections_per_image"]}, topk_candidates={given["topk_candidates"]},
)
"""
        + _LOAD
    )
