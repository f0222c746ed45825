"""``limbeck quantize``: a student whose layers compute in INT8."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.commands.inputs import image_files_of
from limbeck.commands.measuring import Measure, labelled_split
from limbeck.commands.outputs import refuse_used_folder
from limbeck.commands.parsing import VerbParser
from limbeck.commands.predicting import ImageFiles, Loaded, chosen_device, image_loader
from limbeck.commands.students import Student, student_of
from limbeck.data.loading import scaled
from limbeck.exported import ExportedModel
from limbeck.frame import takes_list
from limbeck.models import save_student
from limbeck.quantization import calibrate, in_floats, planned, quantize
from limbeck.ranges import COUNT, SHARE, refuse_outside
from limbeck.terminal import Table, progress_bar, say

log = logging.getLogger(__name__)

RANGES = {"calibration_images": COUNT, "batch_size": COUNT, "drop": SHARE}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck quantize``. Its images are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck quantize", allow_abbrev=False)
    parser.add_argument("student", type=Path, help="The folder of a student, or of a run.")
    parser.add_argument("images", nargs="+", type=Path, help="Image files, or folders of them.")
    parser.add_function_arguments(quantize_student, skip={"student", "images"})
    quantize_student(**parser.parse_args(arguments[1:]).as_dict())


def quantize_student(
    student: Path,
    images: list[Path],
    output: Path,
    labelled: str | None = None,
    drop: float | None = None,
    keep: list[str] | None = None,
    calibration_images: int = 256,
    batch_size: int = 8,
    device: str | None = None,
    trust: bool = False,
) -> None:
    """Round the weights and activations of a student to 8 bits, after its training.

    The ranges of its activations are observed on images, which need no labels. The result is a
    student's folder again: it can be measured, trained further, which is quantization-aware
    training, and exported to run in INT8.

    Args:
        student: The folder of the student, as `limbeck fit` exports it.
        images: Image files, or folders of them, such as the student will see.
        output: The folder of the quantized student.
        labelled: Labelled images, as a folder of data or a recipe, on whose split "val", or only
            one, the student is measured before and after. Default (None): it is not measured.
        drop: The most that the score on the labelled images may fall. Where it falls further, every
            quantized layer is tried in floats by itself, and those that help most stay floats until
            the score falls no further. Default (None): nothing is tried.
        keep: The paths of modules that stay floats, with all that is in them. Default (None): every
            convolution and linear layer is quantized.
        calibration_images: The number of images that ranges are observed on, at most; of more, they
            are taken evenly from all.
        batch_size: The number of images that the student sees at once.
        device: The device of the student: cpu, cuda, cuda:1, mps. Default: the GPU where there is
            one.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm, or
            whose card names weights elsewhere. Its code then runs.

    Raises:
        FileExistsError: Something is in the output folder.
        ValueError: The student is quantized already, --drop has no labelled images, a number is out
            of its range, an image cannot be read, or the score falls further than --drop whatever
            stays in floats. Nothing is written then.
    """
    numbers = {"calibration_images": calibration_images, "batch_size": batch_size, "drop": drop}
    refuse_outside(RANGES, numbers, "--")
    if drop is not None and labelled is None:
        raise ValueError(
            "--drop is given without --labelled; expected labelled images, on which the score is "
            "measured. Give them, or leave --drop out."
        )
    refuse_used_folder(output, "--output")
    place = chosen_device(device)
    loaded = student_of(student, trust=trust)
    _refuse_quantized(loaded)
    model = loaded.model.to(place)
    paths = image_files_of(images)
    files = ImageFiles(_evenly(paths, calibration_images), loaded.transform)
    measure = before = None
    if labelled is not None:
        dataset = labelled_split(labelled, "--labelled", loaded.task, loaded.classes)
        measure = Measure(dataset, loaded.transform, batch_size, place)
        before = measure(model, "in floats")[measure.name]
    _quantize(model, keep or [], files, batch_size, place)
    if measure is not None and before is not None:
        floats = _told(model, measure, before, drop)
        if floats:
            model = student_of(student, trust=trust).model.to(place)
            _quantize(model, [*(keep or []), *floats], files, batch_size, place)
            after = measure(model, "in INT8")[measure.name]
            log.info("%s: %.4f with these in floats", measure.name, after)
            _refuse_lower(measure.name, after, before - (drop or 0))
    build: Any = model.build
    save_student(model, output, build=build, classes=loaded.classes, metadata=loaded.metadata)
    log.info("quantized student: %s", output)


def _evenly(paths: Sequence[Path], most: int) -> list[Path]:
    """At most so many of the paths, from all of them: folders are often in the order of classes."""
    count = min(len(paths), most)
    return [paths[number * len(paths) // count] for number in range(count)]


def _refuse_quantized(loaded: Student) -> None:
    if isinstance(loaded.model, ExportedModel):
        raise ValueError(
            f"{loaded.source} is an exported file; expected the folder of a student. Give the "
            "folder that it was exported from."
        )
    if getattr(loaded.model, "quantization", None) is not None:
        raise ValueError(
            f"{loaded.source} is quantized already; expected floats. Give the folder of the "
            "student that it was made of."
        )


def _quantize(
    model: nn.Module, keep: Sequence[str], files: ImageFiles, batch_size: int, place: torch.device
) -> None:
    """Quantize a model, and observe its ranges on image files, all of which have to be readable."""

    def seen(batch: Sequence[Loaded]) -> Any:
        pixels = []
        for each in batch:
            if each.pixels is None:
                raise ValueError(each.problem)
            pixels.append(each.pixels.to(place))
        images: list[Tensor] = scaled(pixels)
        return model(images if takes_list(model) else _stacked(images, batch))

    quantization = planned(model, lambda: seen([files[0]]), keep)
    quantize(model, quantization)
    batches = image_loader(files, batch_size, 0, place)
    with progress_bar("ranges", "{task.completed:.0f} of {task.total:.0f} images") as bar:
        shown = bar.add_task("", total=len(files))

        def observed(batch: Sequence[Loaded]) -> None:
            seen(batch)
            bar.advance(shown, len(batch))

        calibrate(model, observed, batches)
    log.info(
        "%d layers are quantized, %d batch normalisations are folded; ranges of %d images",
        len(quantization.layers),
        len(quantization.folded),
        len(files),
    )


def _stacked(images: list[Tensor], batch: Sequence[Loaded]) -> Tensor:
    """The images of a classifier, which have to be of one size."""
    sizes = {tuple(image.shape[-2:]): each.path for image, each in zip(images, batch, strict=True)}
    if len(sizes) > 1:
        told = ", ".join(f"{path} is {size[0]} x {size[1]}" for size, path in sizes.items())
        raise ValueError(
            f"{told} px (height x width); expected images of one size, as the student names no "
            "augmentation that makes them so. Give --batch_size 1."
        )
    return torch.stack(images)


def _told(model: nn.Module, measure: Measure, before: float, drop: float | None) -> list[str]:
    """Say what the score of a quantized model is, and find the layers that are to stay floats."""
    after = measure(model, "in INT8")[measure.name]
    log.info("%s: %.4f in floats, %.4f in INT8", measure.name, before, after)
    if drop is None or after >= before - drop:
        return []
    return _sensitive(model, measure, before - drop, after)


def _sensitive(model: Any, measure: Measure, least: float, after: float) -> list[str]:
    """The layers that have to stay floats, those first that help most by themselves."""
    gains = {}
    for number, path in enumerate(model.quantization.layers, 1):
        with in_floats(model, [path]):
            told = f"layer {number} of {len(model.quantization.layers)} in floats"
            gains[path] = measure(model, told)[measure.name] - after
    table = Table("layer in floats", f"{measure.name} gains", f"{measure.name} with those above")
    chosen: list[str] = []
    for path in sorted(gains, key=gains.__getitem__, reverse=True):
        chosen.append(path)
        with in_floats(model, chosen):
            score = measure(model, f"{len(chosen)} layers in floats")[measure.name]
        table.add_row(path, f"{gains[path]:+.4f}", f"{score:.4f}")
        if score >= least:
            break
    say(table)
    _refuse_lower(measure.name, score, least)
    return chosen


def _refuse_lower(name: str, score: float, least: float) -> None:
    if not score >= least:  # NaN, too
        raise ValueError(
            f"{name} is {score:.4f} with the sensitive layers in floats; expected {least:.4f} or "
            "more. Give a greater --drop."
        )
