"""WIDER FACE's average precision, as its evaluation program computes it.

The program measures widths with "+ 1" on boxes that have none: so does the IoU here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou

from limbeck.metrics.detections import Boxes, DetectionMetric, Fields
from limbeck.metrics.voc import average_precision_area

SETTINGS = ("easy", "medium", "hard")
THRESHOLDS = 1000
IOU = 0.5  # a match needs this or more
NOTHING = -1


class WIDERFaceAveragePrecision(DetectionMetric):
    """The mean of the average precision of the easy, the medium and the hard faces.

    The fields ``easy``, ``medium`` and ``hard`` of a target say whether a face counts in each of
    these settings. A box belongs to the face that it overlaps most; where that one does not count,
    the box is neither right nor wrong. In images without any face, boxes do not count, as in the
    program.

    Source: Yang et al., "WIDER FACE: A face detection benchmark", CVPR 2016.

    Args:
        classes: The name of the one class.

    Attributes:
        headline: The name of the score that judges a run, which is ``AP``.
        required_fields: The fields ``easy``, ``medium`` and ``hard``.
        remedy: What to do where a target lacks them.

    Raises:
        ValueError: There is more than one class, or none.
    """

    headline = "AP"
    required_fields: ClassVar[Fields] = dict.fromkeys(SETTINGS, torch.bool)
    remedy = (
        "; give the dataset `ground_truth`, the folder of the evaluation's "
        "wider_{easy,medium,hard}_val.mat, which say which faces are counted"
    )

    def __init__(self, classes: Sequence[str] = ("face",)) -> None:
        super().__init__(classes)
        if len(classes) != 1:
            raise ValueError(f"classes is {list(classes)}; expected one: WIDER FACE has only faces")

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores of all images so far.

        Returns:
            The mean ``AP`` and ``AP/easy``, ``AP/medium``, ``AP/hard``: scalars from 0 to 1. As in
            the program, NaN where no face is counted, which makes the mean NaN as well.
        """
        scores = {
            # Without a box there is no precision, nor any recall that it would weigh.
            f"AP/{name}": average_precision_area(recall, precision.nan_to_num()).float()
            for name, (recall, precision) in self.curves().items()
        }
        scores = {"AP": torch.stack(list(scores.values())).mean(), **scores}
        return {name: score.to(self.device) for name, score in scores.items()}

    def curves(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Compute recall and precision at the thresholds 0.999, 0.998, ..., 0 on scores.

        Scores are stretched to span 0 to 1 over all images, or become 1 where all are the same.

        Returns:
            The (recall, precision) of each setting, (1000,) each. Precision is NaN before the first
            box that counts; recall is NaN where no face counts.
        """
        ranked, (_, truth) = self.ranked(), self.rows()
        lowest = min(ranked.lowest.tolist(), default=0.0)
        highest = max(ranked.highest.tolist(), default=0.0)
        ranks = boxes_above(ranked.scores, lowest, highest)
        curves = {}
        for setting in SETTINGS:
            proposed, recalled = (
                F.pad(boxes[setting].cumsum(dim=0), (1, 0))[ranks].double()
                for boxes in (ranked.counted, ranked.right)
            )
            curves[setting] = (recalled / truth[setting].sum(), recalled / proposed)
        return curves

    def ranked(self) -> "Ranked":
        """The boxes of all images by falling score, each with the face that it belongs to."""
        images = self.images()
        found, truth = self.rows()
        known = found["labels"] > 0
        scores, image = found["scores"][known].double(), found["image"][known]
        faces = _matches(images)[known]  # (N,), rows of truth
        counts = torch.tensor([len(target["labels"]) for _, target in images], dtype=torch.long)
        order = scores.argsort(descending=True, stable=True)
        order = order[counts[image[order]] > 0]
        first = _first_claims(faces[order], len(truth["labels"]))
        counted = {
            setting: F.pad(truth[setting], (0, 1), value=True)[faces[order]]  # NOTHING: the last
            for setting in SETTINGS
        }
        return Ranked(
            scores[order],
            image[order],
            counted,
            {setting: first & boxes for setting, boxes in counted.items()},
            _of_images(scores, image, len(images), torch.inf, "amin"),
            _of_images(scores, image, len(images), -torch.inf, "amax"),
        )


@dataclass(frozen=True)
class Ranked:
    """The N boxes of those images that have faces, the highest score first.

    Attributes:
        scores: The score of each box, float64 (N,).
        images: The number of each box's image, (N,).
        counted: Whether a box is right or wrong, bool (N,), by setting.
        right: Whether a box is right, bool (N,), by setting.
        lowest: The lowest score in each image, with faces or without, float64 (images,). Infinite
            where the image has no box.
        highest: The highest score in each image, float64 (images,).
    """

    scores: Tensor
    images: Tensor
    counted: Mapping[str, Tensor]
    right: Mapping[str, Tensor]
    lowest: Tensor
    highest: Tensor


def boxes_above(scores: Tensor, lowest: float, highest: float) -> Tensor:
    """Count the boxes at or above each threshold.

    Args:
        scores: The scores of the boxes, float64 (N,), which fall.
        lowest: The score that is stretched to 0.
        highest: The score that is stretched to 1. If it is the lowest one, too, every
            box is above all thresholds.

    Returns:
        The numbers of boxes, (1000,).
    """
    stretched = torch.ones_like(scores)
    if highest > lowest:
        stretched = (scores - lowest) / (highest - lowest)
    thresholds = 1 - torch.arange(1, THRESHOLDS + 1, dtype=torch.float64) / THRESHOLDS
    return torch.searchsorted(-stretched, -thresholds, right=True)


def _matches(images: Sequence[tuple[Boxes, Boxes]]) -> Tensor:
    """The face that each box of all images overlaps most, counted through, or NOTHING."""
    faces, start = [torch.zeros(0, dtype=torch.long)], 0
    wider = torch.tensor([0, 0, 1, 1])
    for prediction, target in images:
        boxes, others = prediction["boxes"].double() + wider, target["boxes"].double() + wider
        if len(others) == 0:
            faces.append(torch.full((len(boxes),), NOTHING))
            continue
        overlap, face = box_iou(boxes, others).max(dim=1)
        faces.append(torch.where(overlap >= IOU, face + start, NOTHING))
        start += len(others)
    return torch.cat(faces)


def _of_images(scores: Tensor, image: Tensor, images: int, none: float, reduce: str) -> Tensor:
    """The lowest or the highest score of each image, or ``none`` where it has no box."""
    empty = torch.full((images,), none, dtype=torch.float64)
    return empty.scatter_reduce(0, image, scores, reduce)


def _first_claims(faces: Tensor, count: int) -> Tensor:
    """Which boxes, the highest score first, are the first ones on their faces, bool (N,)."""
    place = torch.arange(len(faces))
    hit = faces != NOTHING
    first = torch.full((count,), len(faces))
    first.scatter_reduce_(0, faces[hit], place[hit], "amin")
    return hit & (F.pad(first, (0, 1), value=NOTHING)[faces] == place)
