"""Anchors of the detectors: their generators, default sizes, and the image sides that suit them."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from limbeck.frame import fixed_size
from limbeck.presets import Sizes
from limbeck.ranges import written

_KEPT = 8  # sizes of images whose anchors are kept; at 800 x 1344 pixels each has 4 MB


class KeptAnchors:
    """The anchors of the last few sizes of images: they are made, and brought to a device, once."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Tensor] = {}

    def of(self, images: ImageList, maps: Sequence[Tensor], make: Callable[[], Tensor]) -> Tensor:
        """The anchors of the images of one size.

        Args:
            images: The batch, padded.
            maps: The maps, (B, C, H, W), on whose cells the anchors lie.
            make: Makes the anchors (N, 4), where they are not kept.

        Returns:
            The anchors (N, 4), which are not to be changed in place.
        """
        grids = tuple(tuple(feature.shape[-2:]) for feature in maps)
        key = (tuple(images.tensors.shape[-2:]), grids, maps[0].dtype, maps[0].device)
        if key in self._kept:
            if not torch.compiler.is_compiling():
                self._kept[key] = self._kept.pop(key)  # the last one that was used
            return self._kept[key]
        with torch.inference_mode(False):  # a training step may need what evaluation made
            made = make()
        if not torch.compiler.is_compiling():  # what is made there is no tensor yet
            self._kept[key] = made
            for oldest in list(self._kept)[:-_KEPT]:
                del self._kept[oldest]
        return made


