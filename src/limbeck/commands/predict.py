"""``limbeck predict``: an exported student on images."""

import json
import logging
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import torch
from PIL import ImageOps
from torch import Tensor, nn
from torchvision.transforms import v2

from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.data.augmentation import Transform, from_recipe, to_float
from limbeck.data.base import BadSampleError, Task, open_image, to_rgb
from limbeck.data.files import SUFFIXES, LeftOut
from limbeck.frame import explained_size, takes_list
from limbeck.models import load_student
from limbeck.models.card import read_card
from limbeck.names import file_names, folded
from limbeck.ranges import SHARE, refuse_outside
from limbeck.report import detection_picture
from limbeck.report.style import is_replaceable
from limbeck.texts import MOST_ROWS, read_text

log = logging.getLogger(__name__)

RESULTS = "predictions.json"
SOFTWARE = "limbeck predict"  # by which pictures of an earlier call are known


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
) -> None:
    """Run an exported student on images; write predictions.json and, for detectors, pictures.

    Photographs are turned upright as their EXIF orientation says; boxes are in the turned pixels.
    The results of an earlier call are replaced; any other file in the output folder is left alone.

    Args:
        student: The student's folder with student.safetensors and student.json, as `limbeck fit`
            exports it.
        images: Image files, or folders of them.
        output: The folder for the results.
        threshold: The lowest score that a detection must have to be written.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm, or
            whose card names weights elsewhere. Its code then runs.

    Raises:
        FileExistsError: A result would replace an image, or a file that is no earlier result.
        PermissionError: The output folder cannot be made, or not be written to.
        ValueError: An image could not be read: the results of the others are written. Or the
            threshold is no score.
    """
    refuse_outside({"threshold": SHARE}, {"threshold": threshold}, "--")
    refuse_unwritable_target(output, "--output", folder=True)
    model = load_student(student, trust=trust)
    card = read_card(student)
    classes = list(card.classes)
    task: Task = "detection" if takes_list(model) else "classification"
    try:
        transform = evaluation_transform(card.metadata, trust=trust, task=task)
    except ValueError as error:
        raise ValueError(f"{card.path}: metadata.augmentation: {error}") from None
    paths = image_files(images)
    pictures = picture_files(paths, output) if takes_list(model) else {}
    refuse_replacing(paths, [*pictures.values(), output / RESULTS])
    output.mkdir(parents=True, exist_ok=True)
    predictions, unreadable = {}, 0
    for path in paths:
        try:
            with open_image(path) as opened:
                image = to_rgb(ImageOps.exif_transpose(opened))
            pixels = transform(image)
            with explained_size("student", model, [pixels]):
                found: Any = (
                    detect(model, pixels, threshold)
                    if takes_list(model)
                    else classify(model, pixels, classes)
                )
        except (BadSampleError, ValueError) as error:  # which the reader or the model refuses
            unreadable += 1
            log.error("%s", error if isinstance(error, BadSampleError) else f"{path}: {error}")
            continue
        if isinstance(found, dict):
            detection_picture(pixels, found, classes, pictures[path], SOFTWARE)
            found = written_detections(found, classes)
        predictions[str(path)] = found
    target = output / RESULTS
    write_whole(target, json.dumps(predictions, indent=2) + "\n")
    log.info("%d images: %s", len(predictions), target)
    if unreadable:
        raise ValueError(f"{unreadable} of {unreadable + len(predictions)} images were unreadable.")


def write_whole(target: Path, text: str) -> None:
    """Write a file as a whole or not at all, as one that was cut off would count as another's."""
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.touch(exist_ok=False)
    try:
        partial.write_text(text, "utf-8")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def image_files(paths: list[Path]) -> list[Path]:
    """Find images.

    Args:
        paths: Image files, and folders whose image files are meant. Hidden files, and those that
            operating systems leave in folders, are left out; their number is logged.

    Returns:
        The image files. Those of a folder are in alphabetical order.

    Raises:
        FileNotFoundError: There is no image.
    """
    found = []
    for path in paths:
        left_out = LeftOut(path)
        if path.is_dir():
            inside = sorted(each for each in path.iterdir() if left_out.keeps(PurePath(each.name)))
            found += [each for each in inside if _is_picture(each, left_out)]
        elif left_out.keeps(PurePath(path.name)):
            found.append(path)
        left_out.say()
    if not found:
        raise FileNotFoundError(
            f"no image in {', '.join(map(str, paths))}: looked for {', '.join(sorted(SUFFIXES))}"
        )
    return found


def picture_files(paths: Sequence[Path], output: Path) -> dict[Path, Path]:
    """The picture that is drawn of each image, another one for each on every disk.

    Args:
        paths: The images.
        output: The folder of the pictures.

    Returns:
        The pictures by their images.

    Raises:
        ValueError: Two images have the same name, so that nobody could tell their pictures apart.
    """
    (stem, count), *_ = Counter(path.stem for path in paths).most_common(1)
    if count > 1:
        raise ValueError(
            f"{count} images are called {stem!r}: their pictures would overwrite each other. Give "
            "them in separate calls with an --output of their own."
        )
    names = file_names({path: f"{path.stem}.png" for path in paths})
    return {path: output / name for path, name in names.items()}


