"""``limbeck convert``: weights of one library as another one's, and the proof that they are."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
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
from limbeck.checkpoints.checkpoint import style_of
from limbeck.checkpoints.formats import FORMATS, format_named, format_of_suffix
from limbeck.commands.outputs import refuse_unwritable_target, refuse_used_folder
from limbeck.commands.parsing import VerbParser
from limbeck.data.base import open_image, to_rgb
from limbeck.models import load_weights, save_student
from limbeck.models.build import Build
from limbeck.models.card import CARD
from limbeck.models.loading import read_student
from limbeck.report.agreement import agreement
from limbeck.terminal import Table, say

STUDENT = "limbeck"  # the format of a student's folder
CHOICES = (*(each.name for each in FORMATS if each.suffixes), STUDENT)


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck convert``. Its ``--from`` is a word that Python keeps for itself.

    Args:
        arguments: The verb, and what follows it.
    """
    parser = VerbParser(prog="limbeck convert", allow_abbrev=False)
    ends = {
        "source_format": ("--from", "The source's format. Default: as the names in the file say."),
        "target_format": ("--to", "The target's format. Default: as the target's suffix says."),
    }
    parser.add_function_arguments(convert, skip=set(ends), as_positional=True)
    for name, (flag, meaning) in ends.items():
        parser.add_argument(flag, dest=name, choices=CHOICES, help=meaning)
    convert(**parser.parse_args(arguments[1:]).as_dict())


def convert(
    source: str,
    target: Path,
    source_format: str | None = None,
    target_format: str | None = None,
    style: Style | None = None,
    part: str | None = None,
    coco_ids: bool = False,
    check: Path | None = None,
) -> None:
    """Write weights in another library's format.

    Args:
        source: A file of weights, its address, or a student's folder.
        target: The file to write; a folder for a student of limbeck's.
        source_format: The source's format. It is recognised by the names in the file where it is
            not given.
        target_format: The target's format. Where it is not given, the suffix of the target says it:
            .pkl is detectron2's, a folder limbeck's, .safetensors torchvision's.
        style: The style of the source's trunk where it is not the usual one: caffe (BGR, standard
            deviation 1, stride in the 1x1 convolutions; usual in detectron2's ResNet-50 and 101) or
            pytorch.
        part: The part of a file with several sets of weights, such as model_ema.
        coco_ids: Whether torchvision's side has the 91 identifiers of COCO for classes, and the
            other side the 80 that occur.
        check: An image on which the outputs of the source and of the target are compared.

    Raises:
        ValueError: The suffix of the target does not say its format, or nothing can be converted.
    """
    to = target_format or _format_of(target)
    _refuse_taken(target, to)
    checkpoint = read_source(source, source_format, style, part)
    if coco_ids and (to == STUDENT or not format_named(to).coco_ids):
        checkpoint = contiguous(checkpoint)
    # Before anything is written, as either may fail.
    picture = None if check is None else _decoded(check)
    model = None if check is None else model_of(checkpoint)
    if to == STUDENT:
        written = write_student(checkpoint, target)
    else:
        written = write_checkpoint(checkpoint, target, to, coco_ids=coco_ids)
    say(f"{checkpoint.kind}, {checkpoint.library} -> {to}: {', '.join(map(str, written))}")
    for line in [] if to == STUDENT else format_named(to).remarks(checkpoint):
        say(f"  {line}", soft_wrap=True)
    if model is not None and picture is not None:
        written_model = model_of(read_target(checkpoint, target, to, coco_ids))
        say(compare(model, written_model, picture, title=str(check)))


def _refuse_taken(target: Path, to: str) -> None:
    """Refuse to replace what is there: the target, or the configuration that is written beside."""
    if to == STUDENT:
        refuse_used_folder(target, "target")
        return
    refuse_unwritable_target(target, "target")
    beside = format_named(to).configuration_suffix
    paths = [target, *([target.with_suffix(beside)] if beside else [])]
    for path in paths:
        if os.path.lexists(path):
            raise FileExistsError(
                f"{path} is there, and would be replaced. Give the target another name, or move "
                "that file away."
            )


def _format_of(target: Path) -> str:
    """The format that the suffix of a target says; a folder is a student's."""
    if not target.suffix:
        return STUDENT
    found = format_of_suffix(target.suffix)
    if found is None:
        raise ValueError(
            f"{target}: the suffix {target.suffix} does not say one format, as several libraries "
            f"write it, or none does. Name the format with --to, one of {', '.join(CHOICES)}."
        )
    return found.name


