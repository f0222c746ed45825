"""Pictures of what detectors see in images, and of what methods see in them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor
from torch.nn.functional import interpolate

from limbeck.report.style import COLOURS, DARK_COLOURS, INK, as_drawn, save

CELL = 2.6  # the longer side of an image in a grid, in inches
FONT = 7  # the size of the letters, in points
DPI = 128  # where an image keeps its own pixels: a power of two, so that no size is rounded
MOST_DRAWN = 6_000_000  # pixels of an image that are drawn; matplotlib takes 130 bytes for each
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
        software: The program that a PNG says it is from. None: matplotlib.
    """
    height, width = image.shape[1:]
    if height * width > MOST_DRAWN:
        ratio = (MOST_DRAWN / height / width) ** 0.5
        size = max(1, int(height * ratio)), max(1, int(width * ratio))
        image = interpolate(image[None], size, mode="area")[0]
        scale = torch.tensor([size[1] / width, size[0] / height] * 2)
        found = {**found, "boxes": found["boxes"].cpu() * scale}
        height, width = size
    figure = Figure(figsize=(width / DPI, height / DPI))
    axis = figure.add_axes((0, 0, 1, 1))
    _draw_image(axis, image)
    _draw_boxes(axis, found, classes, score_threshold=0.0)
    save(figure, out, DPI, software)


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
    labels = item["labels"].tolist()
    scores = item["scores"].tolist() if "scores" in item else [None] * len(labels)
    for box, label, score in zip(item["boxes"].tolist(), labels, scores, strict=True):
        name = as_drawn(classes[label - 1]) if classes else str(label)
        if score is None:
            _draw_box(axis, box, name, label)
        elif score >= score_threshold and label > 0:  # 0 is no class, see DetectionMetric.update
            _draw_box(axis, box, f"{name} {score:.2f}", label)


def _draw_box(axis: Axes, box: Sequence[float], text: str, label: int) -> None:
    x1, y1, x2, _ = box
    right, bottom = axis.get_xlim()[1], axis.get_ylim()[0]
    fill = _draw_frame(axis, box, label)
    # The name stays in the picture: below the upper edge, and from the right near the right.
    crowded = x1 > 0.7 * right
    axis.text(
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
    axis.add_collection(
        PatchCollection(plain, facecolor="none", edgecolor=OVERLAY, linewidth=0.7, alpha=0.6)
    )
    for box, label in zip(corners, labels, strict=True):
        if label > 0:
            _draw_frame(axis, box, label)


def _draw_frame(axis: Axes, box: Sequence[float], label: int) -> str:
    """Draw the outline of a box, and return its colour, which is that of the label."""
    x1, y1, x2, y2 = box
    colour = COLOURS[(label - 1) % len(COLOURS)]
    frame = Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.6)
    frame.set_path_effects([withStroke(linewidth=2.6, foreground="white")])
    frame.set_snap(False)
    axis.add_patch(frame)
    return colour
