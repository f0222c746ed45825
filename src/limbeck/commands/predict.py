"""``limbeck predict``: an exported student on images."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.predicting import (
    ImageFiles,
    Seen,
    Viewer,
    chosen_device,
    classify,
    detect,
    image_files,
    image_loader,
    written_detections,
)
from limbeck.commands.results import RESULTS, SOFTWARE, Results, picture_files, refuse_replacing
from limbeck.commands.students import student_of
from limbeck.frame import takes_list
from limbeck.ranges import COUNT, SHARE, Range, refuse_outside
from limbeck.report import detection_picture

log = logging.getLogger(__name__)

RANGES = {"threshold": SHARE, "batch_size": COUNT, "workers": Range(0)}
SUFFIXES = {"png": ".png", "jpeg": ".jpg"}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck predict``. Its images are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck predict", allow_abbrev=False)
    parser.add_function_arguments(predict, skip={"images"}, as_positional=True)
    parser.add_argument("images", nargs="+", type=Path, help="Image files, or folders of them.")
    predict(**parser.parse_args(arguments[1:]).as_dict())


def predict(
    student: Path,
    images: list[Path],
    output: Path = Path("predictions"),
    threshold: float = 0.4,
    trust: bool = False,
    device: str | None = None,
    batch_size: int = 1,
    workers: int = 0,
    picture_format: Literal["png", "jpeg"] = "png",
) -> None:
    """Run a student on images; write predictions.json and, for detectors, pictures.

    Photographs are turned upright as their EXIF orientation says; boxes are in the turned pixels.
    The results of an earlier call are replaced; any other file in the output folder is left alone.
    Results are written batch by batch.

    Args:
        student: The student's folder with student.safetensors and student.json, as `limbeck fit`
            exports it; the run's folder; or a file of `limbeck export`, in whose runtime it runs.
        images: Image files, or folders of them.
        output: The folder for the results.
        threshold: The lowest score that a detection must have to be written.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm, or
            whose card names weights elsewhere. Its code then runs.
        device: The device of the student: cpu, cuda, cuda:1, mps. Default: the GPU where there is
            one.
        batch_size: The number of images that the student sees at once.
        workers: The number of processes that read images. With 0, they are read in between.
        picture_format: The format of the pictures. JPEGs are smaller, and faster to write.

    Raises:
        FileExistsError: A result would replace an image, or a file that is no earlier result.
        PermissionError: The output folder cannot be made, or not be written to.
        ValueError: An image could not be read: the results of the others are written. Or a number
            is out of its range, or this machine has no such device.
    """
    numbers = {"threshold": threshold, "batch_size": batch_size, "workers": workers}
    refuse_outside(RANGES, numbers, "--")
    refuse_unwritable_target(output, "--output", folder=True)
    place = chosen_device(device)
    loaded = student_of(student, trust=trust)
    model = loaded.model.to(place)
    paths = image_files(images)
    pictures = picture_files(paths, output, SUFFIXES[picture_format]) if takes_list(model) else {}
    refuse_replacing(paths, [*pictures.values(), output / RESULTS])
    output.mkdir(parents=True, exist_ok=True)
    classes = list(loaded.classes)
    if takes_list(model):
        ask: Callable[..., Any] = partial(detect, model, threshold=threshold)
    else:
        ask = partial(classify, model, classes=classes)
    files = ImageFiles(list(dict.fromkeys(paths)), loaded.transform)
    batches = image_loader(files, batch_size, workers, place)
    with Results(output / RESULTS) as results:
        for seen in Viewer(model, place, ask).through(batches, len(files)):
            results.add(written(seen, classes, pictures))
    log.info("%d images: %s", results.count, output / RESULTS)
    if results.count < len(files):
        unreadable = len(files) - results.count
        raise ValueError(f"{unreadable} of {len(files)} images were unreadable.")


def written(
    seen: Iterable[Seen], classes: Sequence[str], pictures: Mapping[Path, Path]
) -> dict[str, list[dict[str, Any]]]:
    """What the results have of a batch; pictures are drawn of what was detected.

    Args:
        seen: The images that a student was shown.
        classes: The names of its classes.
        pictures: The picture to draw of each image, by the image's path; empty for classifiers.

    Returns:
        What was found on each image that has an answer, by its path.
    """
    found = {}
    for path, image, answer, _ in seen:
        if image is None:
            continue
        if path in pictures:
            detection_picture(image.cpu(), answer, classes, pictures[path], SOFTWARE)
            answer = written_detections(answer, list(classes))
        found[str(path)] = answer
    return found