class FullPrecisionAnchorGenerator(AnchorGenerator):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's anchor generator, whose anchors have full precision whatever the maps have.

    torchvision gives anchors the type of the maps: under autocast to bfloat16 they would lie on a
    grid of 2 to 4 pixels in an image of 1000.

    Args:
        sizes: The sizes of the anchors at each level, in pixels.
        aspect_ratios: The heights of the anchors over their widths, at each level.
    """

    def __init__(self, sizes: Sizes, aspect_ratios: Sizes) -> None:
        super().__init__(sizes, aspect_ratios)
        self.kept = KeptAnchors()

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors (N, 4) of every image of a batch, which are one tensor."""

        def make() -> Tensor:
            first = ImageList(image_list.tensors, image_list.image_sizes[:1])
            anchors: Tensor = super(FullPrecisionAnchorGenerator, self).forward(
                first, feature_maps
            )[0]
            return anchors

        anchors = self.kept.of(image_list, feature_maps, make)
        return [anchors] * len(image_list.image_sizes)

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Bring the base anchors to that device, in that type or a wider one."""
        super().set_cell_anchors(torch.promote_types(dtype, torch.float32), device)


class ExactAnchorGenerator(FullPrecisionAnchorGenerator):
    """The anchors of detectron2 and mmdetection, whose sides and strides are not rounded.

    The order and the centres are torchvision's: the ratios vary slower than the sizes, and an
    anchor is centred on the upper left corner of its cell.

    Args:
        levels: The levels of the maps. Level k has a stride of 2**k pixels.
        sizes: The sizes of the anchors at each level, in pixels.
        aspect_ratios: The heights of the anchors over their widths, at each level.
    """

    def __init__(self, levels: Sequence[int], sizes: Sizes, aspect_ratios: Sizes) -> None:
        super().__init__(sizes, aspect_ratios)
        self.levels = tuple(levels)

    def generate_anchors(
        self,
        scales: Sequence[float],
        aspect_ratios: Sequence[float],
        dtype: torch.dtype = torch.float32,
        device: torch.device | None = None,
    ) -> Tensor:
        """The anchors of one cell at the origin, which are torchvision's without the rounding.

        Args:
            scales: The sizes of the anchors, in pixels.
            aspect_ratios: The heights of the anchors over their widths.
            dtype: The type of the anchors.
            device: The device of the anchors. None: torch's default one.

        Returns:
            The anchors (A, 4), xyxy.
        """
        sizes = torch.as_tensor(scales, dtype=dtype, device=device)
        heights = torch.as_tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        widths = 1 / heights
        w, h = ((side[:, None] * sizes).flatten() for side in (widths, heights))
        return torch.stack([-w, -h, w, h], dim=1) / 2

    def grid_anchors(self, grid_sizes: list[list[int]], strides: object) -> list[Tensor]:
        """The anchors of every cell of each level, at the level's exact stride.

        Args:
            grid_sizes: The (height, width) of each map, in cells.
            strides: torchvision's strides, ``image // grid``, which are not used.

        Returns:
            The anchors of each level, (H * W * A, 4).
        """
        exact = [[2**level, 2**level] for level in self.levels]
        anchors: list[Tensor] = super().grid_anchors(grid_sizes, exact)
        return anchors


def anchor_generator(
    levels: Sequence[int],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
    *,
    rounded: bool = True,
) -> AnchorGenerator:
    """A generator of anchors, after their sizes were checked against the levels.

    Args:
        levels: The levels of the maps, finest first.
        sizes: The sizes of the anchors at each level, in pixels.
        ratios: The heights of the anchors over their widths, the same at every level.
        rounded: Make torchvision's anchors, with rounded sides. Otherwise they are exact.

    Returns:
        The generator.

    Raises:
        ValueError: There is not one tuple of sizes for each level, or they differ in length.
    """
    per_level = tuple(tuple(of_level) for of_level in sizes)
    if len(per_level) != len(levels) or len({len(s) for s in per_level}) != 1 or not per_level[0]:
        raise ValueError(
            f"anchor_sizes={written(per_level)}: expected {len(levels)} tuples of sizes, one for "
            f"each of the levels {list(levels)}, all of one length (a head predicts for every "
            "level). Give each level its sizes."
        )
    per_level_ratios = (tuple(ratios),) * len(per_level)
    if rounded:
        return FullPrecisionAnchorGenerator(per_level, per_level_ratios)
    return ExactAnchorGenerator(levels, per_level, per_level_ratios)


def unsuited_side(model: nn.Module, height: int, width: int) -> str | None:
    """Say why images of a size do not suit the anchors of a detector, where they do not.

    torchvision's ``AnchorGenerator`` takes ``image // grid`` for the stride. Where the padded side
    is no multiple of a level's stride, that is too small (30 for 32 at a height of 240), and
    anchors lie beside the cells that predict for them. Those of :class:`ExactAnchorGenerator` never
    do.

    The default boxes of an SSD are parts of the image, which it resizes to one size in evaluation,
    as ShuffleDet and YOLOv2 do: with images of another size it learns another task.

    Args:
        model: The detector.
        height: The height of the images as the network sees them, before it pads them, in pixels.
        width: The width of these images, in pixels.

    Returns:
        The reason, in sentences, or None where the size suits.
    """
    strides = getattr(model, "strides", ())
    generators = [m for m in model.modules() if isinstance(m, AnchorGenerator)]
    fixed = fixed_size(model)
    if fixed is not None and fixed != (height, width):
        return (
            f"Images are of {height} x {width} pixels in training (height, width), and resized to "
            f"{fixed[0]} x {fixed[1]} in evaluation. Give the data's augmentation "
            f"size: [{fixed[0]}, {fixed[1]}], or the model another image_size."
        )
    if not strides or all(isinstance(m, ExactAnchorGenerator) for m in generators):
        return None
    transform: Any = model.get_submodule("transform")
    multiple: int = transform.size_divisible
    messages = [
        message
        for name, side in (("height", height), ("width", width))
        if (message := _drift(name, math.ceil(side / multiple) * multiple, strides))
    ]
    return " ".join(messages) or None


def _drift(name: str, side: int, strides: Sequence[int]) -> str | None:
    """What happens at the level that is worst off on a padded side."""
    stride = max(strides, key=lambda stride: _offset(side, stride))
    if not _offset(side, stride):
        return None
    cells = math.ceil(side / stride)
    suited = math.ceil(side / max(strides)) * max(strides)
    return (
        f"Images of padded {name} {side} have {cells} cells at stride {stride}: torchvision's "
        f"anchors are then {side // cells} pixels apart, not {stride}, and drift by up to "
        f"{_offset(side, stride)} pixels. Use a {name} that is a multiple of {max(strides)}, "
        f"such as {suited}."
    )


def _offset(side: int, stride: int) -> int:
    """How far the last cell's anchors lie from it, in pixels."""
    cells = math.ceil(side / stride)
    return (stride - side // cells) * (cells - 1)
