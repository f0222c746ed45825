"""Trunks under a feature pyramid: how one is built, frozen and filled with weights.

Where each of them has its C-levels stands in :mod:`limbeck.trunks`.
"""

import logging
from collections.abc import Sequence
from typing import Literal, cast, get_args

import torch.nn.functional as F
import torchvision
from timm.layers.norm_act import FrozenBatchNormAct2d
from timm.utils.model import freeze
from torch import Tensor, nn
from torchvision.models import vgg
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import (
    ExtraFPNBlock,
    FeaturePyramidNetwork,
    LastLevelP6P7,
)

from limbeck.checkpoints.tensors import Tensors
from limbeck.models.detection.parts.simple_pyramid import SimplePyramid
from limbeck.models.detection.parts.timm_trunks import (
    PREFIX,
    TimmLayout,
    TimmTrunk,
    is_timms,
    of_timms_classifier,
    timm_layout,
    timm_trunk,
)
from limbeck.models.norms import LastNorm, Norm, convert_norms, replace_norms
from limbeck.models.resnet import BasicBlockResNet, BasicBlocks
from limbeck.trunks import TRUNKS, VGGS, Layout, Stage, residual

log = logging.getLogger(__name__)

Activation = Literal["leaky_relu"]


def layout_of(trunk: str | BasicBlocks) -> Layout:
    """The layout of a trunk that can stand under a pyramid.

    Args:
        trunk: torchvision's name of the trunk, ``timm:NAME``, or the shape of a network of basic
            blocks.

    Returns:
        The layout.

    Raises:
        ValueError: There is no trunk of that name, or it has no maps for a detector.
    """
    if isinstance(trunk, BasicBlocks):
        return residual(trunk.widths, first_level=trunk.stem_stride.bit_length() - 1)
    if is_timms(trunk):
        return timm_layout(trunk.removeprefix(PREFIX))
    name = trunk.removeprefix("torchvision:")
    if name in TRUNKS:
        return TRUNKS[name].layout
    raise ValueError(
        f"backbone={trunk!r}: no such backbone. Expected one of {', '.join(TRUNKS)}, a network of "
        "timm's as timm:NAME, or the depths and widths of a network of basic blocks."
    )


