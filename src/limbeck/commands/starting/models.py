"""Models by a word: ``retinanet-resnet50``, ``timm:convnext_atto``, a hub's name, a folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from limbeck.commands.starting.commented import Chosen
from limbeck.commands.starting.detectors import detector, transformer
from limbeck.commands.starting.folders import in_folder
from limbeck.commands.starting.measured import Measured
from limbeck.commands.starting.named_model import BLOCKS, IMAGENET, LIGHT, OF_TIMM, SCRATCH, Model

_SMALL_IMAGES = 64  # pixels, below which a stem of stride 4 leaves too little
_OF_HUB = (
    "The first run downloads configuration and weights of this name from the hub of Hugging Face; "
    "their licence is written into student.json. To go without, give a folder that save_pretrained "
    "wrote."
)


def usual_names(data: Measured) -> tuple[str, str]:
    """The teacher and the student where nobody names others."""
    if data.task == "detection":
        return "retinanet-resnet50", "retinanet-resnet18"
    return "resnet50", "resnet18"


def named(word: str, data: Measured, size: Any) -> Model:
    """Find the model that a word names.

    Args:
        word: A detector such as ``retinanet-resnet50``, a classifier of torchvision's or timm's, a
            name on the hub, or the folder of a transformer detector, of a student or of a run.
        data: What the data are like.
        size: The size of images as the rules have chosen it: ``[shorter, longer]`` side, or the one
            side of images that are classified.

    Returns:
        The model.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: There is no such model, or it is for other data.
    """
    path = Path(word)
    if path.is_dir():
        return in_folder(word, path, data, size)
    if path.is_file():
        raise ValueError(
            f"{word} is a file; expected a model's name, or a folder: of a student, of a run, or "
            "of a transformer detector. Name the network, such as retinanet-resnet50, and state "
            "the file as its weights in the recipe that is written."
        )
    if word.startswith((".", "~", "/")):
        raise FileNotFoundError(f"{word} is not a folder. Correct the path.")
    if data.task == "classification":
        return _classifier(word, data, size)
    if "/" in word:
        return transformer(word, word, data, size, Chosen(word, _OF_HUB), hub=True)
    return detector(word, data, size)


def _classifier(word: str, data: Measured, size: int) -> Model:
    arguments: dict[str, Any] = {"network": word, "num_classes": len(data.classes)}
    light = word == LIGHT
    if light:
        stem = {"stem_stride": 1} if size <= _SMALL_IMAGES else {}
        arguments["network"] = Chosen(BLOCKS | stem, SCRATCH)
    else:
        of_timm = word.startswith("timm:")
        source = "timm" if of_timm else "torchvision"
        why = _of_classifiers(OF_TIMM if of_timm else IMAGENET)
        arguments["weights"] = Chosen(f"{source}:backbone", why)
    made = Model(word, "limbeck.models.Classifier", arguments, "classifier", from_scratch=light)
    published: Any = made.built  # which says what there is, where there is no such network
    if not light and published.published and published.published[0].startswith("timm:"):
        weights = Chosen("timm:backbone", _of_classifiers(OF_TIMM))
        made = replace(made, arguments={**arguments, "weights": weights})
    return made


def _of_classifiers(why: str) -> str:
    """What is said of weights, without the norms, which are trained in a classifier anyway."""
    return why.replace(" and set norm: trained,", "")
