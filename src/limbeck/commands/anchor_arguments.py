"""Anchors in the arguments of a detector: what the present ones are, and which cover objects best.

A detector of each kind has its own arguments for anchors, and makes anchors of them in its own way.
Here each kind says what its arguments are, which anchors they make, and what suits objects at first
sight; one search improves any of them. How many anchors a cell has stays as it is, and with it what
the detector costs, and which weights fit it.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

from limbeck.data.coverage import AnchorLevel, Coverage, Objects, searched
from limbeck.models import SSD, FasterRCNN, FasterRCNNC4, RetinaNet
from limbeck.models.detection.c4.presets import C4Preset
from limbeck.models.detection.detector import Detector
from limbeck.models.detection.parts.anchors import anchor_generator
from limbeck.models.detection.ssd.boxes import default_boxes

Arguments = dict[str, Any]

_SAMPLE = 3000  # objects that a search looks at: more change the third digit
_SMALLEST = 2.0  # pixels of an anchor's side
_FROM, _TO = 0.03, 0.97  # the parts of the objects' sizes between which a first guess lies


class AnchorArguments(ABC):
    """The arguments of a detector that make its anchors.

    Args:
        detector: The detector, which may be on the device ``meta``.

    Attributes:
        detector: The detector.
        present: Its arguments, as YAML states them.
    """

    present: Arguments

    def __init__(self, detector: Any) -> None:
        self.detector = detector

    @property
    @abstractmethod
    def threshold(self) -> float:
        """The IoU with an object from which an anchor learns it."""

    @abstractmethod
    def levels(self, arguments: Arguments) -> list[AnchorLevel]:
        """The anchors of each map that arguments make."""

    @abstractmethod
    def at_first_sight(self, objects: Objects) -> Arguments:
        """Arguments that follow from the sizes of objects, and are not bad."""

    @abstractmethod
    def in_order(self, arguments: Arguments) -> bool:
        """Whether larger anchors are on coarser maps, and no two ratios change places."""

    def coverage(self, objects: Objects, arguments: Arguments) -> Coverage:
        """How well the anchors that arguments make cover objects."""
        return Coverage.of(objects, self.levels(arguments), self.threshold)

    def best(self, objects: Objects) -> Arguments:
        """The arguments that cover objects best.

        What is searched for is the largest sum of the share of the objects that an anchor learns,
        and of the mean IoU of each object with its best anchor, from the present arguments on and
        from :meth:`at_first_sight` on.

        Args:
            objects: The objects.

        Returns:
            The arguments, in numbers of three digits.
        """
        some = objects.sample(_SAMPLE)
        found = []
        for begin in (self.present, self.at_first_sight(some)):

            def score(values: Sequence[float], like: Arguments = begin) -> float:
                return self._score(some, _filled(like, iter(values)))

            values = searched(list(_numbers(begin)), score)
            found.append(_filled(begin, (float(f"{value:.3g}") for value in values)))
        return max([self.present, *found], key=lambda arguments: self._score(some, arguments))

    def _score(self, objects: Objects, arguments: Arguments) -> float:
        if not self.in_order(arguments):
            return -math.inf
        levels = self.levels(arguments)
        sides = torch.cat([each.anchors[:, 2:] - each.anchors[:, :2] for each in levels])
        if sides.min() < _SMALLEST:
            return -math.inf
        found = Coverage.of(objects, levels, self.threshold)
        return found.recall + found.mean


class SizesAndRatios(AnchorArguments):
    """``anchor_sizes`` by level and ``aspect_ratios`` of RetinaNet and of both Faster R-CNNs."""

    detector: RetinaNet | FasterRCNN | FasterRCNNC4

    def __init__(self, detector: RetinaNet | FasterRCNN | FasterRCNNC4) -> None:
        super().__init__(detector)
        part: Any = detector if isinstance(detector, RetinaNet) else detector.rpn
        made = part.anchor_generator
        self.present = {
            "anchor_sizes": [list(map(float, of_level)) for of_level in made.sizes],
            "aspect_ratios": list(map(float, made.aspect_ratios[0])),
        }
        self._threshold: float = part.proposal_matcher.high_threshold

    @property
    def threshold(self) -> float:
        """The IoU from which RetinaNet, or the region proposal network, learns an object."""
        return self._threshold

    def levels(self, arguments: Arguments) -> list[AnchorLevel]:
        """The anchors of each level, as the detector's own generator makes them."""
        made = self._generator(arguments["anchor_sizes"], arguments["aspect_ratios"])
        pairs = zip(self.detector.levels, made.cell_anchors, strict=True)
        return [AnchorLevel(level, anchors, (2.0**level, 2.0**level)) for level, anchors in pairs]

    def _generator(self, sizes: Any, ratios: Any) -> AnchorGenerator:
        preset = self.detector.preset
        if isinstance(preset, C4Preset):
            return preset.anchors(sizes, ratios)
        rounded = preset.rounded_anchors
        return anchor_generator(self.detector.levels, sizes, ratios, rounded=rounded)

    def at_first_sight(self, objects: Objects) -> Arguments:
        """Sizes in even steps from the smallest objects to the largest, and typical ratios."""
        width, height = objects.sizes.unbind(1)
        per_level = [len(of_level) for of_level in self.present["anchor_sizes"]]
        sizes = iter(_steps((width * height).sqrt(), sum(per_level)))
        ratios = len(self.present["aspect_ratios"])
        middles = torch.tensor([(each + 0.5) / ratios for each in range(ratios)])
        return {
            "anchor_sizes": [[next(sizes) for _ in range(count)] for count in per_level],
            "aspect_ratios": (height / width).quantile(middles).tolist(),
        }

    def in_order(self, arguments: Arguments) -> bool:
        """Whether no size is larger than one of a coarser level."""
        sizes = [size for of_level in arguments["anchor_sizes"] for size in of_level]
        return _ascend(sizes) and _ascend(arguments["aspect_ratios"])


