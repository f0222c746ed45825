"""``limbeck anchors``: find shapes of anchors that suit a recipe's training data."""

import pkgutil
from collections.abc import Sequence
from typing import Any

import torch

from limbeck.commands.datasets import dataset_of
from limbeck.commands.fit import stated_in
from limbeck.commands.parsing import VerbParser
from limbeck.data import VisionDataset
from limbeck.data.cluster import cluster_shapes, mean_iou, object_sizes
from limbeck.frame import Extent
from limbeck.models import YOLOv2
from limbeck.models.detection.grid.yolov2 import VOC_ANCHORS
from limbeck.ranges import SIDE, Range, refuse_outside
from limbeck.terminal import Table, say

_RANGES = {"count": Range(1, 1000), "image_size": SIDE}
_OF_VOC = YOLOv2.numerics["image_size"]  # what VOC's anchors are for


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck anchors``. Its recipes are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck anchors", allow_abbrev=False)
    parser.add_argument(
        "recipe", nargs="+", type=str, help="Recipes (.yaml), each laid over the ones before it."
    )
    parser.add_function_arguments(anchors, skip={"recipe"}, as_positional=True)
    anchors(**parser.parse_args(arguments[1:]).as_dict())


def anchors(recipe: list[str], count: int = 5, image_size: tuple[int, int] | None = None) -> None:
    """Find anchor shapes for the training data of recipes, as YOLOv2's authors did.

    They are printed as YAML for the student's `anchor_shapes`. A table shows the mean IoU of each
    object with its best anchor, for these anchors and for those that were published for VOC.

    Args:
        recipe: Recipes (.yaml), each laid over the ones before it.
        count: The number of anchors.
        image_size: The height and the width that the network sees, in pixels, such as [416,416].
            Default (None): as the recipe's student states them, otherwise the usual ones, 384 x
            1248 for a ShuffleDet and 416 x 416 for other students.
    """
    refuse_outside(_RANGES, {"count": count, "image_size": image_size}, "--")
    stated = stated_in(recipe)
    image_size = image_size or _seen_by(stated.model.student)
    sizes = object_sizes(_training_set(stated.data.train, recipe), image_size)
    found = cluster_shapes(sizes, count)
    height, width = image_size
    say(f"{len(sizes)} objects in images of {height} x {width} px")
    table = Table("anchors", "mean IoU")
    table.add_row(f"these {count}", f"{mean_iou(sizes, found):.3f}")
    table.add_row(f"VOC's {len(VOC_ANCHORS)}", f"{mean_iou(sizes, _of_voc(image_size)):.3f}")
    say(table)
    pairs = ", ".join(f"[{width:.1f}, {height:.1f}]" for width, height in found.tolist())
    say(f"anchor_shapes: [{pairs}]", soft_wrap=True)


def _seen_by(student: Any) -> Extent:
    """The height and the width of the images, in pixels, that a stated student sees."""
    size = (student.get("init_args") or {}).get("image_size")
    numerics = getattr(pkgutil.resolve_name(student.class_path), "numerics", {})
    height, width = size or numerics.get("image_size") or _OF_VOC
    return height, width


def _training_set(stated: Any, recipes: Sequence[str]) -> VisionDataset:
    """Build the training data alone: the model may lack its anchors yet."""
    if stated is None:
        raise ValueError(
            f"{', '.join(recipes)}: there is no data.train. Give a recipe that has it."
        )
    return dataset_of(stated.as_dict(), "data.train")


def _of_voc(image_size: tuple[int, int]) -> torch.Tensor:
    """VOC's anchors (K, 2), which are for 416 x 416 pixels, scaled to another image size."""
    scale = torch.tensor(image_size).flip(0) / torch.tensor(_OF_VOC).flip(0)
    return torch.tensor(VOC_ANCHORS) * scale