def read_source(
    source: str,
    library: str | None = None,
    style: Style | None = None,
    part: str | None = None,
) -> Checkpoint:
    """A checkpoint with all arguments that its model needs.

    Args:
        source: A file of weights, its address, or a student's folder.
        library: The name of the source's format. None: it is recognised.
        style: The style of the source's trunk. None: the usual one.
        part: The part of a file with several sets of weights. None: the weights themselves.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: There is no such file or student.
        ValueError: It cannot be read, or does not say how its model was built.
    """
    if library == STUDENT or (library is None and (Path(source) / CARD).is_file()):
        return _read_student(source)
    found = open_checkpoint(source, library, style, part)
    format_named(found.library).check_convertible(source)
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
    network = card.network()
    made, arguments = network.class_path, network.init_args
    names: dict[str, Kind] = {_maker(kind): kind for each in FORMATS for kind in each.kinds}
    if made not in names:
        raise ValueError(f"{folder} was built by {made}: only {', '.join(names)} are converted.")
    return Checkpoint(folder, STUDENT, names[made], tensors, arguments, card.classes)


def _maker(kind: Kind) -> str:
    """The class path of limbeck's model of a kind."""
    return f"limbeck.models.{'Classifier' if kind == 'trunk' else kind}"


def read_target(source: Checkpoint, target: Path, to: str, coco_ids: bool) -> Checkpoint:
    """What was written, with the arguments that its library has to be told beside it.

    Args:
        source: The checkpoint that was converted.
        target: The file or folder that was written.
        to: The name of its format.
        coco_ids: Whether torchvision's file has COCO's 91 identifiers for classes.

    Returns:
        The checkpoint of the target.
    """
    if to == STUDENT:
        return _read_student(str(target))
    style = style_of(source) if source.kind == "trunk" else None
    found = open_checkpoint(str(target), to, style)
    if source.kind == "trunk":  # into the classifier that the source is of
        tensors = with_std(found, source.arguments["std"])
        return replace(source, source=str(target), tensors=tensors)
    written = format_named(to)
    found = contiguous(found) if coco_ids and written.coco_ids else found
    return replace(found, arguments=found.arguments | written.told(source))


def write_student(checkpoint: Checkpoint, folder: Path) -> list[Path]:
    """Keep a checkpoint as a student of limbeck's in a folder, which is returned."""
    metadata = {"converted_from": f"{checkpoint.library}: {checkpoint.source}"}
    save_student(model_of(checkpoint), folder, classes=checkpoint.classes, metadata=metadata)
    return [folder]


def model_of(checkpoint: Checkpoint) -> nn.Module:
    """The model whose weights these are, with the numerics of their library.

    Args:
        checkpoint: The checkpoint.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: They are a trunk's alone.
    """
    if checkpoint.kind == "trunk" and checkpoint.library != STUDENT:
        raise ValueError(
            f"{checkpoint.source} is a trunk or classifier, and its file does not say how it is "
            "built. Give it to a model as weights, and convert the student."
        )
    arguments = checkpoint.arguments | checkpoint.test_arguments
    model = Build(_maker(checkpoint.kind), arguments).make()
    load_weights(model, checkpoint)
    return model.eval()


def _decoded(path: Path) -> Tensor:
    with open_image(path) as opened:
        image: Tensor = to_dtype(to_rgb(opened), torch.float32, scale=True)
    return image


def compare(source: nn.Module, target: nn.Module, image: Tensor, title: str) -> Table:
    """The largest differences of the outputs of two models on one image.

    Args:
        source: The model of the source.
        target: The model of the target.
        image: The image, RGB from 0 to 1, (3, H, W).
        title: The title of the table, which names the image.

    Returns:
        A table with a row for each output.

    Raises:
        ValueError: They differ by more than rounding before any threshold.
    """
    found = agreement(source, target, image)
    table = Table("output", "largest difference", "largest value", title=title)
    for each in found.dense:
        table.add_row(each.output, f"{each.largest:.2e}", f"{each.scale:.2e}")
    counts = f"{found.matched} of {found.detections} found", f"{found.others} there"
    table.add_row("detections", *counts)
    unequal = [each.output for each in found.dense if not each.is_equal]
    if unequal:
        say(table)
        raise ValueError(f"{', '.join(unequal)} differ: what was written gives other outputs.")
    return table