class ScalesAndRatios(AnchorArguments):
    """``scales`` and ``aspect_ratios`` by level of SSD's default boxes."""

    detector: SSD

    def __init__(self, detector: SSD) -> None:
        super().__init__(detector)
        made: Any = detector.anchor_generator
        self.present = {
            "scales": list(map(float, made.scales)),
            "aspect_ratios": [list(map(float, of_level)) for of_level in made.aspect_ratios],
        }
        self.height, self.width = detector.arguments["image_size"]
        device = next(detector.parameters()).device
        with torch.no_grad():
            images = torch.zeros(1, 3, self.height, self.width, device=device)
            maps = detector.backbone(images)  # type: ignore[operator]  # a module
        self._cells = [(m.shape[-1], m.shape[-2]) for m in maps.values()]
        self._steps = made.steps

    @property
    def threshold(self) -> float:
        """The IoU from which a default box learns an object."""
        threshold: float = self.detector.proposal_matcher.high_threshold
        return threshold

    def levels(self, arguments: Arguments) -> list[AnchorLevel]:
        """The default boxes of each level, which lie in the middle of their cells."""
        count = len(self._cells)
        made = default_boxes(count, arguments["scales"], arguments["aspect_ratios"], self._steps)
        found = []
        for place, (columns, rows) in enumerate(self._cells):
            step = self._steps[place] if self._steps else None
            stride = (step or self.width / columns, step or self.height / rows)
            half = made._wh_pairs[place].clamp(0, 1) * torch.tensor([self.width, self.height]) / 2
            middle = torch.tensor(stride) / 2
            boxes = torch.cat([middle - half, middle + half], dim=1)
            level = self.detector.levels[place]
            found.append(AnchorLevel(level, boxes, stride, (columns, rows)))
        return found

    def at_first_sight(self, objects: Objects) -> Arguments:
        """Scales in even steps from the smallest objects to the largest, and the present ratios."""
        parts = objects.sizes / torch.tensor([self.width, self.height])
        scales = _steps(parts.prod(dim=1).sqrt(), len(self._cells))
        last = scales[-1] ** 2 / scales[-2] if len(scales) > 1 else scales[-1] * 1.5
        return {"scales": [*scales, last], "aspect_ratios": self.present["aspect_ratios"]}

    def in_order(self, arguments: Arguments) -> bool:
        """Whether scales ascend, and each level's ratios do from 1 on, which every level has."""
        ratios = arguments["aspect_ratios"]
        return _ascend(arguments["scales"]) and all(_ascend([1.0, *each]) for each in ratios)


def anchor_arguments(detector: object) -> AnchorArguments | None:
    """The arguments of a detector's anchors, or None where it has no anchors to choose."""
    if isinstance(detector, RetinaNet | FasterRCNN | FasterRCNNC4):
        return SizesAndRatios(detector)
    return ScalesAndRatios(detector) if isinstance(detector, SSD) else None


def objects_seen(
    detector: Detector, dataset: Any, image_size: tuple[int, int] | None = None
) -> Objects:
    """The objects to learn from of a dataset, as a detector sees them in evaluation mode.

    Args:
        detector: The detector.
        dataset: The dataset.
        image_size: The (height, width) in pixels that every image is brought to. None: as the
            detector resizes images.

    Returns:
        The objects.
    """
    transform = detector.transform
    fixed = transform.fixed_size
    size = image_size or (None if fixed is None else (fixed[1], fixed[0]))
    nearest = detector.preset.size_rounding == "nearest"

    def seen(extents: Tensor) -> Tensor:
        if size is not None:
            return torch.tensor(size, dtype=torch.float64).expand_as(extents)
        sides = extents.double()
        scale = (transform.min_size[0] / sides.amin(dim=1)).minimum(
            transform.max_size / sides.amax(dim=1)
        )
        # A millionth, as 240 of 240 pixels are not to become 239.
        resized: Tensor = (sides * scale[:, None] + (0.5 if nearest else 1e-6)).floor()
        return resized

    return Objects.of(dataset, seen, transform.size_divisible)


def _steps(sizes: Tensor, count: int) -> list[float]:
    """So many sizes, in equal ratios from the smallest typical one to the largest."""
    smallest, largest = sizes.quantile(torch.tensor([_FROM, _TO])).log().tolist()
    found: list[float] = torch.linspace(smallest, largest, count + 2)[1:-1].exp().tolist()
    return found


def _ascend(values: Sequence[float]) -> bool:
    return all(before <= value for before, value in pairwise(values))


def _numbers(nested: Any) -> Iterator[float]:
    """All numbers of nested lists and mappings, in their order."""
    if isinstance(nested, dict):
        nested = list(nested.values())
    if not isinstance(nested, list):
        yield float(nested)
        return
    for each in nested:
        yield from _numbers(each)


def _filled(like: Any, values: Iterator[float]) -> Any:
    """Nested lists and mappings of the same form, with other numbers."""
    if isinstance(like, dict):
        return {name: _filled(each, values) for name, each in like.items()}
    return [_filled(each, values) for each in like] if isinstance(like, list) else next(values)
