"""Trunks that end at C4, of stride 16, and what a box head makes of their later stages."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection.faster_rcnn import TwoMLPHead

from limbeck.checkpoints.tensors import Tensors
from limbeck.models.detection.parts.backbones import (
    Activation,
    adapt,
    freeze_stages,
    layout_of,
    network_of,
    of_classifier,
    vgg_features,
)
from limbeck.models.detection.parts.roi_align import ROI_SIZE
from limbeck.models.detection.parts.timm_trunks import is_timms
from limbeck.models.norms import Norm, convert_norms
from limbeck.models.resnet import BasicBlocks
from limbeck.trunks import TRUNKS, VGGS, Layout

LEVEL = 4
VGG_WIDTH = 4096  # of fc6 and fc7
_VGG_FULL = {"classifier.0": "fc6", "classifier.3": "fc7"}


def c4_layout_of(trunk: str | BasicBlocks) -> Layout:
    """The layout of a trunk that has a C4: of a VGG, or of what can stand under a pyramid.

    Args:
        trunk: torchvision's name of the trunk, or the shape of a network of basic blocks.

    Returns:
        The layout.

    Raises:
        ValueError: There is no trunk of that name, or it has no level of stride 16.
    """
    name = _vgg(trunk)
    if name is not None:
        return VGGS[name].layout
    if is_timms(trunk):
        raise ValueError(
            f"backbone={trunk!r}: a Faster R-CNN without a pyramid stands on none of timm's "
            f"networks. Take FasterRCNN, or one of {', '.join([*TRUNKS, *VGGS])}."
        )
    try:
        layout = layout_of(trunk)
    except ValueError as error:
        raise ValueError(f"{error} Without a pyramid also {' or '.join(VGGS)}.") from None
    if LEVEL not in [stage.level for stage in layout.stages]:
        raise ValueError(
            f"backbone={trunk!r}: it has no C4. Expected a stage of stride 16; give it more stages "
            "or another stem_stride."
        )
    return layout


def _vgg(trunk: str | BasicBlocks) -> str | None:
    """The name of a VGG, None for other trunks."""
    name = trunk.removeprefix("torchvision:") if isinstance(trunk, str) else None
    return name if name in VGGS else None


class C4Trunk(nn.Sequential):
    """A trunk up to C4: images (B, 3, H, W) -> (B, C, H / 16, W / 16).

    Its children have the names that they have in torchvision's classifier.

    Args:
        network: The trunk with all of its stages.
        layout: The layout of the trunk.
        norm: The behaviour of the batch normalisations.
        frozen_stages: How many parts from below are not trained: the stem, then the stages.

    Raises:
        ValueError: More parts are to be frozen than there are.
    """

    def __init__(
        self, network: nn.Module, layout: Layout, *, norm: Norm, frozen_stages: int
    ) -> None:
        used = [stage for stage in layout.stages if stage.level <= LEVEL]
        children = dict(network.named_children())
        names = list(children)
        last = names.index(used[-1].modules[-1])
        super().__init__(OrderedDict((name, children[name]) for name in names[: last + 1]))
        self.out_channels = used[-1].channels
        parts = [layout.stem, *(stage.modules for stage in used)]
        freeze_stages(self, parts, frozen_stages)
        convert_norms(self, norm)


class VGGHead(TwoMLPHead):  # type: ignore[misc]  # torchvision is untyped
    """fc6 and fc7 of a VGG's classifier, each with ReLU and dropout.

    Args:
        in_channels: The channels of the map, whose regions are pooled to 7 x 7.
        width: The width of both layers.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__(in_channels * ROI_SIZE**2, width)
        for layer in (self.fc6, self.fc7):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(R, C, 7, 7) -> (R, width)."""
        x = x.flatten(start_dim=1)
        for layer in (self.fc6, self.fc7):
            x = F.dropout(F.relu(layer(x)), training=self.training)
        return x


class StageHead(nn.Sequential):
    """The stages after C4 on every region, then their mean (He et al., arXiv 1512.03385).

    This is Detectron2's ``Res5ROIHeads``. Regions are pooled to 14 x 14: the first of these stages
    halves them.

    Args:
        network: The trunk with all of its stages.
        modules: The names of its children after C4.
        norm: The behaviour of the batch normalisations.
    """

    def __init__(self, network: nn.Module, modules: Sequence[str], norm: Norm) -> None:
        children = dict(network.named_children())
        parts = OrderedDict((name, children[name]) for name in modules)
        super().__init__(parts | OrderedDict(avgpool=nn.AdaptiveAvgPool2d(1)))
        convert_norms(self, norm)


def trunk_and_head(
    backbone: str | BasicBlocks,
    box_head_channels: int | None,
    *,
    norm: Norm,
    frozen_stages: int,
    stride_in_1x1: bool,
    activation: Activation | None,
) -> tuple[C4Trunk, nn.Module, int, int]:
    """The trunk up to C4, and the box head over it.

    Args:
        backbone: The name of the trunk, or the shape of a network of basic blocks.
        box_head_channels: The width of two fully connected layers. None: the family's own head.
        norm: The behaviour of the batch normalisations of both.
        frozen_stages: How many parts of the trunk from below are not trained.
        stride_in_1x1: Whether bottlenecks are strided in their first 1x1 convolution.
        activation: The activation in place of MobileNetV2's ReLU6. None: its own.

    Returns:
        The trunk, the box head, the width of its output, and the side of the regions that it takes.

    Raises:
        ValueError: An argument does not suit the backbone.
    """
    layout = c4_layout_of(backbone)
    vgg = _vgg(backbone)
    network = vgg_features(vgg) if vgg else network_of(backbone, layout)
    adapt(network, backbone, stride_in_1x1=stride_in_1x1, activation=activation)
    trunk = C4Trunk(network, layout, norm=norm, frozen_stages=frozen_stages)
    channels = trunk.out_channels
    if box_head_channels is not None:
        fully_connected = TwoMLPHead(channels * ROI_SIZE**2, box_head_channels)
        return trunk, fully_connected, box_head_channels, ROI_SIZE
    if vgg:
        return trunk, VGGHead(channels, VGG_WIDTH), VGG_WIDTH, ROI_SIZE
    above = [stage for stage in layout.stages if stage.level > LEVEL]
    if not above:
        raise ValueError(
            f"box_head_channels=None: {backbone!r} has no stage after C4 that could be the box "
            "head. Give the width of two fully connected layers, such as box_head_channels=1024."
        )
    modules = [name for stage in above for name in stage.modules]
    return trunk, StageHead(network, modules, norm), above[-1].channels, 2 * ROI_SIZE


def trunk_and_head_of_classifier(
    layout: Layout, trunk: C4Trunk, head: nn.Module, tensors: Tensors
) -> tuple[nn.Module, Tensors]:
    """What the classifier with the same trunk fills of a detector, and that part's state dict.

    A box head is left as it is where it is not the family's own, or the weights are a trunk's
    alone; ``IMAGENET1K_FEATURES`` of torchvision's VGG16 has NaN in its place.

    Args:
        layout: The layout of the trunk.
        trunk: The trunk of the detector.
        head: The box head of the detector.
        tensors: The state dict of the classifier.

    Returns:
        The part of the detector, and its state dict.
    """
    parts, fitting = {"trunk": of_classifier(layout, trunk, tensors)}, nn.ModuleDict()
    fitting["trunk"] = trunk
    above = _of_head(layout, head, tensors)
    if above and all(value.isfinite().all() for value in above.values()):
        parts["head"], fitting["head"] = above, head
    return fitting, {f"{part}.{k}": v for part in fitting for k, v in parts[part].items()}


def _of_head(layout: Layout, head: nn.Module, tensors: Tensors) -> Tensors:
    """The state dict of a family's own box head from that of a classifier; empty for others."""
    if isinstance(head, VGGHead):
        split = {name: name.rpartition(".") for name in tensors}
        return {
            f"{_VGG_FULL[layer]}.{leaf}": tensors[name]
            for name, (layer, _, leaf) in split.items()
            if layer in _VGG_FULL
        }
    inner = {name.removeprefix(layout.prefix): name for name in tensors}
    there = {name for name, _ in head.named_children()} if isinstance(head, StageHead) else set()
    return {k: tensors[name] for k, name in inner.items() if k.partition(".")[0] in there}
