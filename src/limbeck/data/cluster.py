"""Shapes of anchors that suit a dataset, by k-means over the sides of its objects.

These are the dimension clusters of YOLOv2 (arXiv:1612.08242, section 2): the distance of an object
from a cluster is 1 - IoU of two boxes of their widths and heights with one corner in common, so
that large objects count no more than small ones.
"""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from limbeck.data.annotated import AnnotatedImages
from limbeck.data.base import BadSampleError, VisionDataset
from limbeck.data.concatenated import Concatenated
from limbeck.data.sizes import image_sizes
from limbeck.data.split import Split

log = logging.getLogger(__name__)

_RESTARTS = 8
_ROUNDS = 300  # at most; tens are usual


def shape_iou(first: Tensor, second: Tensor) -> Tensor:
    """The IoU of boxes with one corner in common.

    Args:
        first: The (width, height) of each of N boxes, (N, 2).
        second: The (width, height) of each of K boxes, (K, 2).

    Returns:
        The IoU of each pair, (N, K).
    """
    widths = torch.minimum(first[:, :1], second[:, 0])
    common = widths * torch.minimum(first[:, 1:], second[:, 1])
    return common / (first.prod(dim=1, keepdim=True) + second.prod(dim=1) - common)


def mean_iou(sizes: Tensor, shapes: Tensor) -> float:
    """The mean over all objects of the IoU with the best of the shapes.

    Args:
        sizes: The (width, height) of the objects, (N, 2).
        shapes: The (width, height) of the shapes, (K, 2).

    Returns:
        The mean, from 0 to 1.
    """
    return shape_iou(sizes, shapes).amax(dim=1).mean().item()


def cluster_shapes(sizes: Tensor, count: int) -> Tensor:
    """Find the shapes of the greatest mean IoU with the objects, of a few seeded attempts.

    Args:
        sizes: The (width, height) of the objects, (N, 2), which are above 0.
        count: The number of shapes.

    Returns:
        The (width, height) of each shape, (count, 2), in the order of their areas.

    Raises:
        ValueError: There are fewer objects of different sizes than ``count``.
    """
    different = len(torch.unique(sizes, dim=0))
    if not 1 <= count <= different:
        raise ValueError(
            f"count={count}: {len(sizes)} objects of {different} different sizes. Expected a count "
            f"from 1 to {different}."
        )
    generator = torch.Generator().manual_seed(0)
    found = [_k_means(sizes, _first(sizes, count, generator)) for _ in range(_RESTARTS)]
    best = max(found, key=lambda shapes: mean_iou(sizes, shapes))
    return best[best.prod(dim=1).argsort()]


def _first(sizes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The first clusters, by k-means++.

    Each is an object, which is drawn by its squared distance from the clusters before it.
    """
    weights = sizes.new_ones(len(sizes))
    chosen: list[Tensor] = []
    for _ in range(count):
        chosen.append(sizes[weights.multinomial(1, generator=generator)])
        # In float64: of sizes that hardly differ, float32 would leave no distance to draw by.
        best = shape_iou(sizes.double(), torch.cat(chosen).double()).amax(dim=1)
        weights = (1 - best).clamp(min=0).square()
    return torch.cat(chosen)


def _k_means(sizes: Tensor, shapes: Tensor) -> Tensor:
    """Move these shapes until each is the mean of the objects that are nearest to it."""
    nearest = None
    for _ in range(_ROUNDS):
        before, nearest = nearest, shape_iou(sizes, shapes).argmax(dim=1)
        if before is not None and torch.equal(before, nearest):
            break
        members = torch.bincount(nearest, minlength=len(shapes))[:, None]
        sums = torch.zeros_like(shapes).index_add_(0, nearest, sizes)
        shapes = torch.where(members > 0, sums / members, shapes)
    return shapes


def object_sizes(dataset: VisionDataset, image_size: tuple[int, int]) -> Tensor:
    """The sizes of all objects to learn from, where every image is brought to one size.

    Image files are not decoded.

    Args:
        dataset: A dataset for detection.
        image_size: The (height, width) in pixels that every image is brought to, whatever its
            aspect.

    Returns:
        The (width, height) of each object in pixels, (N, 2).

    Raises:
        ValueError: The dataset is not for detection, or has no objects.
    """
    boxes, extents = object_boxes(dataset)
    scale = (torch.tensor(image_size, dtype=torch.float64) / extents).flip(1).float()
    return (boxes[:, 2:] - boxes[:, :2]) * scale


def object_boxes(dataset: VisionDataset) -> tuple[Tensor, Tensor]:
    """The boxes of all objects to learn from, and the sizes of their images.

    Image files of annotated datasets are not decoded. Objects of images whose size is neither
    annotated nor readable are left out, which is logged.

    Args:
        dataset: A dataset for detection.

    Returns:
        The box of each object, xyxy in the pixels of its image, (N, 4), and the (height, width) of
        that image in pixels, (N, 2).

    Raises:
        ValueError: The dataset is not for detection, or has no objects.
    """
    if dataset.task != "detection":
        raise ValueError(f"the dataset is for {dataset.task}; expected one with boxes.")
    unreadable: list[BadSampleError] = []
    nothing = torch.zeros(0, 4), torch.zeros(0, 2, dtype=torch.long)
    parts = [nothing, *_boxes(dataset, unreadable)]
    boxes, extents = map(torch.cat, zip(*parts, strict=True))
    if unreadable:
        log.warning(
            "%d images cannot be read, and their objects are left out. The first: %s",
            len(unreadable),
            unreadable[0],
        )
    if not len(boxes):
        advice = " Replace the images that cannot be read." if unreadable else ""
        raise ValueError(f"the dataset has no objects; expected one at least.{advice}")
    return boxes, extents


def _boxes(dataset: VisionDataset, unreadable: list[BadSampleError]) -> list[tuple[Tensor, Tensor]]:
    """The boxes of the objects to learn from, and the sizes of their images, part by part.

    Why images cannot be read is added to ``unreadable``.
    """
    if isinstance(dataset, Concatenated):
        return [each for part in dataset.datasets for each in _boxes(part, unreadable)]
    if isinstance(dataset, AnnotatedImages):
        return [_annotated_boxes(dataset, range(len(dataset)), unreadable)]
    if isinstance(dataset, Split) and isinstance(dataset.dataset, AnnotatedImages):
        return [_annotated_boxes(dataset.dataset, dataset.indices, unreadable)]
    found = []
    for index in range(len(dataset)):
        try:
            target, size = dataset[index][1], dataset.image_size(index)
        except BadSampleError as error:
            unreadable.append(error)
            continue
        assert isinstance(target, dict)
        boxes = target["boxes"].as_subclass(Tensor)
        found.append((boxes, torch.tensor([size]).expand(len(boxes), 2)))
    return found


def _annotated_boxes(
    dataset: AnnotatedImages, images: Sequence[int], unreadable: list[BadSampleError]
) -> tuple[Tensor, Tensor]:
    """The boxes of the objects to learn from of some images, whatever the dataset is opened for."""
    table = dataset.images
    sizes, errors = image_sizes(dataset, images)
    unreadable += errors
    of_images = torch.zeros(len(dataset), 2, dtype=torch.long)
    of_images[list(images)] = sizes
    stated = of_images.repeat_interleave(table.counts(), dim=0)  # (M, 2), height and width
    objects = table.objects.clipped(stated)
    learnt = objects.can_be_learnt() & (stated[:, 0] > 0)
    return objects.boxes[learnt], stated[learnt]
