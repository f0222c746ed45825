"""The regions that assist and teacher look at: the student's proposals and the ground truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import box_iou

from limbeck.methods.base import Step
from limbeck.methods.head.proposals import Proposals, predictions, propose
from limbeck.models.detection.parts.selection import indices_of_rows

PROPOSALS = 1000
SAMPLES = 512
POSITIVE_IOU = 0.5
POSITIVE_SHARE = 0.25


@dataclass(frozen=True)
class Sample:
    """The regions of one image: positives, then negatives.

    Attributes:
        boxes: The regions, (R, 4), xyxy, pixels.
        positions: The level, y, x and anchor that proposed each, (R, 4), int64; for ground truth
            -1, -1, -1 and its number.
        labels: The class of each, (R,), 0 for the background.
        truth: The ground truth of each positive, and each negative itself, (R, 4).
        positives: The number of positives.
    """

    boxes: Tensor
    positions: Tensor
    labels: Tensor
    truth: Tensor
    positives: int


@dataclass(frozen=True)
class Regions:
    """The regions of a batch, image by image.

    Attributes:
        boxes: The regions of each image, (R_i, 4), xyxy, pixels.
        positions: The image, level, y, x and anchor that proposed each, (R, 5), int64. Level, y and
            x are -1 for ground truth, which no anchor proposed.
        labels: The class of each, (R,), 0 for the background.
        truth: The ground truth of each positive, and each negative itself, (R, 4).
        positive: The indices of the positives, (P,). None: the labels say them.
    """

    boxes: list[Tensor]
    positions: Tensor
    labels: Tensor
    truth: Tensor
    positive: Tensor | None = None


def regions(step: Step, proposals: int, samples: int) -> Regions:
    """The sampled regions of one step.

    Args:
        step: The step; its student's features are those of :func:`predictions`.
        proposals: The number of proposals for each image, at most.
        samples: The number of regions for each image, at most.

    Returns:
        The regions of the batch.
    """
    proposed = propose(predictions(step.student.model, step.student.features), proposals)
    return together(samples_of(proposed, labelled(step), samples))


def labelled(step: Step) -> list[dict[str, Tensor]]:
    """The ground truth of each image, in the network's frame."""
    if not isinstance(step.targets, list):
        found = type(step.targets).__name__
        raise TypeError(
            f"HEAD's assist learns from boxes: expected a list of targets, found {found}"
        )
    return step.targets


def together(sampled: Sequence[Sample]) -> Regions:
    """The regions of a batch from those of its images."""
    positions = [
        F.pad(of_image.positions, (1, 0), value=image) for image, of_image in enumerate(sampled)
    ]
    starts = accumulate((len(of_image.boxes) for of_image in sampled), initial=0)
    positive = [
        torch.arange(start, start + of_image.positives, device=of_image.boxes.device)
        for start, of_image in zip(starts, sampled, strict=False)
    ]
    return Regions(
        boxes=[of_image.boxes for of_image in sampled],
        positions=torch.cat(positions),
        labels=torch.cat([of_image.labels for of_image in sampled]),
        truth=torch.cat([of_image.truth for of_image in sampled]),
        positive=torch.cat(positive),
    )


@torch.no_grad()
def samples_of(
    proposals: Sequence[Proposals], targets: Sequence[dict[str, Tensor]], count: int
) -> list[Sample]:
    """Draw regions of each image from its ground truth and its proposals, in this order.

    A proposal is positive from an IoU of 0.5 on, and so is the ground truth, as its own. At most a
    quarter of the regions are positives; negatives fill up. Where there are fewer candidates, there
    are fewer regions. The device is waited for once.

    Args:
        proposals: The proposals of each image.
        targets: The ``boxes`` (M, 4) and ``labels`` (M,) from 1 of each image.
        count: The number of regions of an image, at most.

    Returns:
        The regions of each image.
    """
    pairs = list(zip(proposals, targets, strict=True))
    matched = [_matched(found, target["boxes"]) for found, target in pairs]
    sides = [side for match in matched for side in (match >= 0, match < 0)]
    candidates = indices_of_rows(pad_sequence(sides, batch_first=True))
    return [
        _drawn(found, target, matched[i], candidates[2 * i], candidates[2 * i + 1], count)
        for i, (found, target) in enumerate(pairs)
    ]


def _matched(proposals: Proposals, truth: Tensor) -> Tensor:
    """The ground truth (M + n,) of each ground truth and each proposal, or -1."""
    own = torch.arange(len(truth), device=truth.device)
    return torch.cat([own, best_truth(truth, proposals.boxes)])


def _drawn(
    proposals: Proposals,
    target: dict[str, Tensor],
    matched: Tensor,
    positives: Tensor,
    negatives: Tensor,
    count: int,
) -> Sample:
    """The regions of one image, of which the candidates on either side are known."""
    truth = target["boxes"]
    own = torch.arange(len(truth), device=truth.device)
    boxes = torch.cat([truth.to(proposals.boxes), proposals.boxes])
    nowhere = torch.full((len(truth), 3), -1, device=truth.device)
    positions = torch.cat([torch.cat([nowhere, own[:, None]], 1), proposals.positions])
    positive = choose(positives, int(count * POSITIVE_SHARE))
    negative = choose(negatives, count - len(positive))
    chosen = torch.cat([positive, negative])
    labels = torch.zeros_like(chosen)
    labels[: len(positive)] = target["labels"][matched[positive]]
    wanted = boxes[chosen]
    wanted[: len(positive)] = truth[matched[positive]].to(wanted)
    return Sample(boxes[chosen], positions[chosen], labels, wanted, len(positive))


def best_truth(truth: Tensor, boxes: Tensor) -> Tensor:
    """The index (n,) of the ground truth (M, 4) that each box (n, 4) overlaps most, or -1."""
    if not len(truth):
        return torch.full((len(boxes),), -1, device=boxes.device)
    overlap, matched = box_iou(truth, boxes).max(dim=0)
    return torch.where(overlap >= POSITIVE_IOU, matched, -1)


def choose(candidates: Tensor, count: int) -> Tensor:
    """So many of the candidates at random, in their order; all where there are no more."""
    if len(candidates) <= count:
        return candidates
    drawn = torch.randperm(len(candidates), device=candidates.device)[:count]
    return candidates[drawn].sort()[0]
