"""Pictures of what detectors see in images, and of what methods see in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL.ImageColor import getrgb
from torch import Tensor
from torch.nn.functional import interpolate

from limbeck.report.drawing import OVERLAY, drawn
from limbeck.report.pixels import write_picture
from limbeck.report.style import INK, as_drawn, save

CELL = 2.6  # the longer side of an image in a grid, in inches
LARGEST_TITLE = 16  # the size of the letters of a column's title, in points
FONT = 7  # the size of the letters of a title, in points
CELL_PIXELS = 780  # the longer side of an image in a grid, as boxes are drawn over it
CELL_LETTERS = 29  # the size of letters in it, in pixels
MOST_DRAWN = 6_000_000  # pixels of an image
MOST_NAMED = 40  # boxes in a cell of a grid, which names would cover if there were more
NOTHING = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}


def detection_grid(
    images: Sequence[Tensor],
    columns: Mapping[str, Sequence[Mapping[str, Tensor]]],
    classes: Sequence[str],
    out: Path,
    score_threshold: float = 0.4,
) -> None:
    """Draw a row for each image and a column for each source of boxes: truth, teacher, student.

    Args:
        images: The images, each (3, H, W), RGB in [0, 1], of any sizes.
        columns: For each column's title and each image the ``boxes`` (N, 4), xyxy in pixels, the
            ``labels`` (N,) counting from 1 and, for predictions, the ``scores`` (N,).
        classes: The class names. Label ``i + 1`` is ``classes[i]``.
        out: The picture to write. Its suffix decides the format.
        score_threshold: The lowest score of a box that is drawn.

    Raises:
        ValueError: There is nothing to draw, or a column has not one dict for each image.
    """
    figure, axes = _grid(images, columns)
    for row, of_image in enumerate(axes):
        for axis, items in zip(of_image, columns.values(), strict=True):
            _draw(axis, images[row], _above(items[row], score_threshold), classes)
    save(figure, out)


@dataclass(frozen=True)
class Example:
    """One cell of a grid of images.

    Attributes:
        image: The image (3, H, W), RGB in [0, 1].
        title: What stands above it.
        found: The ``boxes`` (N, 4), xyxy in pixels, and the ``labels`` (N,) counting from 1. None:
            there are no boxes.
        classes: The class names. Label ``i + 1`` is ``classes[i]``.
    """

    image: Tensor
    title: str
    found: Mapping[str, Tensor] | None = None
    classes: Sequence[str] = ()


def image_grid(
    examples: Sequence[Example], out: Path, software: str | None = None, columns: int = 4
) -> None:
    """Draw images with their boxes and names, row by row.

    Args:
        examples: The images, of any sizes, one at least.
        out: The picture to write. Its suffix decides the format.
        software: The program that a PNG says it is from. None: matplotlib.
        columns: The number of images in a row.

    Raises:
        ValueError: There is nothing to draw.
    """
    if not examples:
        raise ValueError("got no image to draw; give one at least")
    rows = [examples[start : start + columns] for start in range(0, len(examples), columns)]
    tallest = [max(e.image.shape[1] / max(e.image.shape[1:]) for e in row) for row in rows]
    width = min(columns, len(examples))
    height = CELL * sum(tallest) + 0.25 * len(rows)
    figure = Figure(figsize=(CELL * width, height), layout="constrained")
    axes = figure.subplots(len(rows), width, squeeze=False, height_ratios=tallest)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, example in zip(axes.flat, examples, strict=False):
        axis.set_title(as_drawn(example.title), fontsize=FONT, color=INK)
        found = NOTHING if example.found is None else example.found
        named = len(found["labels"]) <= MOST_NAMED
        _draw(axis, example.image, found, example.classes, named=named)
    save(figure, out, software=software)


def detection_picture(
    image: Tensor,
    found: Mapping[str, Tensor],
    classes: Sequence[str],
    out: Path,
    software: str | None = None,
) -> None:
    """Draw boxes over one image, and keep the image's own pixels, unless there are very many.

    Args:
        image: The image (3, H, W), RGB in [0, 1].
        found: The ``boxes`` (N, 4), xyxy in pixels, the ``labels`` (N,) counting from 1 and, for
            predictions, the ``scores`` (N,).
        classes: The class names. Label ``i + 1`` is ``classes[i]``; where there are no names,
            labels are shown as numbers.
        out: The picture to write, a PNG or a JPEG by its suffix.
        software: The program that the file says it is from. None: it says nothing.
    """
    height, width = image.shape[1:]
    if height * width > MOST_DRAWN:
        ratio = (MOST_DRAWN / height / width) ** 0.5
        image, found = _resized(image, found, ratio)
    write_picture(drawn(image, found, classes), out, software)


def overlay_grid(
    images: Sequence[Tensor],
    truth: Sequence[Mapping[str, Tensor]],
    overlays: Mapping[str, Sequence[Tensor | Mapping[str, Tensor]]],
    classes: Sequence[str],
    out: Path,
    software: str | None = None,
    description: str | None = None,
) -> None:
    """Draw a row for each image: its boxes with their names, then each overlay.

    Args:
        images: The images, each (3, H, W), RGB in [0, 1], of any sizes.
        truth: The ``boxes`` (N, 4), xyxy in pixels, and ``labels`` (N,) of each image.
        overlays: For each column's title and each image a map (H, W), from 0, where the image
            stays as it is, to 1, which is drawn with the boxes of the truth; or ``boxes`` and
            ``labels`` of its own, where 0 is the background.
        classes: The class names. Label ``i + 1`` is ``classes[i]``.
        out: The picture to write. Its suffix decides the format.
        software: The program that a PNG says it is from. None: matplotlib.
        description: What a PNG says about what is seen. None: nothing.

    Raises:
        ValueError: There is nothing to draw, or a column has not one item for each image.
    """
    first_title = "objects" if any(len(each["boxes"]) for each in truth) else "image"
    figure, axes = _grid(images, {first_title: truth, **overlays})
    for row, (first, *others) in enumerate(axes):
        _draw(first, images[row], truth[row], classes)
        for axis, of_images in zip(others, overlays.values(), strict=True):
            overlay = of_images[row]
            if isinstance(overlay, Tensor):
                _draw(axis, _covered(images[row], overlay), truth[row], classes, named=False)
            else:
                _draw(axis, images[row], overlay, classes, named=False)
    save(figure, out, software=software, description=description)


def _grid(
    images: Sequence[Tensor], columns: Mapping[str, Sequence[object]]
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (rows, columns) under the titles."""
    if not images or not columns:
        raise ValueError(f"got {len(images)} images and {len(columns)} columns; give one at least")
    for title, items in columns.items():
        if len(items) != len(images):
            raise ValueError(
                f"column {title!r} has boxes for {len(items)} images; expected {len(images)}, "
                "one dict for each of the images"
            )
    ratios = [image.shape[1] / max(image.shape[1:]) for image in images]
    figure = Figure(figsize=(CELL * len(columns), CELL * sum(ratios) + 0.3), layout="constrained")
    axes = figure.subplots(len(images), len(columns), squeeze=False, height_ratios=ratios)
    # A letter is 0.6 times as wide as it is high, and a cell 72 points an inch.
    letters = min(LARGEST_TITLE, 72 * CELL / 0.6 / max(1, *map(len, columns)))
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(as_drawn(title), fontsize=letters, color=INK)
    return figure, axes


