"""How well anchors cover the objects of a dataset, where the anchors really lie.

A detector's anchors have their places: one set of shapes on every cell of each map. An object has
its best IoU with the shapes of the nearest cell, which is less than with the same shapes laid over
its centre: on a map of stride 32 an object of 40 pixels may lie 16 pixels off in either direction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck.data.base import VisionDataset
from limbeck.data.cluster import object_boxes

_STEPS = (1.3, 1.12, 1.05)  # the factors that a search tries, the widest first
_ROUNDS = 20  # of a factor, at most
_FEWEST = 1e-3  # by which a change has to be better


@dataclass(frozen=True)
class Objects:
    """The objects of a dataset, in the pixels that a network sees.

    Attributes:
        boxes: Their boxes, xyxy, (N, 4).
        extents: The (height, width) of the image of each with its padding, (N, 2).
    """

    boxes: Tensor
    extents: Tensor

    @classmethod
    def of(
        cls, dataset: VisionDataset, seen: Callable[[Tensor], Tensor], multiple: int = 1
    ) -> "Objects":
        """The objects to learn from of a dataset, of which no image is decoded.

        Args:
            dataset: A dataset for detection.
            seen: Gives for the (height, width) of images, (N, 2), in pixels, those that the
                network sees.
            multiple: What the network pads both sides to multiples of, in pixels.

        Returns:
            The objects.

        Raises:
            ValueError: The dataset is not for detection, or has no objects.
        """
        boxes, extents = object_boxes(dataset)
        resized = seen(extents)
        scale = (resized / extents).flip(1).float()
        padded = (resized.float() / multiple).ceil() * multiple
        return cls(boxes * scale.repeat(1, 2), padded)

    @property
    def sizes(self) -> Tensor:
        """The (width, height) of the objects, (N, 2)."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    def sample(self, most: int) -> "Objects":
        """These objects, or so many of them that are drawn with one seed."""
        if len(self.boxes) <= most:
            return self
        drawn = torch.randperm(len(self.boxes), generator=torch.Generator().manual_seed(0))[:most]
        return Objects(self.boxes[drawn], self.extents[drawn])


@dataclass(frozen=True)
class AnchorLevel:
    """The anchors of one map, which has the same ones on every cell.

    Attributes:
        level: The level k of the map, whose stride is about 2**k pixels.
        anchors: The anchors of the first cell, xyxy, (A, 4), in pixels.
        stride: The distance from cell to cell, (x, y), in pixels.
        cells: The number of cells, (x, y). None: as many as the padded image of an object has.
    """

    level: int
    anchors: Tensor
    stride: tuple[float, float]
    cells: tuple[int, int] | None = None

    def best_iou(self, objects: Objects) -> Tensor:
        """The best IoU of each object with any anchor of the map, (N,)."""
        extents = objects.extents.flip(1)  # (N, 2), x and y
        common: Tensor | float = 1.0
        for axis in (0, 1):
            stride = self.stride[axis]
            cells = (
                self.cells[axis] if self.cells else (extents[:, axis : axis + 1] / stride).ceil()
            )
            low, high = objects.boxes[:, axis, None], objects.boxes[:, axis + 2, None]  # (N, 1)
            first, last = self.anchors[:, axis], self.anchors[:, axis + 2]  # (A,)
            # No other cell's anchor has more in common with the object than the nearest one's.
            cell = ((low + high - first - last) / 2 / stride).round()
            cell = cell.clamp(min=0).minimum(torch.as_tensor(cells) - 1)
            shift = cell * stride
            common = common * (high.minimum(last + shift) - low.maximum(first + shift)).clamp(min=0)
        areas = objects.sizes.prod(dim=1)[:, None]
        own = (self.anchors[:, 2:] - self.anchors[:, :2]).prod(dim=1)
        iou: Tensor = common / (areas + own - common)
        return iou.amax(dim=1)


@dataclass(frozen=True)
class Coverage:
    """How well anchors cover objects.

    Attributes:
        iou: The best IoU of each object with any anchor, (N,).
        level: The position, among the levels, of the one that the best anchor is of, (N,).
        threshold: The IoU from which an anchor learns an object.
    """

    iou: Tensor
    level: Tensor
    threshold: float

    @classmethod
    def of(
        cls, objects: Objects, levels: Sequence[AnchorLevel], threshold: float = 0.0
    ) -> "Coverage":
        """Measure it.

        Args:
            objects: The objects.
            levels: The anchors of each map.
            threshold: The IoU from which an anchor learns an object.

        Returns:
            The coverage.
        """
        iou, level = torch.stack([each.best_iou(objects) for each in levels]).max(dim=0)
        return cls(iou, level, threshold)

    @property
    def recall(self) -> float:
        """The share of the objects that an anchor covers by the threshold or more."""
        return self.share(torch.ones_like(self.level, dtype=torch.bool))

    @property
    def mean(self) -> float:
        """The mean of the best IoU of each object."""
        return self.iou.mean().item()

    def share(self, of: Tensor) -> float:
        """The share of some objects, a mask (N,), that anchors cover; NaN where there is none."""
        return (self.iou[of] >= self.threshold).float().mean().item()


def searched(
    values: Sequence[float],
    score: Callable[[Sequence[float]], float],
) -> list[float]:
    """Improve positive numbers one after the other, by factors that become smaller.

    Args:
        values: The numbers to begin with.
        score: What is to be as large as possible; minus infinity for numbers that must not be.

    Returns:
        The numbers, of which no single one is better by a twentieth more or less.
    """
    best, reached = list(values), score(values)
    for factor in _STEPS:
        for _ in range(_ROUNDS):
            before = reached
            for place in range(len(best)):
                for each in (factor, 1 / factor):
                    tried = [*best[:place], best[place] * each, *best[place + 1 :]]
                    found = score(tried)
                    if found > reached:
                        best, reached = tried, found
            if reached < before + _FEWEST:
                break
    return best
