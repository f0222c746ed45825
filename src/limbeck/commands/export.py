"""``limbeck export``: a student as a file of another runtime, compared with PyTorch there."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor

from limbeck.commands.inputs import image_files_of
from limbeck.commands.measuring import Measure, labelled_split
from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.predicting import ImageFiles
from limbeck.commands.students import Student, measured_at, student_of
from limbeck.data import Shapes, VisionDataset
from limbeck.data.augmentation import to_float
from limbeck.export import Said, Tolerance, Wanted, export
from limbeck.export.writing import told
from limbeck.exported import ExportedModel, read_description
from limbeck.exported.description import PostProcessing, Runtime, beside
from limbeck.frame import Extent
from limbeck.ranges import COUNT, NOT_NEGATIVE, SIDE, refuse_outside
from limbeck.terminal import Table, say

log = logging.getLogger(__name__)

Format = Literal["onnx", "torch_export", "torchscript", "coreml", "openvino", "executorch"]
_RANGES = {"size": SIDE, "batch": COUNT}
_USUAL = Tolerance()
_MOST_IMAGES = 32  # that detections are compared on
_GENERATED = 8
_INSTEAD: Mapping[str, str] = {
    "coreml": "Write --format torch_export, and convert that file on a Mac: pip install "
    "coremltools, then coremltools.convert(torch.export.load(FILE).run_decompositions({})), with "
    "--post_processing dense, since Core ML has a suppression of its own",
    "executorch": "Write --format torch_export --post_processing dense, and lower that file with "
    "executorch's to_edge_transform_and_lower, for the device that is meant",
}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck export``. Its ``--size`` is two words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck export", allow_abbrev=False)
    parser.add_argument("student", type=Path, help="A student's folder, or a run's folder.")
    parser.add_function_arguments(export_student, skip={"student", "size"})
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="The height and the width that the file takes, in pixels. Default: those that the "
        "student evaluates at.",
    )
    chosen = parser.instantiate(parser.parse_args(arguments[1:])).as_dict()
    size = chosen.pop("size")
    export_student(**chosen, size=tuple(size) if size else None)


def export_student(
    student: Path,
    format: Format,
    output: Path,
    size: Extent | None = None,
    batch: int = 1,
    dynamic: Literal["batch", "size", "both"] | None = None,
    post_processing: PostProcessing = "inside",
    half: bool = False,
    images: Path | None = None,
    validate: str | None = None,
    tolerance: Tolerance = _USUAL,
    trust: bool = False,
) -> None:
    """Write a student as a file of another runtime, and compare what it finds with PyTorch.

    The file takes a batch (B, 3, H, W), RGB in [0, 1]; normalisation is inside. Beside it lies its
    description, FILE.json: how an image comes into that frame and boxes back, the outputs, classes,
    thresholds and the licence. The file is run in its own runtime, its detections are matched one
    to one with PyTorch's, and it is put in its place only where they are the same.

    Args:
        student: A student's folder, or a run's folder.
        format: The format: onnx, torch_export, torchscript or openvino.
        output: The file: .onnx, .pt2, .pt or .xml.
        size: The height and the width that the file takes, in pixels. Default: those that the
            student evaluates at; where it keeps the aspect of images, those of the largest image
            that is wider than high.
        batch: The number of images that the file takes at once, unless that is dynamic.
        dynamic: What may vary from call to call: batch, size, or both.
        post_processing: Whether the file gives detections (inside), or the boxes and scores before
            suppression (dense).
        half: Whether the network computes in float16. Inputs, boxes and scores stay float32.
        images: A folder of images, or one image, to compare detections on: the first 32. Default:
            generated images.
        validate: Labelled images, as a folder of data or a recipe, of which the split "val" or the
            only one is meant: PyTorch and the file are both measured on it.
        tolerance: How far the file may be from PyTorch.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm, or
            whose card names weights elsewhere. Its code then runs.

    Raises:
        ImportError: A package that the format needs is not installed.
        ValueError: The student cannot be exported so, or the file differs from PyTorch: it is not
            written then.
    """
    refuse_outside(_RANGES, {"size": size, "batch": batch}, "--")
    limits = {"boxes": tolerance.boxes, "scores": tolerance.scores}
    refuse_outside(dict.fromkeys(limits, NOT_NEGATIVE), limits, "--tolerance.")
    if format in _INSTEAD:
        raise ValueError(
            f"--format {format}: such a file cannot be run where limbeck is tested, and what was "
            f"not compared is not shipped. {_INSTEAD[format]}."
        )
    runtime: Runtime = format  # type: ignore[assignment]  # the others were refused
    refuse_unwritable_target(output, "--output")
    _refuse_exported(student)
    loaded = student_of(student, trust=trust)
    dataset = None
    if validate is not None:
        dataset = labelled_split(validate, "--validate", loaded.task, loaded.classes)
    seen = _given(images, loaded) if images is not None else _generated(loaded)
    wanted = Wanted(
        runtime,
        size,
        batch,
        get_args(Literal["batch", "size"]) if dynamic == "both" else (dynamic,) if dynamic else (),
        post_processing,
        half,
        tolerance,
    )
    said = Said(loaded.classes, loaded.licence, dict(loaded.metadata), measured_at(loaded))
    found = export(loaded.model, output, wanted, seen, said)
    kind = "generated images" if images is None else f"images of {images}"
    say(f"{output} and {beside(output).name}: {_told_frame(output)}", soft_wrap=True)
    say(f"compared on {found.images} {kind}: {told(found)}.", soft_wrap=True)
    if dataset is not None:
        _measure(loaded, ExportedModel(output, trust=True), dataset)


def _refuse_exported(student: Path) -> None:
    if student.is_file():
        raise ValueError(
            f"{student} is a file; expected a student's folder, or a run's folder. Give the folder "
            "that it was exported from."
        )


def _given(images: Path, loaded: Student) -> list[Tensor]:
    """The first images of a folder, as the student sees them."""
    files = ImageFiles(image_files_of([images])[:_MOST_IMAGES], loaded.transform)
    found = []
    for index in range(len(files)):
        _, pixels, problem = files[index]
        if pixels is None:
            raise ValueError(f"{problem}. Leave it out of --images.")
        found.append(to_float()(pixels))
    return found


def _generated(loaded: Student) -> list[Tensor]:
    """Shapes on a coloured ground, as the student sees them."""
    dataset = Shapes(loaded.task, size=256, count=_GENERATED)
    drawn = (dataset[index][0] for index in range(_GENERATED))
    return [to_float()(loaded.transform(image)).as_subclass(Tensor) for image in drawn]


def _told_frame(output: Path) -> str:
    """What the file takes, in words."""
    described = read_description(output)
    frame = described.framing
    size = "any size" if frame.size is None else f"{frame.size[0]} x {frame.size[1]} px"
    count = "any number of" if described.batch is None else f"{described.batch}"
    rules = {
        "stretch": "images are resized to it",
        "shorter_side": "images keep their aspect and are padded to it",
        "fit": "images are letterboxed",
    }
    return f"{count} images at once, {size} (height x width); {rules[frame.rule]}."


def _measure(loaded: Student, exported: ExportedModel, dataset: VisionDataset) -> None:
    """The metric of PyTorch and of the file on labelled images, side by side."""
    measure = Measure(dataset, loaded.transform, 1, torch.device("cpu"))
    ours, theirs = measure(loaded.model, "PyTorch"), measure(exported, "exported")
    table = Table("", "PyTorch", "exported", "difference")
    for name in sorted(ours, key=lambda each: each != measure.name):
        difference = theirs[name] - ours[name]
        table.add_row(name, f"{ours[name]:.4f}", f"{theirs[name]:.4f}", f"{difference:+.4f}")
    say(table)
