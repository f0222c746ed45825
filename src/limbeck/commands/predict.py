"""``limbeck predict``: an exported student on images."""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from PIL import ImageOps
from torch import Tensor, nn

from limbeck.data.augmentation import Transform, from_recipe, to_float
from limbeck.data.base import BadSampleError, Task, open_image, to_rgb
from limbeck.frame import takes_list
from limbeck.models import load_student
from limbeck.models.card import read_card
from limbeck.report import detection_picture

log = logging.getLogger(__name__)

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck predict``. Its images are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = ArgumentParser(prog="limbeck predict", allow_abbrev=False)
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

    Args:
        student: The student's folder with student.safetensors and student.json, as `limbeck fit`
            exports it.
        images: Image files, or folders of them.
        output: The folder for the results.
        threshold: The lowest score that a detection must have to be written.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm, or
            whose card names weights elsewhere. Its code then runs.

    Raises:
        ValueError: An image could not be read. The results of the others are written.
    """
    model = load_student(student, trust=trust)
    card = read_card(student)
    classes = list(card.classes)
    task: Task = "detection" if takes_list(model) else "classification"
    try:
        transform = evaluation_transform(card.metadata, trust=trust, task=task)
    except ValueError as error:
        raise ValueError(f"{card.path}: metadata.augmentation: {error}") from None
    output.mkdir(parents=True, exist_ok=True)
    predictions, unreadable = {}, 0
    for path in image_files(images):
        try:
            with open_image(path) as opened:
                image = to_rgb(ImageOps.exif_transpose(opened))
        except BadSampleError as error:
            unreadable += 1
            log.error("%s", error)
            continue
        pixels = transform(image)
        if takes_list(model):
            found = detect(model, pixels, threshold)
            detection_picture(pixels, found, classes, output / f"{path.stem}.png")
            predictions[str(path)] = written_detections(found, classes)
        else:
            predictions[str(path)] = classify(model, pixels, classes)
    target = output / "predictions.json"
    target.write_text(json.dumps(predictions, indent=2) + "\n")
    log.info("%d images: %s", len(predictions), target)
    if unreadable:
        raise ValueError(f"{unreadable} of {unreadable + len(predictions)} images were unreadable.")


def image_files(paths: list[Path]) -> Iterator[Path]:
    """Find images.

    Args:
        paths: Image files, and folders whose image files are meant.

    Returns:
        The image files. Those of a folder are in alphabetical order.

    Raises:
        FileNotFoundError: There is no image.
        ValueError: Two images have the same name, and their pictures would have it, too.
    """
    found = [
        file
        for path in paths
        for file in (sorted(path.iterdir()) if path.is_dir() else [path])
        if file.suffix.lower() in SUFFIXES or not path.is_dir()
    ]
    if not found:
        raise FileNotFoundError(
            f"no image in {', '.join(map(str, paths))}: looked for {', '.join(sorted(SUFFIXES))}"
        )
    (stem, count), *_ = Counter(file.stem for file in found).most_common(1)
    if count > 1:
        raise ValueError(
            f"{count} images are called {stem!r}: their pictures would overwrite each other. Give "
            "them in separate calls with an --output of their own."
        )
    return iter(found)


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
    return from_recipe(stated, trust=trust, task=task).evaluation()


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
