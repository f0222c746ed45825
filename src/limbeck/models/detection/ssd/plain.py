"""Python that builds an SSD with torchvision alone, for those who have no limbeck."""

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
    """The Python that builds and loads an SSD with torchvision alone.

    Args:
        model: The detector.

    Returns:
        The code, or None where torchvision alone cannot make this detector.
    """
    arguments, columns = model.arguments, model.num_classes + 1
    name = str(arguments["backbone"]).removeprefix("torchvision:")
    if name not in _BACKBONES:
        return None
    backbone = _BACKBONES[name].format(columns=columns, reduced_tail=arguments["reduced_tail"])
    height, width = arguments["image_size"]
    most, candidates = arguments["detections_per_image"], arguments["topk_candidates"]
    return (
        _IMPORTS
        + f"""\
boxes = DefaultBoxGenerator(
    {arguments["aspect_ratios"]}, scales={arguments["scales"]}, steps={arguments["steps"]}
)
"""
        + backbone
        + f"""\
model = ssd.SSD(
    backbone, boxes, ({width}, {height}), {columns}, head=head,
    image_mean={arguments["mean"]}, image_std={arguments["std"]},
    score_thresh={arguments["score_threshold"]}, nms_thresh={arguments["nms_threshold"]},
    detections_per_img={most}, topk_candidates={candidates},
)
"""
        + _LOAD
    )
