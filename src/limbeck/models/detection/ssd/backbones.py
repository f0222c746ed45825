"""What an SSD's maps come from: torchvision's two backbones, and light trunks with further levels.

Sides of the maps of an image of 300 pixels are 38, 19, 10, 5, 3 and 1 in torchvision's SSD300 and
in a light backbone of the levels 3 to 8; those of 320 pixels are 20, 10, 5, 3, 2 and 1 in its
SSDLite and in one of the levels 4 to 9.
"""

import math
import re
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG, _xavier_init
from torchvision.models.detection.ssdlite import (
    SSDLiteFeatureExtractorMobileNet,
    _extra_block,
    _normal_init,
)
from torchvision.ops import Conv2dNormActivation

from limbeck.checkpoints.tensors import Tensors
from limbeck.models.detection.parts.backbones import (
    convert_trunk_norms,
    freeze_stages,
    freeze_trunk,
    layout_of,
    network_in,
    of_classifier,
    trunk_of,
    vgg_features,
)
from limbeck.models.detection.parts.timm_trunks import refuse_plain, refuse_rounded_down
from limbeck.models.norms import Norm, convert_norms
from limbeck.models.resnet import BasicBlocks

_VGG16_SMALLEST = 268  # side of an image whose last map has one cell
_EXTRA_CHANNELS = (512, 256)  # of SSD300's: 512, and 256 from there on


class MapNorm(nn.BatchNorm2d):
    """Batch normalisation that takes a single value a channel, too.

    The last map has one cell; of one image, it has no variance, and is normalised as in evaluation.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not self.training or x.numel() > x.shape[1]:
            return super().forward(x)
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x, mean, var, self.weight, self.bias, training=False, eps=self.eps)


LITE_NORM = partial(MapNorm, eps=0.001, momentum=0.03)  # of torchvision's SSDLite


class LightBackbone(nn.Module):
    """Maps of a trunk, and of strided blocks above it.

    Each of these blocks halves the map's sides, rounded up; the last one brings 3 cells to 1.

    Args:
        trunk: The name of the trunk, or the shape of a network of basic blocks.
        levels: The first and the last level of the maps. Those above the trunk's are the blocks'.
            Level k has a stride of 2**k pixels.
        image_size: The height and the width of the images, in pixels.
        channels: The channels of the blocks' outputs; the last number goes for all that follow.
            None: as in SSD300.
        lite: Whether the blocks are depthwise separable, as in SSDLite.
        norm: The behaviour of the trunk's batch normalisations. The blocks' own are trained.
        frozen_stages: How many stages of the trunk from below are not trained.

    Raises:
        ValueError: The trunk has no such levels or stages, or the images are too small for them.
    """

    def __init__(
        self,
        trunk: str | BasicBlocks,
        levels: tuple[int, int],
        image_size: tuple[int, int],
        *,
        channels: Sequence[int] | None = None,
        lite: bool = False,
        norm: Norm = "frozen",
        frozen_stages: int = 0,
    ) -> None:
        super().__init__()
        first, last = levels
        self.layout = layout = layout_of(trunk)
        refuse_plain(layout)
        bottom, top = layout.stages[0].level, layout.top
        sides = [math.ceil(side / 2 ** max(last - 1, 0)) for side in image_size]
        if not bottom <= first <= min(last, top) or max(sides) == 1:
            raise ValueError(
                f"levels=({first}, {last}), image_size={tuple(image_size)}: this backbone has "
                f"C{bottom} to C{top}, and level k one cell for 2**k pixels. Begin at {bottom} to "
                f"{top}, and end no later than where one cell is left."
            )
        refuse_rounded_down(layout, image_size)
        maps = [stage for stage in layout.stages if first <= stage.level <= last]
        self.levels = tuple(stage.level for stage in maps)
        self.body = trunk_of(trunk, layout, self.levels)
        freeze_trunk(self.body, layout, last, frozen_stages)
        convert_trunk_norms(self.body, norm)
        widths = tuple(_EXTRA_CHANNELS if channels is None else channels)
        if not widths:
            raise ValueError("extra_channels=(): expected one number or more, or None.")
        self.out_channels = [stage.channels for stage in maps]
        self.extra = nn.ModuleList()
        for index in range(last - top):
            width = widths[min(index, len(widths) - 1)]
            self.extra.append(_block(self.out_channels[-1], width, lite))
            self.out_channels.append(width)
        if len(self.extra):
            _unpad(self.extra[-1], sides)

    @property
    def trunk(self) -> nn.Module:
        """The part that :meth:`of_classifier` is for."""
        return network_in(self.body)

    def of_classifier(self, tensors: Tensors) -> Tensors:
        """The trunk's state dict from that of the classifier that it belongs to."""
        return of_classifier(self.layout, self.body, tensors)

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """(B, 3, H, W), normalised -> one map (B, C, h, w) for each level, finest first."""
        maps: OrderedDict[str, Tensor] = self.body(images)
        x = maps[str(len(maps) - 1)]
        for block in self.extra:
            x = block(x)
            maps[str(len(maps))] = x
        return maps


