"""Pretrained weights by source: a file of any of three libraries, a student, a published name."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import timm
from torch import nn
from torchvision.models import WeightsEnum, get_model_weights, list_models

from limbeck.checkpoints import Checkpoint, Kind, is_file_source, open_checkpoint, with_std
from limbeck.checkpoints.formats import fitted
from limbeck.checkpoints.libraries.torchvision import WITHOUT_EPS, with_eps
from limbeck.checkpoints.tensors import Tensors
from limbeck.models.build import LimbeckModel
from limbeck.models.state_dicts import load_strictly
from limbeck.models.student import network_of, read_student

log = logging.getLogger(__name__)

Source = str | Path | Checkpoint | None

_ADVICE = (
    "Expected either this very model, or the ImageNet classifier whose trunk it has. Give weights "
    "of the same architecture and num_classes, or build the model as the weights were."
)
# The numerics that may be given otherwise than the weights have them: std is folded into the first
# convolution, and a detector of one image size may be trained further at another.
_FREE = ("std", "image_size")


def open_weights(source: Source) -> Source:
    """The weights in a file or a student's folder; names of published weights are passed on.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The file cannot be read, or is not of the library that was named.
    """
    if source is None or isinstance(source, Checkpoint) or not is_file_source(str(source)):
        return source
    if not Path(source).is_dir():
        return open_checkpoint(str(source))
    card, tensors = read_student(source)
    network = network_of(card)
    maker = network["class_path"].rpartition(".")[2]
    kind: Kind = maker if maker in get_args(Kind) else "trunk"
    return Checkpoint(str(source), "limbeck", kind, tensors, network["init_args"])


def stated_by(weights: Source, numerics: Mapping[str, Any]) -> dict[str, Any]:
    """What weights say of the arguments of a model that they are to be loaded into.

    Args:
        weights: The weights, opened.
        numerics: The model's numerics. A student's folder has all arguments of its own model, of
            which these alone concern another one.

    Returns:
        The arguments by name; empty for published weights, which say nothing.
    """
    if not isinstance(weights, Checkpoint):
        return {}
    if weights.library != "limbeck":
        return weights.arguments
    return {n: v for n, v in weights.arguments.items() if n in numerics and v is not None}


def load_weights(model: nn.Module, source: str | Path | Checkpoint) -> None:
    """Load pretrained weights into ``model``, strictly.

    Names decide what the weights are: the whole model, or the ImageNet classifier whose trunk is
    this detector's backbone (its head is left out). A :class:`Classifier` takes weights of another
    number of classes and keeps its own head; what is left out is logged.

    Args:
        model: one of limbeck's models, or any module for a file of its own state dict.
        source: a ``.pth``, ``.pt``, ``.pkl`` or ``.safetensors`` file or its address (http), of
            torchvision's, detectron2's, mmdetection's or Fine-grained Feature Imitation's names,
            which are recognised, or said: ``detectron2:file``, ``mmdetection:file``, ``fgfi:file``
            (this also of a VGG of Caffe's, in BGR); ``detectron2-pytorch:file`` and
            ``mmdetection-caffe:file`` where the trunk is not of that library's usual style (see
            :mod:`limbeck.checkpoints`). darknet's ``.weights`` and ``.conv.23`` for a
            YOLOv2, also said: ``darknet:file``. The folder of a student. Published weights:
            ``torchvision:backbone`` (torchvision's default ImageNet weights of the named trunk),
            ``torchvision:DEFAULT``, ``torchvision:IMAGENET1K_V1``, ``torchvision:COCO_V1`` (of the
            detector with this architecture), ``timm:backbone``, ``timm:<name>`` or ``timm:<tag>``.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: There are no such published weights, or the weights do not fit, or need another
            model than this to give the outputs that they gave.
    """
    opened = source if isinstance(source, Checkpoint) else open_weights(source)
    told = opened.source if isinstance(opened, Checkpoint) else str(opened)
    where = f"weights={told!r} for {type(model).__name__}"
    if isinstance(opened, Checkpoint):
        tensors = _fitting(model, opened, where)
    else:
        tensors = _published_tensors(model, told)
    part = model
    if isinstance(model, LimbeckModel):
        part, tensors = model.part_for(tensors)
    load_strictly(part, tensors, where, _ADVICE)
    log.info("%s has the weights %s", type(model).__name__, told)


def _fitting(model: nn.Module, opened: Checkpoint, where: str) -> Tensors:
    """The tensors, after what is said about them was compared with the model's arguments."""
    opened = fitted(opened, model.state_dict(), where)
    if not isinstance(model, LimbeckModel):
        return opened.tensors
    kind = model.base.__name__
    if opened.kind not in ("trunk", "other", kind):
        raise ValueError(
            f"{where}: they are of a {opened.kind}. Expected a {kind}'s, or those of its trunk."
        )
    here = {**model.numerics, **model.arguments}
    contradicted = [
        f"{name} is {stated} in the weights, {here[name]} here"
        for name, stated in stated_by(opened, model.numerics).items()
        if name in here and name not in _FREE and not _same(stated, here[name])
    ]
    if contradicted:
        raise ValueError(
            f"{where}: their outputs would be others. " + "; ".join(contradicted) + ". Leave out "
            "what the weights decide (preset, stride_in_1x1, mean, ...), or give what they say."
        )
    return with_std(opened, model.arguments.get("std"))


def _same(stated: Any, given: Any) -> bool:
    if isinstance(stated, str) and isinstance(given, str):
        return stated.removeprefix("torchvision:") == given.removeprefix("torchvision:")
    try:
        return np.shape(stated) == np.shape(given) and np.allclose(stated, given)
    except (TypeError, ValueError):
        return bool(stated == given)


def _published_tensors(model: nn.Module, source: str) -> Tensors:
    library, _, name = source.partition(":")
    return _torchvision(model, name) if library == "torchvision" else _timm(model, name)


def _torchvision(model: nn.Module, name: str) -> Tensors:
    """Weights that torchvision publishes for this model or its trunk."""
    fitting = [get_model_weights(m) for m in _published(model, "torchvision") if m in list_models()]
    known: dict[str, WeightsEnum] = {}
    for enum in reversed(fitting):  # the trunk's come last, so they win a name
        known |= {member.name: member for member in enum}
        known |= {repr(member): member for member in enum} | {"backbone": enum.DEFAULT}
    if fitting:
        known["DEFAULT"] = fitting[-1].DEFAULT  # of the whole model
    if name not in known:
        raise ValueError(
            f"weights='torchvision:{name}': torchvision publishes none of that name for this "
            f"{type(model).__name__}. There are: {', '.join(known) or 'none'}."
        )
    tensors: Tensors = known[name].get_state_dict(progress=True, check_hash=True)
    return with_eps(tensors) if known[name] in WITHOUT_EPS else tensors


def _timm(model: nn.Module, name: str) -> Tensors:
    """Weights that timm publishes: by full name, or by the tag of this model's own network."""
    own = next(iter(_published(model, "timm")), "")
    if not timm.is_model(name):
        if not own:
            raise ValueError(
                f"weights='timm:{name}': timm has no model of that name. Name one, or give a tag "
                "to a Classifier of a timm network."
            )
        name = own if name == "backbone" else f"{own.partition('.')[0]}.{name}"
    return timm.create_model(name, pretrained=True).state_dict()


def _published(model: nn.Module, library: str) -> list[str]:
    """Names in ``library`` of the models whose weights fit, the trunk's first."""
    names = model.published if isinstance(model, LimbeckModel) else ()
    split = [name.partition(":") for name in names]
    return [name for of, _, name in split if of == library]
