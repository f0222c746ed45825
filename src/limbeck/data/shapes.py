"""A generated dataset of five shapes on noisy ground, which a good detector reads better."""

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torchvision import tv_tensors

from limbeck.data.base import Target, Task, VisionDataset
from limbeck.ranges import Range, refuse_outside

Pixels = NDArray[np.float32]

SHAPES = ("circle", "square", "triangle", "ring", "cross")
SMALLEST, LARGEST = 12, 44  # side of an object, pixels
MOST_OBJECTS = 5
MOST_LINES = 3
CONTRAST = 0.45  # least L1 distance of an object's colour from the ground under it
NOISE = 0.08
PLACES = 64  # places tried for an object before it is left out
COLOURS = 16  # colours tried for an object
MARGIN = 2  # pixels between two objects

_RANGES = {
    "size": Range(2 * SMALLEST, 8192),  # an object is at most half as large as its image
    "count": Range(1, 10**9),  # a sampler holds 8 bytes for each
    "seed": Range(0, 2**63 - 1),
}


class Shapes(VisionDataset):
    """Circles, squares, triangles, rings and crosses, drawn on demand.

    Image ``index`` is a function of ``(seed, index)`` alone, so a set of a million images costs
    nothing until they are drawn, and a long training run never sees an image twice. Give training
    and validation different seeds: with the same seed they share their first images.

    An image has 1 to 5 objects of 12 to 44 pixels (log-uniform; at most half the image), which
    never overlap, so that boxes are tight. Colour says nothing about the class: it is drawn at
    random, at least 0.45 (L1, of RGB in [0, 1]) from the mean of the ground under the object; half
    of the objects are striped. The ground is 4x4 random colours, interpolated, with up to 3 lines
    across; Gaussian noise of 0.08 lies over everything.

    Args:
        task: The task of the targets. For ``"classification"`` each image has one object, whose
            class is the target.
        size: The height and width of the images, in pixels.
        count: The number of images.
        seed: The number that tells such sets apart.

    Raises:
        ValueError: ``task`` is unknown, or ``size``, ``count`` or ``seed`` is outside of its range.

    Example:
        >>> from limbeck.data import Shapes
        >>> image, target = Shapes(count=100)[7]
        >>> tuple(image.shape), target["boxes"].shape[1]
        ((3, 96, 96), 4)
    """

    def __init__(
        self, task: Task = "detection", size: int = 96, count: int = 1000, seed: int = 0
    ) -> None:
        if task not in ("detection", "classification"):
            raise ValueError(f"task is {task!r}; give 'detection' or 'classification'")
        refuse_outside(_RANGES, {"size": size, "count": count, "seed": seed})
        self.task = task
        self.classes = SHAPES
        self.size = size
        self.count = count
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def image_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of every image in pixels, which is ``(size, size)``."""
        self._check(index)
        return self.size, self.size

    def __getitem__(self, index: int) -> tuple[tv_tensors.Image, Target]:
        self._check(index)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(index,)))
        canvas = draw_ground(rng, self.size)
        most = MOST_OBJECTS if self.task == "detection" else 1
        boxes = place_boxes(rng, self.size, int(rng.integers(1, most + 1)))
        kinds = rng.integers(len(SHAPES), size=len(boxes))
        for kind, (x1, y1, x2, y2) in zip(kinds.tolist(), boxes.tolist(), strict=True):
            paint(rng, canvas[y1:y2, x1:x2], shape_mask(SHAPES[kind], x2 - x1))
        canvas += NOISE * rng.standard_normal(canvas.shape, dtype=np.float32)
        image = torch.from_numpy((canvas.clip(0, 1) * 255 + 0.5).astype(np.uint8))
        return tv_tensors.Image(image.permute(2, 0, 1)), self._target(index, kinds, boxes)

    def _check(self, index: int) -> None:
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} of a set of {self.count} images")

    def _target(self, index: int, kinds: NDArray[np.int64], boxes: NDArray[np.int64]) -> Target:
        if self.task == "classification":
            return torch.tensor(int(kinds[0]))
        corners = torch.from_numpy(boxes).float()
        return {
            "boxes": tv_tensors.BoundingBoxes(
                corners, format="XYXY", canvas_size=(self.size, self.size)
            ),
            "labels": torch.from_numpy(kinds) + 1,
            "image_id": torch.tensor(index),
            "area": (corners[:, 2:] - corners[:, :2]).prod(dim=1),
            "iscrowd": torch.zeros(len(boxes), dtype=torch.int64),
        }


def draw_ground(rng: np.random.Generator, size: int) -> Pixels:
    """Draw the background with its lines, float32 (size, size, 3) in [0, 1]."""
    corners = rng.random((4, 4, 3), dtype=np.float32)
    spread = interpolation(size)
    rows = np.einsum("yi,ijc->yjc", spread, corners)
    ground: Pixels = np.matmul(spread, rows)  # (W, 4) @ (H, 4, 3) -> (H, W, 3)
    axis = np.arange(size, dtype=np.float32)
    for _ in range(rng.integers(MOST_LINES + 1)):
        angle = rng.uniform(0, math.pi)
        normal_x, normal_y = math.cos(angle), math.sin(angle)
        through_x, through_y = rng.uniform(0, size, 2)
        distance = (axis - through_x) * normal_x + (axis[:, None] - through_y) * normal_y
        ground[np.abs(distance) < rng.uniform(0.5, 1.5)] = rng.random(3, dtype=np.float32)
    return ground


@functools.cache
def interpolation(size: int) -> Pixels:
    """The matrix (size, 4) that interpolates four values linearly to ``size`` values."""
    four = torch.eye(4)[None]
    wide = F.interpolate(four, size=size, mode="linear", align_corners=False)
    matrix: Pixels = np.ascontiguousarray(wide[0].T.numpy())
    return matrix


def place_boxes(rng: np.random.Generator, size: int, wanted: int) -> NDArray[np.int64]:
    """Place square boxes at random so that they do not touch.

    Args:
        rng: The random numbers.
        size: The height and width of the image, in pixels.
        wanted: The number of boxes to place, at least 1.

    Returns:
        The boxes that found room, at least one: x1, y1, x2, y2 in pixels, int64 (N, 4).
    """
    low, high = math.log(SMALLEST), math.log(min(LARGEST, size // 2) + 1)
    sides = np.exp(rng.uniform(low, high, wanted)).astype(np.int64)
    placed = np.empty((0, 4), dtype=np.int64)
    for side in np.sort(sides)[::-1]:  # small ones still find room beside large ones
        corner = rng.integers(0, size - side + 1, size=(PLACES, 2))
        boxes = np.concatenate([corner, corner + side], axis=1)
        gaps = np.maximum(
            boxes[:, None, :2] - placed[None, :, 2:], placed[None, :, :2] - boxes[:, None, 2:]
        )  # (PLACES, placed, x and y), negative where the two overlap in that direction
        free = (gaps.max(axis=2) >= MARGIN).all(axis=1)
        if free.any():
            placed = np.concatenate([placed, boxes[free.argmax()][None]])
    return placed


@functools.cache
def shape_mask(shape: str, side: int) -> NDArray[np.bool_]:
    """Which pixels of its box a shape covers, bool (side, side); it touches all four sides."""
    axis = (np.arange(side) + 0.5) * 2 / side - 1
    x, y = np.abs(axis)[None, :], axis[:, None]
    radius = x**2 + y**2
    masks = {
        "circle": radius <= 1,
        "square": np.full((side, side), True),
        "triangle": x <= (y + 1) / 2 + 0.6 / side,  # half a pixel wider: the tip is a pixel
        "ring": (radius <= 1) & (radius >= 0.3),
        "cross": (x <= 0.36) | (np.abs(y) <= 0.36),
    }
    return masks[shape]


def paint(rng: np.random.Generator, ground: Pixels, mask: NDArray[np.bool_]) -> None:
    """Paint one object over the ground of its box, in place.

    Args:
        rng: The random numbers, which decide its colour and stripes.
        ground: The ground of its box, float32 (side, side, 3) in [0, 1].
        mask: The pixels that the object covers, bool (side, side).
    """
    colours = rng.random((COLOURS, 3), dtype=np.float32)
    distance = np.abs(colours - ground.mean(axis=(0, 1))).sum(axis=1)
    colour = colours[np.minimum(distance, CONTRAST).argmax()]  # the first that is far enough
    if rng.random() < 0.5:
        ground[mask] = colour
        return
    angle, period, phase = rng.uniform((0, 4, 0), (math.pi, 8, 1))
    axis = np.arange(len(mask), dtype=np.float32) / period
    turns = axis * math.cos(angle) + axis[:, None] * math.sin(angle) + phase
    stripes = np.where(turns % 1 < 0.5, 0.2, -0.2).astype(np.float32)
    ground[mask] = (colour + stripes[..., None]).clip(0, 1)[mask]
