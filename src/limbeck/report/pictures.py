"""Pictures of what detectors see in images, and of what methods see in them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.transforms import Affine2D
from torch import Tensor
from torch.nn.functional import interpolate

from limbeck.report.pixels import PIXELS, save_over
from limbeck.report.style import COLOURS, DARK_COLOURS, INK, as_drawn, save

CELL = 2.6  # the longer side of an image in a grid, in inches
FONT = 7  # the size of the letters, in points
DPI = 128  # where an image keeps its own pixels: a power of two, so that no size is rounded
MOST_DRAWN = 6_000_000  # pixels of an image; for an SVG matplotlib takes 130 bytes for each
MOST_NAMED = 40  # boxes in a cell of a grid, which names would cover if there were more
OVERLAY = "#F0E442"  # a colour of the same palette that no class has


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
            _draw_boxes(axis, items[row], classes, score_threshold)
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
        _draw_image(axis, example.image)
        axis.set_title(as_drawn(example.title), fontsize=FONT, color=INK)
        if example.found is not None and len(example.found["labels"]) > MOST_NAMED:
            _draw_frames(axis, example.found)
        elif example.found is not None:
            _draw_boxes(axis, example.found, example.classes, score_threshold=0.0)
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
        out: The picture to write. Its suffix decides the format.
        software: The program that a PNG or JPEG says it is from. None: it says nothing.
    """
    height, width = image.shape[1:]
    if height * width > MOST_DRAWN:
        ratio = (MOST_DRAWN / height / width) ** 0.5
        size = max(1, int(height * ratio)), max(1, int(width * ratio))
        image = interpolate(image[None], size, mode="area")[0]
        scale = torch.tensor([size[1] / width, size[0] / height] * 2)
        found = {**found, "boxes": found["boxes"].cpu() * scale}
        height, width = size
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    if out.suffix.lower() in PIXELS:  # axes would take longer than all boxes
        downwards = Affine2D().scale(1, -1).translate(0, height)
        for artist in _artists(found, classes, 0.0, (height, width)):
            artist.set_transform(downwards)
            figure.add_artist(artist)
        save_over(image, figure, out, software)
    else:
        axis = figure.add_axes((0, 0, 1, 1))
        _draw_image(axis, image)
        _draw_boxes(axis, found, classes, score_threshold=0.0)
        save(figure, out, DPI)


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
    figure, axes = _grid(images, {"objects": truth, **overlays})
    for row, (first, *others) in enumerate(axes):
        _draw_boxes(first, truth[row], classes, score_threshold=0.0)
        for axis, of_images in zip(others, overlays.values(), strict=True):
            overlay = of_images[row]
            if isinstance(overlay, Tensor):
                _draw_overlay(axis, overlay)
                _draw_frames(axis, truth[row])
            else:
                _draw_frames(axis, overlay)
    save(figure, out, software=software, description=description)


def _grid(
    images: Sequence[Tensor], columns: Mapping[str, Sequence[object]]
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (rows, columns), with every image in every column, under the titles."""
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
    for image, of_image in zip(images, axes, strict=True):
        for axis in of_image:
            _draw_image(axis, image)
    for axis, title in zip(axes[0], columns, strict=True):
        axis.set_title(as_drawn(title), fontsize=11, color=INK)
    return figure, axes


def _draw_image(axis: Axes, image: Tensor) -> None:
    height, width = image.shape[1:]
    # Corners at whole numbers, as boxes are exclusive: pixel 0 reaches from 0 to 1.
    pixels = image.detach().float().clamp(0, 1).permute(1, 2, 0).cpu().numpy()
    axis.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    axis.set_axis_off()


def _draw_overlay(axis: Axes, strength: Tensor) -> None:
    height, width = strength.shape
    coloured = np.empty((height, width, 4))
    coloured[..., :3] = to_rgb(OVERLAY)
    coloured[..., 3] = 0.5 * strength.detach().float().cpu().numpy()
    axis.imshow(coloured, extent=(0, width, height, 0), interpolation="nearest")


def _draw_boxes(
    axis: Axes, item: Mapping[str, Tensor], classes: Sequence[str], score_threshold: float
) -> None:
    size = axis.get_ylim()[0], axis.get_xlim()[1]
    for artist in _artists(item, classes, score_threshold, size):
        axis.add_artist(artist)


def _artists(
    item: Mapping[str, Tensor],
    classes: Sequence[str],
    score_threshold: float,
    size: tuple[float, float],
) -> Iterator[Rectangle | Text]:
    """The outline and the name of each box in an image of this height and width."""
    labels = item["labels"].tolist()
    scores = item["scores"].tolist() if "scores" in item else [None] * len(labels)
    for box, label, score in zip(item["boxes"].tolist(), labels, scores, strict=True):
        name = as_drawn(classes[label - 1]) if classes else str(label)
        if score is None:
            yield from (_frame(box, label), _name(box, name, label, size))
        elif score >= score_threshold and label > 0:  # 0 is no class, see DetectionMetric.update
            yield from (_frame(box, label), _name(box, f"{name} {score:.2f}", label, size))


def _name(box: Sequence[float], text: str, label: int, size: tuple[float, float]) -> Text:
    """What a box is called, at its upper edge, on the colour of the label."""
    (x1, y1, x2, _), (bottom, right) = box, size
    fill = _colour(label)
    # The name stays in the picture: below the upper edge, and from the right near the right.
    crowded = x1 > 0.7 * right
    return Text(
        min(x2, right) if crowded else max(x1, 0),
        max(y1, 0),
        text,
        ha="right" if crowded else "left",
        va="top" if y1 < 0.08 * max(right, bottom) else "bottom",
        fontsize=FONT,
        color="white" if fill in DARK_COLOURS else INK,
        clip_on=True,
        bbox={"facecolor": fill, "edgecolor": "none", "pad": 1},
    )


def _draw_frames(axis: Axes, item: Mapping[str, Tensor]) -> None:
    """Draw outlines without names: thin ones where they are of the background, then the others."""
    corners, labels = item["boxes"].tolist(), item["labels"].tolist()
    plain = [
        Rectangle((x1, y1), x2 - x1, y2 - y1)
        for (x1, y1, x2, y2), label in zip(corners, labels, strict=True)
        if label == 0
    ]
    axis.add_artist(  # which leaves the limits of the axes alone, unlike add_collection
        PatchCollection(plain, facecolor="none", edgecolor=OVERLAY, linewidth=0.7, alpha=0.6)
    )
    for box, label in zip(corners, labels, strict=True):
        if label > 0:
            axis.add_artist(_frame(box, label))


def _frame(box: Sequence[float], label: int) -> Rectangle:
    """The outline of a box, in the colour of the label."""
    x1, y1, x2, y2 = box
    frame = Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=_colour(label), linewidth=1.6
    )
    frame.set_path_effects([withStroke(linewidth=2.6, foreground="white")])
    frame.set_snap(False)
    return frame


def _colour(label: int) -> str:
    return COLOURS[(label - 1) % len(COLOURS)]
