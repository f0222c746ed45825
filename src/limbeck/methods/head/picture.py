"""What HEAD shows: the regions that are looked at, and the cells that they come from."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from limbeck.frame import Frame
from limbeck.methods.base import Step
from limbeck.methods.head.regions import Regions
from limbeck.methods.pictures import OverImages, of_objects

POSITIVES = "regions of objects"
NEGATIVES = "regions of the background"
LEGEND = (
    "A region is of an object where its IoU with it is 0.5 or more, and is drawn in the colour of "
    "its class; the others are of the background."
)


def assist_picture(step: Step, found: Regions, *, taught: bool) -> OverImages:
    """The regions of an assist with a box head, and the cells of the dense head that it teaches.

    Args:
        step: One step of the pair; its student is a dense one.
        found: The regions.
        taught: Whether CKD teaches the cells that proposed them.

    Returns:
        The picture.
    """
    caption, features = "The regions that the assist looks at. ", step.student.features
    columns = {}
    if taught:
        caption += (
            "CKD teaches the cells of the dense head whose anchors proposed them: the stronger the "
            "yellow, the more levels of the pyramid have such a cell there. "
        )
        cells = cells_over_images(features["assist"], found.positions, features["frame"])
        columns = {"cells that CKD teaches": cells}
    return regions_picture(caption + LEGEND, found.boxes, found.labels, columns)


def regions_picture(
    caption: str,
    boxes: Sequence[Tensor],
    labels: Tensor,
    columns: Mapping[str, Sequence[Tensor]] | None = None,
) -> OverImages:
    """The regions of a batch, and what else lies over its images.

    Args:
        caption: What is seen, in sentences.
        boxes: The regions of each image, (R_i, 4), xyxy, pixels.
        labels: The class of each region, (R,), 0 for the background.
        columns: Further columns, as :class:`~limbeck.methods.pictures.OverImages` has them.

    Returns:
        The picture.
    """
    shown = {
        POSITIVES: of_objects(boxes, labels),
        NEGATIVES: of_objects(boxes, labels, background=True),
    }
    return OverImages(caption, {**shown, **(columns or {})})


def cells_over_images(maps: Sequence[Tensor], positions: Tensor, frame: Frame) -> list[Tensor]:
    """Where cells lie that are read: half for one level with such a cell, then half of the rest.

    Args:
        maps: The map of each level, (B, C, H, W).
        positions: The image, level, y, x, ... of each cell, (R, 4 or more). A level of -1 is none.
        frame: The frame of the same batch.

    Returns:
        A map (h, w) for each image, from 0 to 1.
    """
    levels = []
    for level, of_level in enumerate(maps):
        read = torch.zeros_like(of_level[:, 0], dtype=torch.float32)
        image, _, y, x = positions[positions[:, 1] == level].T[:4]
        read[image, y, x] = 1
        levels.append(frame.over_images(read))
    return [1 - 0.5 ** torch.stack(of_image).sum(dim=0) for of_image in zip(*levels, strict=True)]