class P6P7(LastLevelP6P7):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's block of RetinaNet's extra levels, which is told what P6 is made of.

    torchvision takes P5 whenever C5 has as many channels, and C5 otherwise.

    Args:
        in_channels: The channels of the map that P6 is made of.
        out_channels: The channels of the pyramid.
        from_p5: Whether that map is P5. Otherwise it is C5.
        relu: Whether there is a ReLU between P6 and P7.
    """

    def __init__(self, in_channels: int, out_channels: int, *, from_p5: bool, relu: bool) -> None:
        super().__init__(in_channels, out_channels)
        self.use_P5 = from_p5
        self.relu = relu

    def forward(
        self, p: list[Tensor], c: list[Tensor], names: list[str]
    ) -> tuple[list[Tensor], list[str]]:
        """The maps (B, C, h, w) of the pyramid and their names, with P6 and P7 added."""
        p6 = self.p6(p[-1] if self.use_P5 else c[-1])
        p7 = self.p7(F.relu(p6) if self.relu else p6)
        return [*p, p6, p7], [*names, "p6", "p7"]


class Backbone(BackboneWithFPN):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``BackboneWithFPN`` over a trunk of :mod:`limbeck.trunks`, or one of timm's.

    A plain network of timm's, such as a ViT, has a simple pyramid in the place of the FPN.

    Args:
        trunk: The name of the trunk, or the shape of a network of basic blocks.
        levels: The first and the last level of the pyramid. Level k has a stride of 2**k pixels;
            those above the trunk's are ``extra``'s.
        channels: The channels of every level.
        extra: The block that adds levels. None: there are no more levels than the trunk's.
        norm: The behaviour of the trunk's batch normalisations.
        frozen_stages: How many stages from below are not trained at all: 1 is the stem, 2 the stem
            and the first C-level (of a plain network the first block), and so on. Their
            normalisations are frozen whatever ``norm``.
        last_norm: What all normalisations of the last block of each stage that is trained become,
            trained themselves: ``group`` (32 groups) or ``synchronised``. None: as ``norm`` says.
        stride_in_1x1: Whether bottlenecks are strided in their first 1x1 convolution, as in the
            original ResNet and the weights of MSRA. Otherwise they are strided in the 3x3 one, as
            in torchvision.
        activation: ``leaky_relu`` of slope 0.1 in place of MobileNetV2's ReLU6, as in HEAD. None:
            the trunk's own activation.

    Raises:
        ValueError: More stages are to be frozen than the trunk has, or it has no residual blocks,
            bottlenecks or activations of the kind that an argument needs.
    """

    def __init__(
        self,
        trunk: str | BasicBlocks,
        levels: tuple[int, int],
        channels: int,
        extra: ExtraFPNBlock | None,
        *,
        norm: Norm,
        frozen_stages: int,
        last_norm: LastNorm | None = None,
        stride_in_1x1: bool = False,
        activation: Activation | None = None,
    ) -> None:
        nn.Module.__init__(self)  # BackboneWithFPN's takes torchvision's trunks alone
        self.layout = layout = layout_of(trunk)
        taps = [stage for stage in layout.stages if levels[0] <= stage.level <= levels[1]]
        self.levels = tuple(stage.level for stage in taps)
        self.body = trunk_of(trunk, layout, self.levels)
        adapt(self.body, trunk, stride_in_1x1=stride_in_1x1, activation=activation)
        self.fpn = _pyramid(layout, taps, channels, extra)
        self.out_channels = channels
        freeze_trunk(self.body, layout, levels[1], frozen_stages)
        convert_trunk_norms(self.body, norm)
        if last_norm is not None:
            used = [stage for stage in layout.stages if stage.level <= levels[1]]
            for stage in used[max(frozen_stages - 1, 0) :]:
                replace_norms(self._last_block(stage), last_norm)

    def _last_block(self, stage: Stage) -> nn.Module:
        parts: list[nn.Module] = [self.body.get_submodule(name) for name in stage.modules]
        inside = [module for part in parts for module in part.modules()]
        blocks: list[nn.Module] = [m for m in inside if isinstance(m, BasicBlock | Bottleneck)]
        if not blocks:
            raise ValueError(
                "last_norm: this backbone has no residual stages. Leave it out, or take a resnet."
            )
        return blocks[-1]

    @property
    def trunk(self) -> nn.Module:
        """The part that :meth:`of_classifier` is for."""
        return network_in(self.body)

    def of_classifier(self, tensors: Tensors) -> Tensors:
        """The state dict of the trunk from that of the classifier with the same trunk.

        The classifier's head and the stages above the last one used are left out.

        Args:
            tensors: The state dict of the classifier.

        Returns:
            The state dict of the trunk.
        """
        return of_classifier(self.layout, self.body, tensors)


def _pyramid(
    layout: Layout, taps: Sequence[Stage], channels: int, extra: ExtraFPNBlock | None
) -> nn.Module:
    if isinstance(layout, TimmLayout) and layout.only is not None:
        levels = [stage.level for stage in taps]
        return SimplePyramid(layout.only, levels, layout.width, channels, extra)
    inputs = [stage.channels for stage in taps]
    fpn: nn.Module = FeaturePyramidNetwork(inputs, channels, extra)
    return fpn


def trunk_of(trunk: str | BasicBlocks, layout: Layout, levels: Sequence[int]) -> nn.Module:
    """A trunk that gives its maps by name, without what lies above the last of them.

    Args:
        trunk: The name of the trunk, or the shape of a network of basic blocks.
        layout: The layout of the trunk.
        levels: The levels of the maps, finest first. They are called "0", "1", ...

    Returns:
        The trunk.
    """
    if isinstance(layout, TimmLayout):
        return timm_trunk(layout, levels)
    taps = [stage for stage in layout.stages if stage.level in levels]
    places = {stage.modules[-1]: str(index) for index, stage in enumerate(taps)}
    body: nn.Module = IntermediateLayerGetter(network_of(trunk, layout), places)
    return body


def convert_trunk_norms(body: nn.Module, norm: Norm) -> None:
    """Give the batch normalisations of a trunk a behaviour, and say where it has none.

    Args:
        body: The trunk, as :func:`trunk_of` makes it.
        norm: The behaviour, see :func:`limbeck.models.norms.convert_norms`.

    Raises:
        ValueError: There is no such behaviour, or the trunk's normalisations do not have it.
    """
    of_batches = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d, FrozenBatchNormAct2d)
    if not any(isinstance(module, of_batches) for module in body.modules()):
        log.info("The trunk has no batch normalisation: norm=%r changes nothing.", norm)
    convert_norms(body, norm)


def network_in(body: nn.Module) -> nn.Module:
    """The network whose tensors a trunk has, under the names that its library gives them."""
    return body.model if isinstance(body, TimmTrunk) else body


