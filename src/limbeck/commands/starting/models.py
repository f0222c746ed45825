"""Models by a word: ``retinanet-resnet50``, ``timm:convnext_atto``, a hub's name, a folder."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from limbeck.commands.anchor_arguments import anchor_arguments, objects_seen
from limbeck.commands.starting.commented import Chosen, plain
from limbeck.commands.starting.measured import Measured
from limbeck.commands.starting.rules import last_level
from limbeck.models import Build
from limbeck.models.card import CARD, read_card
from limbeck.models.detection.detr.configuration import licence_of, names_of
from limbeck.models.hub import CONFIG

Form = Literal["pyramid", "fixed", "transformer", "classifier"]

LIGHT = "light"
_KINDS = {
    "retinanet": "RetinaNet",
    "faster-rcnn": "FasterRCNN",
    "fcos": "FCOS",
    "gfl": "GFL",
    "ssd": "SSD",
}
_TRUNKS = ("resnet18", "resnet34", "resnet50", "resnet101", "mobilenet_v2", LIGHT)
_OF_SSD = ("vgg16", "mobilenet_v3_large")
_LEAST = 288  # pixels: these need images of 268 px, and sides are multiples of 32
_BLOCKS = {"depths": [1, 1, 1, 1], "widths": [32, 64, 128, 256]}
_SMALL_IMAGES = 64  # pixels, below which a stem of stride 4 leaves too little
_IMAGENET = (
    "The first run downloads torchvision's ImageNet weights of this network (torchvision is "
    "BSD-3-Clause; ImageNet itself is for research). To go without, give the path of a file that "
    "you have, or leave weights out and set norm: trained, and train for twice as long."
)
_OF_TIMM = (
    "The first run downloads timm's weights of this network, whose licence its page on the hub "
    "says. To go without, give the path of a file that you have, or leave weights out and train "
    "for twice as long."
)
_OF_HUB = (
    "The first run downloads configuration and weights of this name from the hub of Hugging Face; "
    "their licence is written into student.json. To go without, give a folder that save_pretrained "
    "wrote."
)
_SCRATCH = (
    "It is a network of 1-1-1-1 basic blocks that is trained from scratch: nothing is downloaded."
)


@dataclass(frozen=True)
class Model:
    """A model that a word names.

    Attributes:
        word: The word.
        class_path: Its class.
        arguments: The arguments of its constructor, as a recipe states them.
        form: What images it takes, and how it is trained.
        from_scratch: Whether it begins without weights.
        pretrained: The part that begins with weights, as the beginning of its parameters' names;
            None: all or none of it.
        ready: Why it has learnt these very classes already, as a sentence; None: it has not.
        hub: Whether it is described on the hub alone, so that it cannot be looked at.
    """

    word: str
    class_path: str
    arguments: Mapping[str, Any]
    form: Form
    from_scratch: bool = False
    pretrained: str | None = None
    ready: str | None = None
    hub: bool = field(default=False)

    @property
    def stated(self) -> dict[str, Any]:
        """The model as a recipe states it."""
        return {"class_path": self.class_path, "init_args": dict(self.arguments)}

    @property
    def kind(self) -> str:
        """The name of its class."""
        return self.class_path.rpartition(".")[2]

    @cached_property
    def built(self) -> nn.Module | None:
        """The model on the device ``meta``, without weights; None where the hub describes it."""
        if self.hub:
            return None
        arguments = {n: v for n, v in plain(self.arguments).items() if n != "weights"}
        with torch.device("meta"):
            # The folder that describes a transformer is the user's own, and its code is not run.
            return Build(self.class_path, arguments).make(trust=self.form == "transformer")

    @property
    def count(self) -> int | None:
        """How many parameters it has; None where the hub alone knows."""
        return None if self.built is None else sum(p.numel() for p in self.built.parameters())

    @property
    def parameters(self) -> str:
        """How many parameters it has, in words."""
        if self.count is None:
            return "as many parameters as the hub says"
        return f"{self.count / 1e6:.2f} M parameters"


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
        return _in_folder(word, path, data, size)
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
        return _transformer(word, word, data, size, Chosen(word, _OF_HUB), hub=True)
    return _detector(word, data, size)


def least_side(words: Iterable[str]) -> int:
    """The least shorter side of images, in pixels, that all detectors of these words take."""
    kinds = [_kind_and_trunk(word) for word in words]
    return _LEAST if any(kind == "ssd" and trunk in _OF_SSD for kind, trunk in kinds) else 0


def with_anchors(model: Model, data: Measured) -> Model:
    """A detector with the anchors that cover the objects of the data best, if it has such.

    Args:
        model: The model.
        data: What the data are like.

    Returns:
        The model, with the arguments of its anchors.
    """
    form = None if model.kind == "HuggingFaceDetector" else anchor_arguments(model.built)
    if form is None or model.ready:
        return model
    objects = objects_seen(form.detector, data.data)
    best = form.best(objects)
    now, then = (form.coverage(objects, each) for each in (form.present, best))
    why = (
        f"By `limbeck anchors`: {then.recall:.0%} of the objects have an anchor of an IoU of "
        f"{then.threshold:g} or more, where the usual anchors reach {now.recall:.0%}."
    )
    (first, value), *others = best.items()
    return replace(model, arguments={**model.arguments, first: Chosen(value, why), **dict(others)})


def _detector(word: str, data: Measured, size: Sequence[int]) -> Model:
    """One of limbeck's detectors, by its kind and its trunk."""
    prefix, trunk = _kind_and_trunk(word)
    known = {each: _TRUNKS + (_OF_SSD if each == "ssd" else ()) for each in _KINDS}
    if prefix is None or trunk not in known[prefix]:
        every = ", ".join(f"{each}-{'|'.join(trunks)}" for each, trunks in known.items())
        raise ValueError(
            f"there is no detector {word!r}. Expected one of {every}; a name on the hub with a "
            "slash, such as PekingU/rtdetr_r18vd; or a folder."
        )
    light = trunk == LIGHT
    begin = Chosen(_BLOCKS, _SCRATCH) if light else trunk
    arguments: dict[str, Any] = {"backbone": begin, "num_classes": len(data.classes)}
    if not light:
        arguments["weights"] = Chosen("torchvision:backbone", _IMAGENET)
    short, long = size
    kind = _KINDS[prefix]
    if kind == "SSD":
        lying = (data.extents[:, 1] >= data.extents[:, 0]).float().mean() >= 0.5
        arguments["image_size"] = [short, long] if lying else [long, short]
        if trunk not in _OF_SSD:
            arguments["levels"] = [3, min(8, short.bit_length() - 1)]
    else:
        arguments |= _pyramid(kind, short, light=light) | {"min_size": short, "max_size": long}
    if light or kind != "SSD":
        arguments["norm"] = "trained" if light else "frozen"
    made = Model(
        word,
        f"limbeck.models.{kind}",
        arguments,
        "fixed" if kind == "SSD" else "pyramid",
        from_scratch=light,
        pretrained=None if light else "backbone.features" if trunk in _OF_SSD else "backbone.body",
    )
    return with_anchors(made, data)