def _block(inputs: int, outputs: int, lite: bool) -> nn.Sequential:
    """A block of stride 2; its strided convolution is ``[1][0]``."""
    if lite:
        block: nn.Sequential = _extra_block(inputs, outputs, MapNorm)
        _normal_init(block)
        return block
    middle = outputs // 2
    block = nn.Sequential(
        Conv2dNormActivation(inputs, middle, kernel_size=1, norm_layer=MapNorm),
        Conv2dNormActivation(middle, outputs, kernel_size=3, stride=2, norm_layer=MapNorm),
    )
    _xavier_init(block)
    return block


def _unpad(block: nn.Module, sides: Sequence[int]) -> None:
    """Of a map with these sides: without padding, 3 cells become 1; with it, 2."""
    convolution = block.get_submodule("1.0")
    assert isinstance(convolution, nn.Conv2d)
    height, width = (0 if side == 3 else 1 for side in sides)
    convolution.padding = (height, width)


class VGG16(SSDFeatureExtractorVGG):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's backbone of SSD300, for images of any size from 268 pixels.

    Args:
        image_size: The height and the width of the images, in pixels.
        frozen_stages: How many stages from below are not trained: 1 is conv1, 5 conv1 to conv5.

    Raises:
        ValueError: The images are too small, or there are not as many stages.
    """

    def __init__(self, image_size: tuple[int, int], frozen_stages: int) -> None:
        if min(image_size) < _VGG16_SMALLEST:
            raise ValueError(
                f"image_size={tuple(image_size)}: the last maps of vgg16 are made without padding, "
                f"and need sides of {_VGG16_SMALLEST} pixels or more. Take larger images, or "
                "another backbone."
            )
        features = vgg_features("vgg16")
        pools = [i for i, module in enumerate(features) if isinstance(module, nn.MaxPool2d)]
        freeze_stages(features, _spans([0, *pools]), frozen_stages)
        super().__init__(features, highres=False)
        self.out_channels = (512, 1024, 512, 256, 256, 256)

    @property
    def trunk(self) -> nn.Module:
        """conv1 to conv5, under the names that they have in ``vgg16().features``."""
        return nn.Sequential(*self.features, *list(self.extra[0])[:-1])

    def of_classifier(self, tensors: Tensors) -> Tensors:
        """The trunk's state dict from that of ``vgg16()``."""
        return _features(tensors)


class MobileNetV3(SSDLiteFeatureExtractorMobileNet):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's backbone of SSDLite.

    Args:
        reduced_tail: Whether the last stage has half its channels, as in torchvision's weights of
            COCO.
        norm: The behaviour of the trunk's batch normalisations.
        frozen_stages: How many stages from below are not trained, at most 6.

    Raises:
        ValueError: There are not as many stages.
    """

    def __init__(self, *, reduced_tail: bool, norm: Norm, frozen_stages: int) -> None:
        eps = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
        trunk = torchvision.models.mobilenet_v3_large(reduced_tail=reduced_tail, norm_layer=eps)
        features = trunk.features
        _normal_init(features)
        strided = [i for i, block in enumerate(features) if getattr(block, "_is_cn", False)]
        starts = [0, *strided, len(features) - 1]
        freeze_stages(features, _spans([*starts, len(features)]), frozen_stages)
        last = features[-1].out_channels
        super().__init__(features, strided[-1], LITE_NORM)
        convert_norms(self.features, norm)
        self.split = strided[-1]
        self.out_channels = [self.features[0][-1].out_channels, last, 512, 256, 256, 128]

    @property
    def trunk(self) -> nn.Module:
        """MobileNetV3, in two parts."""
        features: nn.Module = self.features
        return features

    def of_classifier(self, tensors: Tensors) -> Tensors:
        """The trunk's state dict from that of ``mobilenet_v3_large()``."""
        return {self._place(name): value for name, value in _features(tensors).items()}

    def _place(self, name: str) -> str:
        """``"12.rest"`` of the trunk's children, as torchvision's extractor splits them."""
        child, _, rest = name.partition(".")
        if int(child) < self.split:
            return f"0.{name}"
        if int(child) > self.split:
            return f"1.{int(child) - self.split}.{rest}"
        if rest.startswith("block.0."):
            return f"0.{self.split}.{rest.removeprefix('block.0.')}"
        return f"1.0.{rest.removeprefix('block.')}"


def _spans(bounds: Sequence[int]) -> list[list[str]]:
    """Names of the children from each bound up to the next."""
    return [[str(i) for i in range(start, stop)] for start, stop in pairwise(bounds)]


def _features(tensors: Tensors) -> Tensors:
    """Less the classifier's head."""
    found = ((re.fullmatch(r"features\.(.+)", name), value) for name, value in tensors.items())
    return {match[1]: value for match, value in found if match}