def _draw(
    axis: Axes,
    image: Tensor,
    found: Mapping[str, Tensor],
    classes: Sequence[str],
    *,
    named: bool = True,
) -> None:
    """Draw an image with boxes into a cell, in as many pixels as the letters need."""
    ratio = CELL_PIXELS / max(image.shape[1:])
    enlarged, boxes = _resized(image, found, ratio)
    axis.imshow(drawn(enlarged, boxes, classes, named=named, letters=CELL_LETTERS))
    axis.set_axis_off()


def _resized(
    image: Tensor, found: Mapping[str, Tensor], ratio: float
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """An image and its boxes, smaller or larger; pixels stay squares where they grow."""
    height, width = image.shape[1:]
    size = max(1, int(height * ratio)), max(1, int(width * ratio))
    mode = "area" if ratio < 1 else "nearest"
    scale = torch.tensor([size[1] / width, size[0] / height] * 2)
    boxes = found["boxes"].detach().cpu() * scale
    return interpolate(image[None].float(), size, mode=mode)[0], {**found, "boxes": boxes}


def _above(found: Mapping[str, Tensor], score_threshold: float) -> Mapping[str, Tensor]:
    """The boxes of a score or more; all of them where there are no scores."""
    if "scores" not in found:
        return found
    kept = found["scores"] >= score_threshold
    return {name: found[name][kept] for name in ("boxes", "labels", "scores")}


def _covered(image: Tensor, strength: Tensor) -> Tensor:
    """An image, half covered by the overlay's colour where its strength (H, W) is 1."""
    colour = torch.tensor(getrgb(OVERLAY)).div(255)[:, None, None]
    return image.detach().float().cpu().lerp(colour, 0.5 * strength.detach().float().cpu())