def _kind_and_trunk(word: str) -> tuple[str | None, str]:
    """Which kind of detector a word names, None where it names none, and on which trunk."""
    plain_word = re.sub(r"^fasterrcnn", "faster-rcnn", word.lower().replace("_", "-"))
    plain_word = plain_word.removesuffix("-fpn")
    prefix = next((each for each in _KINDS if plain_word.startswith(f"{each}-")), None)
    return prefix, plain_word.removeprefix(f"{prefix}-").replace("-", "_")


def _pyramid(kind: str, short: int, *, light: bool) -> dict[str, Any]:
    """The levels of a pyramid, its width, and the numerics that suit images of any size."""
    last = last_level(short)
    levels = [3, last]
    if kind == "FasterRCNN":
        levels = [2, 6 if last == 7 else 5]
    arguments: dict[str, Any] = {"levels": levels}
    if kind in ("RetinaNet", "FasterRCNN") and last == 7:
        why = (
            "With torchvision's numerics, the anchors of P6 and P7 drift beside their cells unless "
            "both sides of the images are multiples of 128 px; mmdetection's have no such bound."
        )
        arguments["preset"] = Chosen("mmdetection", why)
    if light:
        arguments["fpn_channels"] = 128
        arguments |= {"box_head_channels": 256} if kind == "FasterRCNN" else {"head_depth": 2}
    return arguments


def _classifier(word: str, data: Measured, size: int) -> Model:
    arguments: dict[str, Any] = {"network": word, "num_classes": len(data.classes)}
    light = word == LIGHT
    if light:
        stem = {"stem_stride": 1} if size <= _SMALL_IMAGES else {}
        arguments["network"] = Chosen(_BLOCKS | stem, _SCRATCH)
    else:
        of_timm = word.startswith("timm:")
        source = "timm" if of_timm else "torchvision"
        why = _OF_TIMM if of_timm else _IMAGENET.replace(" and set norm: trained,", "")
        arguments["weights"] = Chosen(f"{source}:backbone", why)
    made = Model(word, "limbeck.models.Classifier", arguments, "classifier", from_scratch=light)
    published: Any = made.built  # which says what there is, where there is no such network
    if not light and published.published and published.published[0].startswith("timm:"):
        why = _OF_TIMM
        made = replace(made, arguments={**arguments, "weights": Chosen("timm:backbone", why)})
    return made


