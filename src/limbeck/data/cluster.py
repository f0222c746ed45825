"""Shapes of anchors that suit a dataset: k-means over the sides of its objects.

YOLOv2's dimension clusters (arXiv:1612.08242, section 2): the distance of an object from a cluster
is 1 - IoU of two boxes of their widths and heights with one corner in common, so that large objects
count no more than small ones.
"""

import torch
from torch import Tensor

from limbeck.data.annotated import AnnotatedImages
from limbeck.data.base import VisionDataset
from limbeck.data.concatenated import Concatenated

_RESTARTS = 8
_ROUNDS = 300  # at most; tens are usual


def shape_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes of (width, height) with one corner in common: (N, 2), (K, 2) -> (N, K)."""
    widths = torch.minimum(first[:, :1], second[:, 0])
    common = widths * torch.minimum(first[:, 1:], second[:, 1])
    return common / (first.prod(dim=1, keepdim=True) + second.prod(dim=1) - common)


def mean_iou(sizes: Tensor, shapes: Tensor) -> float:
    """The mean over objects (N, 2) of the IoU with the best of the shapes (K, 2)."""
    return shape_iou(sizes, shapes).amax(dim=1).mean().item()


def cluster_shapes(sizes: Tensor, count: int) -> Tensor:
    """The ``count`` shapes of greatest mean IoU with the objects, of a few seeded attempts.

    Args:
        sizes: (width, height) of the objects, (N, 2), above 0.
        count: of the clusters.

    Returns:
        (width, height) of each, (count, 2), in the order of their areas.

    Raises:
        ValueError: there are fewer different objects than clusters.
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
    """k-means++: each further cluster is an object, drawn by its squared distance from the rest."""
    weights = sizes.new_ones(len(sizes))
    chosen: list[Tensor] = []
    for _ in range(count):
        chosen.append(sizes[weights.multinomial(1, generator=generator)])
        # In float64: of sizes that hardly differ, float32 would leave no distance to draw by.
        best = shape_iou(sizes.double(), torch.cat(chosen).double()).amax(dim=1)
        weights = (1 - best).clamp(min=0).square()
    return torch.cat(chosen)


def _k_means(sizes: Tensor, shapes: Tensor) -> Tensor:
    """From these shapes to those that are the means of the objects nearest to them."""
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
    """(width, height) of all objects to learn from (N, 2), where every image has one size.

    Image files are not decoded.

    Args:
        dataset: for detection.
        image_size: (height, width) that images are brought to, whatever their aspect, pixels.

    Raises:
        ValueError: it is not for detection, or has no objects.
    """
    if dataset.task != "detection":
        raise ValueError(f"the dataset is for {dataset.task}; expected one with boxes.")
    sizes = torch.cat(_sizes(dataset, image_size))
    if not len(sizes):
        raise ValueError("the dataset has no objects; expected one at least.")
    return sizes


def _sizes(dataset: VisionDataset, image_size: tuple[int, int]) -> list[Tensor]:
    """The same, image by image."""
    if isinstance(dataset, Concatenated):
        return [sizes for part in dataset.datasets for sizes in _sizes(part, image_size)]
    found = []
    for index in range(len(dataset)):
        height, width = dataset.image_size(index)
        boxes = _boxes(dataset, index)
        scale = boxes.new_tensor([image_size[1] / width, image_size[0] / height])
        found.append((boxes[:, 2:] - boxes[:, :2]) * scale)
    return found


def _boxes(dataset: VisionDataset, index: int) -> Tensor:
    """Boxes (M, 4) of one image, xyxy, in its pixels."""
    if isinstance(dataset, AnnotatedImages):
        return dataset.images[index].objects.learnable(dataset.image_size(index)).boxes
    target = dataset[index][1]
    assert isinstance(target, dict)
    return target["boxes"].as_subclass(Tensor)
