"""Python that builds a student's network with torchvision (and timm), where there is no limbeck."""

from typing import Any

from torchvision.ops import FeaturePyramidNetwork

from limbeck.models.detection.parts.backbones import P6P7
from limbeck.models.detection.parts.timm_trunks import TimmLayout

_IMPORTS = """\
import torchvision
from safetensors.torch import load_file
from torch import nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import Conv2dNormActivation, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7
"""

_TIMM_BACKBONE = """\
import timm
from torchvision.ops import FeaturePyramidNetwork


class Backbone(nn.Module):
    out_channels = {channels}

    def __init__(self):
        super().__init__()
        self.body = timm.create_model(
            {name!r}, features_only=True, feature_cls="getter", out_indices={indices}{arguments}
        )
        self.fpn = FeaturePyramidNetwork({pyramid})

    def forward(self, images):
        return self.fpn({{str(place): each for place, each in enumerate(self.body(images))}})


backbone = Backbone()
"""

_LOAD = """\
model.load_state_dict(load_file("student.safetensors"))
model.eval()
"""


def retinanet_code(model: Any) -> str | None:
    """The Python that builds and loads a RetinaNet with torchvision alone.

    Args:
        model: The detector.

    Returns:
        The code, or None where torchvision alone cannot make this detector.
    """
    if not _is_stock(model):
        return None
    arguments = model.arguments
    channels, columns = arguments["fpn_channels"], model.num_classes + 1
    extra = model.backbone.fpn.extra_blocks
    p6 = extra.p6.in_channels if extra else channels
    return (
        _IMPORTS
        + _backbone(model, f"LastLevelP6P7({p6}, {channels})")
        + f"""\
anchors = AnchorGenerator({_anchors(model)})
per_cell = anchors.num_anchors_per_location()[0]
head = detection.retinanet.RetinaNetHead({channels}, per_cell, {columns})
for branch in (head.classification_head, head.regression_head):
    branch.conv = nn.Sequential(*(
        Conv2dNormActivation({channels}, {channels}, norm_layer=None)
        for _ in range({arguments["head_depth"]})
    ))
model = detection.RetinaNet(
    backbone, {columns}, anchor_generator=anchors, head=head, {_transform(arguments)},
    {_thresholds(model)},
)
"""
        + _LOAD
    )


def fcos_code(model: Any) -> str | None:
    """The Python that builds and loads an FCOS with torchvision alone.

    Args:
        model: The detector.

    Returns:
        The code, or None where torchvision alone cannot make this detector.
    """
    if not _is_stock(model):
        return None
    arguments = model.arguments
    channels, columns = arguments["fpn_channels"], model.num_classes + 1
    return (
        _IMPORTS
        + _backbone(model, f"LastLevelP6P7({channels}, {channels})")
        + f"""\
head = detection.fcos.FCOSHead({channels}, 1, {columns}, {arguments["head_depth"]})
model = detection.FCOS(
    backbone, {columns}, anchor_generator=AnchorGenerator({_anchors(model)}), head=head,
    {_transform(arguments)}, {_thresholds(model)},
)
"""
        + _LOAD
    )


def faster_rcnn_code(model: Any) -> str | None:
    """The Python that builds and loads a Faster R-CNN with torchvision alone.

    Args:
        model: The detector.

    Returns:
        The code, or None where torchvision alone cannot make this detector.
    """
    if not _is_stock(model):
        return None
    arguments = model.arguments
    names = [str(place) for place, _ in enumerate(model.backbone.levels)]
    width = arguments["box_head_channels"]
    return (
        _IMPORTS
        + _backbone(model, "LastLevelMaxPool()")
        + f"""\
model = detection.FasterRCNN(
    backbone, {_transform(arguments)},
    rpn_anchor_generator=AnchorGenerator({_anchors(model)}),
    box_roi_pool=MultiScaleRoIAlign({names}, output_size=7, sampling_ratio=2),
    box_head=detection.faster_rcnn.TwoMLPHead({arguments["fpn_channels"]} * 7**2, {width}),
    box_predictor=detection.faster_rcnn.FastRCNNPredictor({width}, {model.num_classes + 1}),
    box_score_thresh={arguments["score_threshold"]}, box_nms_thresh={arguments["nms_threshold"]},
    box_detections_per_img={arguments["detections_per_image"]},
)
"""
        + _LOAD
    )


def _is_stock(model: Any) -> bool:
    arguments = model.arguments
    changed = arguments["stride_in_1x1"] or arguments.get("last_norm") or arguments["activation"]
    changed = changed or arguments.get("roi_aligned") or not arguments.get("relu_before_p7", True)
    stock = arguments.get("preset", "torchvision") == "torchvision"  # FCOS has no others
    pyramid = isinstance(model.backbone.fpn, FeaturePyramidNetwork)
    extra = model.backbone.fpn.extra_blocks
    # torchvision tells P6 from C5 and from P5 by their channels alone.
    drifts = isinstance(extra, P6P7) and not extra.use_P5
    drifts = drifts and extra.p6.in_channels == extra.p6.out_channels
    return stock and not changed and bool(model.published) and pyramid and not drifts


def _backbone(model: Any, extra: str) -> str:
    arguments, backbone = model.arguments, model.backbone
    channels = arguments["fpn_channels"]
    inputs = [block[0].in_channels for block in backbone.fpn.inner_blocks]
    if isinstance(backbone.layout, TimmLayout):
        last = extra if backbone.fpn.extra_blocks else "None"
        return _TIMM_BACKBONE.format(
            name=backbone.layout.name,
            arguments="".join(f", {k}={v!r}" for k, v in backbone.layout.arguments.items()),
            indices=backbone.body.out_indices,
            pyramid=f"{inputs}, {channels}, {last}",
            channels=channels,
        )
    trunk = f"torchvision.models.get_model({arguments['backbone'].removeprefix('torchvision:')!r})"
    code = (
        f"trunk = {trunk}.get_submodule({backbone.layout.prefix.rstrip('.')!r})\n"
        f"backbone = BackboneWithFPN(\n"
        f"    trunk, {backbone.body.return_layers}, {inputs}, {channels}, {extra}\n"
        ")\n"
    )
    return code if backbone.fpn.extra_blocks else code + "backbone.fpn.extra_blocks = None\n"


def _anchors(model: Any) -> str:
    generator = model.anchor_generator if hasattr(model, "anchor_generator") else None
    generator = generator or model.rpn.anchor_generator
    return f"{generator.sizes}, {generator.aspect_ratios}"


def _transform(arguments: dict[str, Any]) -> str:
    return (
        f"min_size={arguments['min_size']}, max_size={arguments['max_size']}, "
        f"image_mean={arguments['mean']}, image_std={arguments['std']}"
    )


def _thresholds(model: Any) -> str:
    arguments = model.arguments
    return (
        f"score_thresh={arguments['score_threshold']}, nms_thresh={arguments['nms_threshold']},\n"
        f"    detections_per_img={model.detections_per_img}, "
        f"topk_candidates={arguments['topk_candidates']}"
    )