def refuse_replacing(inputs: Iterable[Path], targets: Iterable[Path]) -> None:
    """Refuse results in the place of images, or of files that are no results of an earlier call.

    Args:
        inputs: The images.
        targets: The files that are to be written.

    Raises:
        FileExistsError: A target is an image, also under another name of the file or its folder, or
            a file that `limbeck predict` has not written.
    """
    known = {name: path for path in inputs for name in _names_of(path)}
    for target in targets:
        there = next((known[name] for name in _names_of(target) if name in known), None)
        if there is not None:
            raise FileExistsError(
                f"{target} would replace the image {there}. Nothing was written: choose another "
                "folder with --output."
            )
        if not _is_replaceable(target):
            raise FileExistsError(
                f"{target} is there, and is no result of `limbeck predict`. Nothing was written: "
                "choose another folder with --output, or move that file away."
            )


def evaluation_transform(
    metadata: Mapping[str, Any], *, trust: bool = False, task: Task | None = None
) -> Transform:
    """What the validation images went through when a student was measured.

    Args:
        metadata: What the student's card says under this name.
        trust: Whether to build an augmentation that is not limbeck's own, whose code then runs.
        task: The task of the student, for which an augmentation has to be. Default (None): any.

    Returns:
        A transform of images (3, H, W), which it gives as float32 in [0, 1].

    Raises:
        ValueError: The augmentation is not trusted, is for another task, or cannot be built.
    """
    stated = metadata.get("augmentation")
    if not stated or not isinstance(stated, dict):
        return to_float()
    if "class_path" not in stated:  # so it was once written
        if metadata.get("task") != "classification":
            return to_float()
        stated = {"class_path": "limbeck.data.ClassificationAugmentation", "init_args": stated}
    transform = from_recipe(stated, trust=trust, task=task).evaluation()
    scaled: Transform = v2.Compose([transform, to_float()])
    return scaled


@torch.inference_mode()
def detect(model: nn.Module, image: Tensor, threshold: float) -> dict[str, Tensor]:
    """Detect objects in one image.

    Args:
        model: A detector in evaluation mode.
        image: The image (3, H, W), RGB in [0, 1].
        threshold: The lowest score of a detection that is kept.

    Returns:
        The ``boxes`` (N, 4), xyxy in pixels, the ``labels`` (N,) from 1 and the ``scores`` (N,).
    """
    found: dict[str, Tensor] = model([image])[0]
    # Label 0 is the slot that torchvision's detectors leave unused, and may yet predict.
    kept = (found["scores"] >= threshold) & (found["labels"] > 0)
    return {name: value[kept] for name, value in found.items()}


@torch.inference_mode()
def classify(model: nn.Module, image: Tensor, classes: list[str]) -> list[dict[str, Any]]:
    """Classify one image.

    Args:
        model: A classifier in evaluation mode.
        image: The image (3, H, W), RGB in [0, 1].
        classes: The class names; where there are none, classes are numbers from 0.

    Returns:
        The five likeliest classes, each with its probability as ``score``.
    """
    logits = model(image[None])[0]
    scores, indices = logits.softmax(0).topk(min(5, len(logits)))
    return [
        {"class": classes[i] if classes else i, "score": round(score, 4)}
        for score, i in zip(scores.tolist(), indices.tolist(), strict=True)
    ]


def written_detections(found: dict[str, Tensor], classes: list[str]) -> list[dict[str, Any]]:
    """Turn detections into plain data.

    Args:
        found: The ``boxes`` (N, 4), ``labels`` (N,) and ``scores`` (N,) of one image.
        classes: The class names. Label ``i + 1`` is ``classes[i]``; where there are no names,
            classes are the labels.

    Returns:
        The ``class``, ``score`` and ``box`` of each detection.
    """
    rows = zip(*(found[key].tolist() for key in ("labels", "scores", "boxes")), strict=True)
    return [
        {
            "class": classes[label - 1] if classes else label,
            "score": round(score, 4),
            "box": [round(side, 1) for side in box],
        }
        for label, score, box in rows
    ]


def _is_picture(path: Path, left_out: LeftOut) -> bool:
    """Whether an entry of a folder is an image file; what is not is counted as left out."""
    if path.is_dir():
        left_out.others.append(PurePath(path.name))
        return False
    return left_out.keeps_image(PurePath(path.name))


def _names_of(path: Path) -> set[Hashable]:
    """What two paths have in common that lead to one file, on this disk or on another one."""
    names: set[Hashable] = {folded(os.path.realpath(path))}
    with suppress(OSError):
        found = path.stat()
        names.add((found.st_dev, found.st_ino))
    return names


def _is_replaceable(target: Path) -> bool:
    """Whether a result may be written: nothing is there, or a result of an earlier call."""
    if target.name != RESULTS or not os.path.lexists(target):
        return is_replaceable(target, SOFTWARE)
    with suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_text(target, MOST_ROWS))
        is_ours = isinstance(content, dict) and all(map(_is_found, content.values()))
        return is_ours and not target.is_symlink()
    return False


def _is_found(value: Any) -> bool:
    """Whether a value is what was found on an image, as it stands in the results."""
    return isinstance(value, list) and all(
        isinstance(each, dict) and {"class", "score"} <= each.keys() <= {"class", "score", "box"}
        for each in value
    )
