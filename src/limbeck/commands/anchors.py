"""``limbeck anchors``: anchors for a recipe's training data, in the arguments of its detector."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.commands.anchor_arguments import AnchorArguments, anchor_arguments, objects_seen
from limbeck.commands.building import said_of_building
from limbeck.commands.command_line import build_of
from limbeck.commands.datasets import dataset_of
from limbeck.commands.memory import refuse_oversized
from limbeck.commands.parsing import VerbParser
from limbeck.commands.stated import stated_in
from limbeck.data import VisionDataset
from limbeck.data.cluster import cluster_shapes, mean_iou, object_sizes
from limbeck.data.coverage import AnchorLevel, Coverage, Objects
from limbeck.frame import Extent
from limbeck.models import FCOS, GFL, Build, ShuffleDet, YOLOv2
from limbeck.models.build import LimbeckModel
from limbeck.models.detection.detector import Detector
from limbeck.models.detection.grid.yolov2 import VOC_ANCHORS
from limbeck.models.detection.parts.locations import FAR
from limbeck.models.weights import open_weights, stated_by
from limbeck.ranges import SIDE, Range, refuse_outside
from limbeck.terminal import Table, say

_RANGES = {"count": Range(1, 1000), "image_size": SIDE}
_USUAL_COUNT = 5
_OF_VOC = YOLOv2.numerics["image_size"]  # what VOC's anchors are for
_BY_SHAPES: dict[str, type[LimbeckModel]] = {
    "limbeck.models.YOLOv2": YOLOv2,
    "limbeck.models.ShuffleDet": ShuffleDet,
}
_NO_CHOICE = {
    "GFL": "its one anchor of a cell is a square of 8 strides, which only says which cells learn "
    "an object.",
    "FCOS": "it has no anchors. An object is learnt at the level where the longest way from its "
    "middle to a side is of 4 to 8 strides.",
}


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


def anchors(
    recipe: list[str], count: int | None = None, image_size: tuple[int, int] | None = None
) -> None:
    """Find anchors that suit the training data of recipes, in the arguments of their student.

    They are printed as YAML to paste into `model.student.init_args`: `anchor_sizes` and
    `aspect_ratios` of RetinaNet and Faster R-CNN, `scales` and `aspect_ratios` of SSD,
    `anchor_shapes` of YOLOv2 and ShuffleDet. A table shows how well the present ones cover the
    objects, and how well these.

    Args:
        recipe: Recipes (.yaml), each laid over the ones before it.
        count: The number of anchor shapes of a YOLOv2 or ShuffleDet. Default (None): 5. Detectors
            of other kinds keep the numbers that they have, and with them their cost.
        image_size: The height and the width that the network sees, in pixels, such as [416,416].
            Default (None): as the recipe's student brings images to its size.
    """
    refuse_outside(_RANGES, {"count": count, "image_size": image_size}, "--")
    stated = stated_in(recipe)
    student = stated.model.student
    dataset = _training_set(stated.data.train, recipe)
    if student.class_path in _BY_SHAPES:
        size = image_size or _seen_by(student)
        _show_shapes(object_sizes(dataset, size), count or _USUAL_COUNT, size)
        return
    if count is not None:
        raise ValueError(
            f"--count is {count}; expected none, as {student.class_path} has no anchor_shapes. The "
            "numbers of its sizes and ratios are those of the recipe: state others there."
        )
    with said_of_building(stated), refuse_oversized(stated):
        detector = unweighted(student)
    objects = objects_seen(detector, dataset, image_size)
    if isinstance(detector, FCOS | GFL):
        _show_levels(detector, objects)
    else:
        _show_arguments(detector, objects)


def unweighted(student: Any) -> Any:
    """Build a stated detector without its weights, which may be elsewhere, and without memory.

    Args:
        student: The student as a recipe states it.

    Returns:
        The detector, on the device ``meta``. What the folder of a student says about its anchors,
        it has.

    Raises:
        ValueError: It is no detector whose anchors are known.
    """
    build = build_of(student)
    weights = (student.get("init_args") or {}).get("weights")
    settled: Mapping[str, Any] = {}
    if weights is not None and Path(str(weights)).is_dir():
        settled = stated_by(open_weights(weights), {"anchor_sizes": None, "scales": None})
    open_ones = {n: v for n, v in settled.items() if build.init_args.get(n) is None}
    with torch.device("meta"):
        detector = Build(build.class_path, build.init_args | open_ones).make(trust=True)
    if isinstance(detector, FCOS | GFL) or anchor_arguments(detector) is not None:
        return detector
    raise ValueError(
        f"model.student is {student.class_path}, which has no anchors that are known. Expected "
        "limbeck's RetinaNet, FasterRCNN, FasterRCNNC4, SSD, YOLOv2 or ShuffleDet (or FCOS or GFL, "
        "of which the levels are shown)."
    )


def as_yaml(arguments: Mapping[str, Any]) -> str:
    """Arguments as they are pasted into a recipe, one a line."""
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in arguments.items())


def _show_arguments(detector: Any, objects: Objects) -> None:
    """Show what the present anchors cover, what the best ones cover, and these as YAML."""
    form = anchor_arguments(detector)
    assert form is not None  # unweighted() has refused such
    best = form.best(objects)
    say(
        f"{len(objects.boxes)} objects, and the anchors of a {type(detector).__name__}. An object "
        f"is covered where an anchor has an IoU of {form.threshold:g} or more with it: those "
        "learn it. Where none has, the best one alone does."
    )
    say(_table(form, objects, best))
    say(as_yaml(best), soft_wrap=True)


def _table(form: AnchorArguments, objects: Objects, best: Mapping[str, Any]) -> Table:
    """What the present anchors and the best ones cover, level by level."""
    found = [form.coverage(objects, each) for each in (form.present, dict(best))]
    table = Table("level", "objects, now", "covered, now", "objects, these", "covered, these")
    for place, level in enumerate(form.detector.levels):
        cells = [cell for each in found for cell in _cells(each, each.level == place)]
        table.add_row(f"{level}, stride {2**level}", *cells)
    every = [cell for each in found for cell in (str(len(each.iou)), f"{each.recall:.1%}")]
    table.add_row("all", *every)
    table.add_row("mean best IoU", *(c for each in found for c in ("", f"{each.mean:.3f}")))
    return table


def _cells(coverage: Coverage, of: Tensor) -> tuple[str, str]:
    count = int(of.sum())
    return str(count), f"{coverage.share(of):.1%}" if count else "-"


def _show_levels(detector: FCOS | GFL, objects: Objects) -> None:
    """Show at which levels objects are learnt, where no anchors are to be chosen."""
    kind = "GFL" if isinstance(detector, GFL) else "FCOS"
    say(f"A {kind} leaves no anchors to choose: {_NO_CHOICE[kind]}")
    places = (
        _levels_of_gfl(detector, objects) if kind == "GFL" else levels_of_fcos(detector, objects)
    )
    table = Table("level", "objects")
    for place, level in enumerate(detector.levels):
        table.add_row(f"{level}, stride {2**level}", str(int((places == place).sum())))
    say(table)
    say(
        "Where most objects are at the first or at the last level, change the size of the images "
        "(min_size, and data.augmentation), or the levels."
    )


def levels_of_fcos(detector: Detector, objects: Objects) -> Tensor:
    """The position of the level at which FCOS learns each object in its middle.

    Args:
        detector: The detector.
        objects: The objects.

    Returns:
        The position of each one's level among those of the detector, (N,).
    """
    bounds = torch.tensor([float(FAR * stride) for stride in detector.strides[:-1]])
    return torch.bucketize(objects.sizes.amax(dim=1) / 2, bounds)


def _levels_of_gfl(detector: Detector, objects: Objects) -> Tensor:
    """The position of the level whose anchor fits each object best, (N,)."""
    made: Any = detector.anchor_generator
    levels = []
    for level, (side,) in zip(detector.levels, made.sizes, strict=True):
        square = torch.tensor([[-side, -side, side, side]]) / 2
        levels.append(AnchorLevel(level, square, (2.0**level, 2.0**level)))
    return Coverage.of(objects, levels).level


def _show_shapes(sizes: Tensor, count: int, image_size: Extent) -> None:
    """Show clusters of the objects' sizes, and how well they fit beside those found for VOC."""
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
    height, width = size or _BY_SHAPES[student.class_path].numerics["image_size"]
    return height, width


def _training_set(stated: Any, recipes: Sequence[str]) -> VisionDataset:
    """Build the training data alone: the model may lack its anchors yet."""
    if stated is None:
        raise ValueError(
            f"{', '.join(recipes)}: there is no data.train. Give a recipe that has it."
        )
    return dataset_of(stated.as_dict(), "data.train")


def _of_voc(image_size: tuple[int, int]) -> Tensor:
    """VOC's anchors (K, 2), which are for 416 x 416 pixels, scaled to another image size."""
    scale = torch.tensor(image_size).flip(0) / torch.tensor(_OF_VOC).flip(0)
    return torch.tensor(VOC_ANCHORS) * scale
