"""Choosing among the anchors or regions of a batch, with few waits for the device.

How many elements a mask chooses is known to the device alone: each ``nonzero`` makes the host wait
until all is done that it asked for. Here a batch is asked once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchvision.ops import batched_nms, nms


def indices_of_rows(masks: Tensor) -> list[Tensor]:
    """The indices of what each row of a mask chooses, in their order, by one wait for the device.

    Args:
        masks: The masks, one in each row, (R, N), boolean.

    Returns:
        The indices (n,), int64, of each row.
    """
    if masks.device.type == "cpu":
        return [row.nonzero()[:, 0] for row in masks]
    counts: list[int] = masks.sum(dim=1).tolist()
    # nonzero would wait again, for the total; the k-th chosen element is where the count reaches k.
    places = torch.arange(1, sum(counts) + 1, device=masks.device)
    found = torch.searchsorted(masks.flatten().cumsum(0), places) % masks.shape[1]
    return list(torch.split(found, counts))


def written(values: Sequence[float], like: Tensor) -> Tensor:
    """A few numbers as a tensor (N,), written on the device: to copy them there would wait.

    Args:
        values: The N numbers, one or more.
        like: A tensor of the device and the type that they are to have.

    Returns:
        The numbers.
    """
    return torch.cat([like.new_full((1,), value) for value in values])


def suppressed(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Non-maximum suppression within groups, which waits for the device once.

    It is torchvision's ``batched_nms``. Elsewhere than on the CPU that copies a constant from the
    host in each call, and from 25,000 boxes on it waits for every group.

    Groups are kept apart by offsets, which round the boxes. Images are suppressed one by one, as
    the offsets of a whole batch (16 images of 80 classes) would reach 1.7 million pixels, where
    float32 goes in steps of an eighth of a pixel: other boxes would be kept.

    Args:
        boxes: The boxes (N, 4), xyxy.
        scores: Their scores, (N,).
        groups: The group of each, (N,), counting from 0.
        threshold: The IoU above which the lower of two boxes of a group is dropped.

    Returns:
        The indices of the boxes that are kept, best first.
    """
    if boxes.device.type == "cpu" or not len(boxes):
        kept: Tensor = batched_nms(boxes, scores, groups, threshold)
    else:
        apart = groups.to(boxes.dtype) * (boxes.max() + 1)  # boxes of two groups do not meet
        kept = nms(boxes + apart[:, None], scores, threshold)
    return kept


def both_sides(labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The positives and the negatives of each image, by one wait for the device.

    Args:
        labels: The label of each element of each image, (N,): from 1 for an object, 0 for the
            background, below 0 for neither.

    Returns:
        The indices of the positives of each image, ascending, and those of the negatives.
    """
    masks = [mask for each in labels for mask in (each >= 1, each == 0)]
    rows = indices_of_rows(pad_sequence(masks, batch_first=True))
    return rows[::2], rows[1::2]


class BalancedSampler:
    """torchvision's ``BalancedPositiveNegativeSampler``, which gives indices in place of masks.

    It draws the same ones with the same random numbers.

    Args:
        count: The number of elements that are drawn from each image, at most.
        share: The share of positives among them, at most.
    """

    def __init__(self, count: int, share: float) -> None:
        self.count, self.share = count, share

    def __call__(self, labels: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Draw from the elements of each image.

        Args:
            labels: The label of each element of each image, (N,): from 1 for an object, 0 for the
                background, below 0 for an element that is never drawn.

        Returns:
            The indices of the positives of each image, ascending, and those of the negatives.
        """
        positives, negatives = [], []
        for positive, negative in zip(*both_sides(labels), strict=True):
            wanted = min(len(positive), int(self.count * self.share))
            positives.append(_drawn(positive, wanted))
            negatives.append(_drawn(negative, min(len(negative), self.count - wanted)))
        return positives, negatives


def _drawn(candidates: Tensor, count: int) -> Tensor:
    order = torch.randperm(len(candidates), device=candidates.device)[:count]
    return candidates[order].sort()[0]
