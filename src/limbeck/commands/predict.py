"""``limbeck predict``: an exported student on images."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.predicting import (
    ImageFiles,
    Loaded,
    answers,
    chosen_device,
    classify,
    detect,
    image_files,
    image_loader,
    written_detections,
)
from limbeck.commands.results import RESULTS, SOFTWARE, Results, picture_files, refuse_replacing
from limbeck.data.augmentation import Transform, from_recipe, unchanged
from limbeck.data.base import Task
from limbeck.data.loading import scaled
from limbeck.frame import takes_list
from limbeck.models import load_student
from limbeck.models.card import read_card
from limbeck.ranges import COUNT, SHARE, Range, refuse_outside
from limbeck.report import detection_picture
from limbeck.terminal import progress_bar

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
    """Run an exported student on images; write predictions.json and, for detectors, pictures.

    Photographs are turned upright as their EXIF orientation says; boxes are in the turned pixels.
    The results of an earlier call are replaced; any other file in the output folder is left alone.
    Results are written batch by batch.

    Args:
        student: The student's folder with student.safetensors and student.json, as `limbeck fit`
            exports it.
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
    model = load_student(student, trust=trust).to(place)
    card = read_card(student)
    task: Task = "detection" if takes_list(model) else "classification"
    try:
        transform = evaluation_transform(card.metadata, trust=trust, task=task)
    except ValueError as error:
        raise ValueError(f"{card.path}: metadata.augmentation: {error}") from None
    paths = image_files(images)
    pictures = picture_files(paths, output, SUFFIXES[picture_format]) if takes_list(model) else {}
    refuse_replacing(paths, [*pictures.values(), output / RESULTS])
    output.mkdir(parents=True, exist_ok=True)
    viewer = Viewer(model, list(card.classes), place, threshold, pictures)
    files = ImageFiles(list(dict.fromkeys(paths)), transform)
    with Results(output / RESULTS) as results:
        view(viewer, image_loader(files, batch_size, workers, place), len(files), results)
    log.info("%d images: %s", results.count, output / RESULTS)
    if results.count < len(files):
        unreadable = len(files) - results.count
        raise ValueError(f"{unreadable} of {len(files)} images were unreadable.")


@dataclass(frozen=True)
class Viewer:
    """A student that looks at images, and draws what it detects.

    Attributes:
        model: The student, in evaluation mode.
        classes: The names of its classes.
        device: Where it is.
        threshold: The lowest score of a detection that is kept.
        pictures: The picture to draw of each image, by the image's path; empty for classifiers.
    """

    model: nn.Module
    classes: list[str]
    device: torch.device
    threshold: float
    pictures: Mapping[Path, Path]

    def look(self, batch: Sequence[Loaded]) -> dict[str, list[dict[str, Any]]]:
        """Look at a batch, draw what is detected, and log what is unreadable.

        Args:
            batch: The images.

        Returns:
            What was found on each image that could be read, by its path, as the results have it.
        """
        pixels = [each.pixels for each in batch if each.pixels is not None]
        paths = [each.path for each in batch if each.pixels is not None]
        problems = {each.path: each.problem for each in batch if each.pixels is None}
        found = {}
        for path, (image, answer) in zip(paths, self._answers(pixels), strict=True):
            if isinstance(answer, ValueError):
                problems[path] = f"{path}: {answer}"
            elif isinstance(answer, dict):
                out = self.pictures[path]
                detection_picture(image.cpu(), answer, self.classes, out, SOFTWARE)
                found[str(path)] = written_detections(answer, self.classes)
            else:
                found[str(path)] = answer
        for each in batch:
            if each.path in problems:
                log.error("%s", problems[each.path])
        return found

    def _answers(self, pixels: list[Tensor]) -> list[tuple[Tensor, Any]]:
        """Each image as the student sees it, and the answer for it."""
        if not pixels:
            return []
        try:
            images = scaled([image.to(self.device, non_blocking=True) for image in pixels])
            return [*zip(images, answers(self._ask, self.model, images), strict=True)]
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"{len(pixels)} images at once do not fit into the memory of {self.device} "
                f"({error}). Give a smaller --batch_size, or --device cpu."
            ) from error

    def _ask(self, images: list[Tensor]) -> list[Any]:
        if takes_list(self.model):
            return detect(self.model, images, self.threshold)
        return [*classify(self.model, images, self.classes)]


def view(viewer: Viewer, batches: Iterable[list[Loaded]], count: int, results: Results) -> None:
    """Let a student look at all images, and write what it finds batch by batch.

    Args:
        viewer: The student.
        batches: The images, batch by batch.
        count: The number of images, for the bar.
        results: The file of results.
    """
    batches = iter(batches)  # which starts the workers, before the bar has a thread
    with progress_bar("images", "{task.completed:.0f} of {task.total:.0f}") as bar:
        task = bar.add_task("", total=count)
        for batch in batches:
            results.add(viewer.look(batch))
            bar.advance(task, len(batch))


def evaluation_transform(
    metadata: Mapping[str, Any], *, trust: bool = False, task: Task | None = None
) -> Transform:
    """What the validation images went through when a student was measured.

    Args:
        metadata: What the student's card says under this name.
        trust: Whether to build an augmentation that is not limbeck's own, whose code then runs.
        task: The task of the student, for which an augmentation has to be. Default (None): any.

    Returns:
        A transform of images (3, H, W), which it gives as uint8, or as float32 in [0, 1].

    Raises:
        ValueError: The augmentation is not trusted, is for another task, or cannot be built.
    """
    stated = metadata.get("augmentation")
    if not stated or not isinstance(stated, dict):
        return unchanged
    if "class_path" not in stated:  # so it was once written
        if metadata.get("task") != "classification":
            return unchanged
        stated = {"class_path": "limbeck.data.ClassificationAugmentation", "init_args": stated}
    return from_recipe(stated, trust=trust, task=task).evaluation()