def freeze_trunk(body: nn.Module, layout: Layout, last: int, count: int) -> None:
    """Freeze the first stages of a trunk.

    Args:
        body: The trunk, as :func:`trunk_of` makes it.
        layout: The layout of the trunk.
        last: The last level that is used.
        count: How many stages are frozen; the stem is the first.

    Raises:
        ValueError: There are not as many stages.
    """
    if not isinstance(body, TimmTrunk):
        used = [stage.modules for stage in layout.stages if stage.level <= last]
        freeze_stages(body, [layout.stem, *used], count)
        return
    freeze_stages(body.model, body.stages, count)
    if count:
        for parameter in body.model.parameters(recurse=False):  # a ViT's tokens and positions
            parameter.requires_grad_(False)


def freeze_stages(body: nn.Module, stages: Sequence[Sequence[str]], count: int) -> None:
    """Freeze the first stages of a trunk.

    Args:
        body: The trunk.
        stages: The stages, each the names of some of the trunk's children.
        count: How many of them are frozen.

    Raises:
        ValueError: There are not as many stages.
    """
    if not 0 <= count <= len(stages):
        raise ValueError(
            f"frozen_stages={count}: expected 0 to {len(stages)}, the stem and "
            f"{len(stages) - 1} stages that this backbone runs."
        )
    if count:
        names = [name for stage in stages[:count] for name in stage]
        freeze(body, names)  # type: ignore[no-untyped-call]


def of_classifier(layout: Layout, body: nn.Module, tensors: Tensors) -> Tensors:
    """The state dict of a trunk from that of a classifier, less the stages that it lacks."""
    if isinstance(layout, TimmLayout):
        return of_timms_classifier(layout, network_in(body), tensors)
    prefix, there = layout.prefix, {name for name, _ in body.named_children()}
    unused = [m for stage in layout.stages for m in stage.modules if m not in there]
    left_out = (layout.head, *(f"{prefix}{module}." for module in unused))
    kept = {name: value for name, value in tensors.items() if not name.startswith(left_out)}
    return {name.removeprefix(prefix): value for name, value in kept.items()}


def network_of(trunk: str | BasicBlocks, layout: Layout) -> nn.Module:
    """The trunk with its family's children, and those of its classifier where they are beside."""
    if isinstance(trunk, BasicBlocks):
        return BasicBlockResNet(**vars(trunk))
    classifier = torchvision.models.get_model(trunk.removeprefix("torchvision:"), weights=None)
    network: nn.Module = classifier.get_submodule(layout.prefix.rstrip("."))
    return network


def vgg_features(name: str) -> nn.Sequential:
    """A VGG's convolutions alone: its classifier would be 100 million values for nothing.

    Args:
        name: The name of the VGG, one of :data:`limbeck.trunks.VGGS`.

    Returns:
        The convolutions, ReLUs and poolings, initialised as torchvision's.
    """
    features: nn.Sequential = vgg.make_layers([*VGGS[name].config])
    for module in features:
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(cast(Tensor, module.bias))
    return features


def adapt(
    network: nn.Module,
    trunk: str | BasicBlocks,
    *,
    stride_in_1x1: bool,
    activation: Activation | None,
) -> None:
    """Change a network in place.

    Args:
        network: The network of the trunk.
        trunk: The name or shape of the trunk, for messages.
        stride_in_1x1: Whether its bottlenecks are strided in their first 1x1 convolution.
        activation: The activation in place of ReLU6, see :class:`Backbone`. None: its own.

    Raises:
        ValueError: The network has no bottlenecks, or no activations of the kind to be replaced.
    """
    if stride_in_1x1:
        _stride_in_1x1(network, trunk)
    if activation is not None:
        _leak(network, trunk, activation)


def _leak(network: nn.Module, trunk: str | BasicBlocks, activation: Activation) -> None:
    places = [name for name, module in network.named_modules() if isinstance(module, nn.ReLU6)]
    places = [] if is_timms(trunk) else places
    if not places or activation not in get_args(Activation):
        raise ValueError(
            f"activation={activation!r} for {trunk}: expected leaky_relu, in place of the ReLU6 of "
            "torchvision's mobilenet_v2, or none."
        )
    for name in places:
        network.set_submodule(name, nn.LeakyReLU(0.1, inplace=True))


def _stride_in_1x1(network: nn.Module, trunk: str | BasicBlocks) -> None:
    bottlenecks = [module for module in network.modules() if isinstance(module, Bottleneck)]
    if not bottlenecks:
        raise ValueError(
            f"stride_in_1x1=True: {trunk} has no bottleneck blocks of torchvision's. Leave it out, "
            "or take resnet50 or resnet101."
        )
    for block in bottlenecks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride
