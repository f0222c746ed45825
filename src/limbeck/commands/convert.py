"""``limbeck convert``: weights of one library as another one's, and the proof that they are."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import rich
import torch
from jsonargparse import ArgumentParser
from rich.table import Table
from timm.data import IMAGENET_DEFAULT_MEAN
from torch import nn
from torchvision.transforms.v2.functional import to_dtype

from limbeck.checkpoints import (
    Checkpoint,
    Kind,
    Style,
    contiguous,
    open_checkpoint,
    with_std,
    write_checkpoint,
)
from limbeck.checkpoints.writing import style_of
from limbeck.data.base import open_image, to_rgb
from limbeck.models import load_weights, save_student
from limbeck.models.build import Build
from limbeck.models.student import CARD, read_student
from limbeck.presets import (
    PRESETS,
    PresetName,
    detections_of,
    numerics_of_outputs,
    retinanet_sizes,
    rpn_sizes,
)
from limbeck.report.agreement import agreement

Format = Literal["torchvision", "detectron2", "mmdetection", "fgfi", "limbeck"]
_MAKERS: dict[Kind, str] = {
    "RetinaNet": "limbeck.models.RetinaNet",
    "FasterRCNN": "limbeck.models.FasterRCNN",
    "FasterRCNNC4": "limbeck.models.FasterRCNNC4",
    "SSD": "limbeck.models.SSD",
    "trunk": "limbeck.models.Classifier",
}
# Of these, what the written configuration says.
_SAID: dict[str, tuple[str, ...]] = {
    "torchvision": (),
    "detectron2": ("roi_aligned",),
    "mmdetection": ("relu_before_p7", "roi_aligned"),
}
# What torchvision has to be told, where it is not this.
_USUAL: dict[str, Any] = {
    "mean": IMAGENET_DEFAULT_MEAN,
    "stride_in_1x1": False,
    "aspect_ratios": (0.5, 1.0, 2.0),
    "min_size": 800,
    "max_size": 1333,
    "score_threshold": 0.05,
    "nms_threshold": 0.5,
}
# What the original of Fine-grained Feature Imitation has to be told, where it is not this.
_USUAL_OF_FGFI: dict[str, Any] = {
    "anchor_sizes": ((128, 256, 512),),
    "aspect_ratios": (0.5, 1.0, 2.0),
    "min_size": 600,
    "max_size": math.inf,
    "score_threshold": 0.0,
    "nms_threshold": 0.3,
    "detections_per_image": 100,
}
# What torchvision has to be told of an SSD in any case.
_OF_SSD = (
    "image_size",
    "scales",
    "aspect_ratios",
    "steps",
    "mean",
    "std",
    "score_threshold",
    "nms_threshold",
    "detections_per_image",
    "topk_candidates",
)
_BY_SUFFIX: dict[str, Format] = {".safetensors": "torchvision", ".pkl": "detectron2", "": "limbeck"}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck convert``. Its ``--from`` is a word that Python keeps for itself.

    Args:
        arguments: The verb, and what follows it.
    """
    parser = ArgumentParser(prog="limbeck convert", allow_abbrev=False)
    ends = {"source_format": "--from", "target_format": "--to"}
    parser.add_function_arguments(convert, skip=set(ends), as_positional=True)
    for name, flag in ends.items():
        parser.add_argument(flag, dest=name, choices=get_args(Format), help=f"the {name}")
    convert(**parser.parse_args(arguments[1:]).as_dict())


def convert(
    source: str,
    target: Path,
    source_format: Format | None = None,
    target_format: Format | None = None,
    style: Style | None = None,
    part: str | None = None,
    coco_ids: bool = False,
    check: Path | None = None,
) -> None:
    """Write weights in another library's format.

    Args:
        source: a file of weights, its address, or a student's folder.
        target: the file to write; a folder for a student of limbeck's.
        source_format: recognised by the names in the file where it is not given.
        target_format: by the suffix of the target where it is not given: .pkl is detectron2's, a
            folder limbeck's, .safetensors torchvision's.
        style: of the source's trunk where it is not the usual one: caffe (BGR, standard deviation
            1, stride in the 1x1 convolutions; usual in detectron2's ResNet-50 and 101) or pytorch.
        part: of a file with several sets of weights, such as model_ema.
        coco_ids: torchvision's side has the 91 identifiers of COCO for classes, the other side the
            80 that occur.
        check: an image on which the outputs of the source and of the target are compared.
    """
    checkpoint = read_source(source, source_format, style, part)
    to = target_format or _BY_SUFFIX.get(target.suffix)
    if to is None:
        raise ValueError(f"{target}: several libraries write {target.suffix}. Name one with --to.")
    if coco_ids and to != "torchvision":
        checkpoint = contiguous(checkpoint)
    # Before anything is written, as it may fail.
    model = model_of(checkpoint) if check is not None else None
    if to == "limbeck":
        written = write_student(checkpoint, target)
    else:
        written = write_checkpoint(checkpoint, target, to, coco_ids=coco_ids)
    console = rich.get_console()
    console.print(
        f"{checkpoint.kind}, {checkpoint.library} -> {to}: {', '.join(map(str, written))}"
    )
    for line in differences(checkpoint, to):
        console.print(f"  {line}", soft_wrap=True)
    if model is not None and check is not None:
        written_model = model_of(read_target(checkpoint, target, to, coco_ids))
        console.print(compare(model, written_model, check))


def read_source(
    source: str,
    library: Format | None = None,
    style: Style | None = None,
    part: str | None = None,
) -> Checkpoint:
    """A checkpoint with all arguments that its model needs.

    Raises:
        FileNotFoundError: There is no such file or student.
        ValueError: It cannot be read, or does not say how its model was built.
    """
    if library == "limbeck" or (library is None and (Path(source) / CARD).is_file()):
        return _read_student(source)
    found = open_checkpoint(source, library, style, part)
    if found.library == "darknet":
        raise ValueError(
            f"{source} is a file of darknet's, which does not say of what network, and no other "
            "library has a YOLOv2. Give it to a model as weights; a student's folder of it is kept "
            f"by limbeck.models.save_student(limbeck.models.YOLOv2(1.0, num_classes=..., "
            f"weights={source!r}), folder)."
        )
    if found.library != "torchvision" or found.contents is None:
        return found
    if found.contents.part in ("student", "average"):
        raise ValueError(
            f"{source} is a checkpoint of limbeck's training, which does not say how the student "
            "was built. Convert the run's folder student/."
        )
    return found if found.arguments else open_checkpoint(source, "torchvision", style, part)


def _read_student(folder: str) -> Checkpoint:
    card, tensors = read_student(folder)
    made, arguments = card["build"]["class_path"], card["build"]["init_args"]
    for kind, maker in _MAKERS.items():
        if maker == made:
            return Checkpoint(folder, "limbeck", kind, tensors, arguments, tuple(card["classes"]))
    raise ValueError(
        f"{folder} was built by {made}: only {', '.join(_MAKERS.values())} are converted."
    )


def read_target(source: Checkpoint, target: Path, to: Format, coco_ids: bool) -> Checkpoint:
    """What was written, with the arguments that its library has to be told beside it."""
    if to == "limbeck":
        return _read_student(str(target))
    style = style_of(source) if source.kind == "trunk" else None
    found = open_checkpoint(str(target), to, style)
    if source.kind == "trunk":  # into the classifier that the source is of
        tensors = with_std(found, source.arguments["std"])
        return replace(source, source=str(target), tensors=tensors)
    if to == "torchvision" or to == "fgfi":
        found = contiguous(found) if coco_ids else found
        return replace(found, arguments=found.arguments | _told(source))
    return found


def _told(checkpoint: Checkpoint) -> dict[str, Any]:
    """What no state dict of torchvision's names, or file of fgfi, says, and its user has to."""
    given, usual = checkpoint.arguments | checkpoint.test_arguments, dict(_USUAL)
    if checkpoint.kind == "SSD":
        return {name: given[name] for name in _OF_SSD if given.get(name) is not None}
    if checkpoint.kind == "FasterRCNNC4":
        usual = _USUAL_OF_FGFI
    elif checkpoint.kind != "trunk":
        levels = range(given["levels"][0], given["levels"][1] + 1)
        retinanet = checkpoint.kind == "RetinaNet"
        sizes = retinanet_sizes(levels, rounded=False) if retinanet else rpn_sizes(levels)
        most = detections_of(PRESETS["torchvision"], checkpoint.kind)
        usual |= {"anchor_sizes": sizes, "detections_per_image": most}
    told = {
        name: given[name]
        for name, value in usual.items()
        if given.get(name) is not None and not _equal(given[name], value)
    }
    leaky = given.get("activation") == "leaky_relu"
    return told | ({"activation": "leaky_relu"} if leaky else {})


def _equal(given: Any, usual: Any) -> bool:
    return np.shape(given) == np.shape(usual) and np.allclose(given, usual)


def write_student(checkpoint: Checkpoint, folder: Path) -> list[Path]:
    """Keep a checkpoint as a student of limbeck's."""
    metadata = {"converted_from": f"{checkpoint.library}: {checkpoint.source}"}
    save_student(model_of(checkpoint), folder, classes=checkpoint.classes, metadata=metadata)
    return [folder]


def model_of(checkpoint: Checkpoint) -> nn.Module:
    """The model whose weights these are, with the habits of their library.

    Raises:
        ValueError: They are a trunk's alone.
    """
    if checkpoint.kind == "trunk" and checkpoint.library != "limbeck":
        raise ValueError(
            f"{checkpoint.source} is a trunk or classifier, and its file does not say how it is "
            "built. Give it to a model as weights, and convert the student."
        )
    arguments = checkpoint.arguments | checkpoint.test_arguments
    model = Build(_MAKERS[checkpoint.kind], arguments).make()
    load_weights(model, checkpoint)
    return model.eval()


def differences(checkpoint: Checkpoint, to: Format) -> list[str]:
    """What the target's library does otherwise with the same weights, a line each.

    And what it has to be told, where no configuration is written.
    """
    if to == "limbeck":
        return []
    lines = []
    if to == "torchvision" or to == "fgfi":  # mypy narrows by these
        told = ", ".join(f"{name}={value}" for name, value in _told(checkpoint).items())
        lines = [f"{to} has to be told: {told}"] if told else []
    elif checkpoint.kind == "trunk":
        lines = [f"the trunk is of the style {style_of(checkpoint)}, which its file does not say"]
    ours: PresetName | None = checkpoint.arguments.get("preset")
    if ours is None or to == "fgfi":
        return lines
    for name in numerics_of_outputs(checkpoint.kind):
        here = checkpoint.arguments.get(name, getattr(PRESETS[ours], name))
        there = getattr(PRESETS[to], name)
        if here != there and name not in _SAID[to]:
            lines.append(f"{name} is {here} in {ours}, {there} in {to}")
    return lines


def compare(source: nn.Module, target: nn.Module, image: Path) -> Table:
    """The largest differences of the outputs of two models on one image.

    Raises:
        ValueError: They differ by more than rounding before any threshold.
    """
    with open_image(image) as opened:
        picture = to_dtype(to_rgb(opened), torch.float32, scale=True)
    found = agreement(source, target, picture)
    table = Table("output", "largest difference", "largest value", title=str(image))
    for each in found.dense:
        table.add_row(each.output, f"{each.largest:.2e}", f"{each.scale:.2e}")
    counts = f"{found.matched} of {found.detections} found", f"{found.others} there"
    table.add_row("detections", *counts)
    unequal = [each.output for each in found.dense if not each.is_equal]
    if unequal:
        rich.get_console().print(table)
        raise ValueError(f"{', '.join(unequal)} differ: what was written gives other outputs.")
    return table