def _in_folder(word: str, path: Path, data: Measured, size: Any) -> Model:
    """The student that a folder or a run's folder has, or a transformer detector."""
    for folder in (path, path / "student"):
        if (folder / CARD).is_file():
            return _student(word, folder.resolve(), data)
    if (path / CONFIG).is_file():
        _refuse_other_task("detection", word, data)
        licence = licence_of(str(path)) or "not said in the folder"
        why = f"The folder's own weights. Their licence: {licence}. Nothing is downloaded."
        where = str(path.resolve())
        return _transformer(word, where, data, size, Chosen(where, why), hub=False)
    raise ValueError(
        f"{word} has neither a {CARD}, as `limbeck fit` writes it, nor a {CONFIG}, as "
        "save_pretrained writes it. Expected the folder of a student, of a run or of a "
        "transformer detector."
    )


def _student(word: str, folder: Path, data: Measured) -> Model:
    card = read_card(folder)
    network = card.network()
    if not network.class_path.startswith("limbeck."):
        raise ValueError(
            f"{word} holds a {network.class_path}; expected a class of limbeck's, whose arguments "
            "are known. Name another model here, and then state `class_path: "
            "limbeck.models.load_student` with this folder in the recipe."
        )
    kind = network.class_path.rpartition(".")[2]
    _refuse_other_task("classification" if kind == "Classifier" else "detection", word, data)
    why = f"The weights of {word}. Nothing is downloaded."
    arguments = {n: v for n, v in network.init_args.items() if v is not None}
    if card.classes:
        _check_classes(word, card.classes, data.classes, same_number=False)
        ready = _named_alike(word, card.classes)
    else:
        _refuse_other_number(word, arguments.get("num_classes"), data)
        ready = _unnamed(word, data)
    form: Form = "pyramid"
    if kind == "Classifier":
        form = "classifier"
    elif kind == "HuggingFaceDetector":
        form = "transformer"
    elif "image_size" in arguments:
        form = "fixed"
    return Model(
        word,
        network.class_path,
        arguments | {"weights": Chosen(str(folder), why)},
        form,
        ready=ready,
    )


def _transformer(
    word: str, network: str, data: Measured, size: Sequence[int], weights: Chosen, *, hub: bool
) -> Model:
    """A detector of Hugging Face's transformers."""
    short, long = size
    sizes = Chosen(short, "In training, and where it is measured, images keep their aspect.")
    arguments = {
        "network": network,
        "num_classes": len(data.classes),
        "weights": weights,
        "min_size": sizes,
        "max_size": long,
    }
    kind = "limbeck.models.HuggingFaceDetector"
    made = Model(word, kind, arguments, "transformer", pretrained="network.model.backbone", hub=hub)
    if hub:
        return made
    return replace(made, ready=_learnt(word, Path(network), data))


def _learnt(word: str, folder: Path, data: Measured) -> str | None:
    """Why the detector in a folder knows the classes of the data, or None where it has others."""
    labels = tuple(names_of(str(folder)))
    if len(labels) != len(data.classes):
        return None  # of another dataset, such as COCO: its layers of classes are trained anew
    if all(re.fullmatch(r"LABEL_\d+", label) for label in labels):
        return _unnamed(word, data)
    if not _check_classes(word, labels, data.classes, same_number=True):
        return None
    return _named_alike(word, labels)


def _named_alike(word: str, classes: Sequence[str]) -> str:
    return f"{word} has learnt the classes of these data, in their order: {_told(classes)}."


def _unnamed(word: str, data: Measured) -> str:
    return (
        f"{word} has as many classes as these data, and does not name them: see that their order "
        f"is {_told(data.classes)}."
    )


def _refuse_other_number(word: str, count: Any, data: Measured) -> None:
    """Refuse a model without names of classes that has another number of them."""
    if count != len(data.classes):
        raise ValueError(
            f"{word} has {count} classes, without names; the data have {len(data.classes)}: "
            f"{_told(data.classes)}. Expected the same. Give the folder of another model, or name "
            "a network, which is trained first."
        )


def _check_classes(
    word: str, theirs: Sequence[str], ours: Sequence[str], *, same_number: bool
) -> bool:
    """Whether classes are the same in the same order; names in another order are refused."""
    if tuple(theirs) == tuple(ours):
        return True
    if sorted(theirs) == sorted(ours):
        raise ValueError(
            f"{word} has learnt the classes {_told(theirs)}, and the data have them in the order "
            f"{_told(ours)}. Expected one order, or each would be taught as another. State the "
            "classes of the data in the model's order (such as names in data.yaml)."
        )
    if same_number:
        return False
    raise ValueError(
        f"{word} has learnt the classes {_told(theirs)}; the data have {_told(ours)}. Expected the "
        "same. Give the folder of another model, or name a network, which is trained first."
    )


def _refuse_other_task(task: str, word: str, data: Measured) -> None:
    if task != data.task:
        raise ValueError(
            f"{word} is for {task}, and the data are for {data.task}. Give another model."
        )


def _told(names: Sequence[str]) -> str:
    more = len(names) - 8
    return ", ".join(names[:8]) + (f" and {more} more" if more > 0 else "")
