"""Pretrained weights by name: torchvision's, timm's, a local file, or a student's folder."""

import logging
from pathlib import Path

import timm
import torch
from torch import nn
from torchvision.models import WeightsEnum, get_model_weights, list_models
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    RetinaNet_ResNet50_FPN_Weights,
)

from limbeck.models.build import LimbeckModel, Tensors
from limbeck.models.state_dicts import load_strictly, read_tensors
from limbeck.models.student import read_student

log = logging.getLogger(__name__)

# torchvision runs these with eps 0 in every normalisation, which no state dict says.
_WITHOUT_EPS = (FasterRCNN_ResNet50_FPN_Weights.COCO_V1, RetinaNet_ResNet50_FPN_Weights.COCO_V1)

_ADVICE = (
    "Expected either this very model, or the ImageNet classifier whose trunk it has. Give weights "
    "of the same architecture and num_classes, or build the model as the weights were."
)


def load_weights(model: nn.Module, source: str | Path) -> None:
    """Load pretrained weights into ``model``, strictly.

    Names decide what the weights are: the whole model, or the ImageNet classifier whose trunk is
    this detector's backbone (its head is left out). A :class:`Classifier` takes weights of another
    number of classes and keeps its own head; what is left out is logged.

    Args:
        model: one of limbeck's models, or any module for a file of its own state dict.
        source: ``torchvision:backbone`` (torchvision's default ImageNet weights of the named
            trunk), ``torchvision:IMAGENET1K_V1``, ``torchvision:COCO_V1`` (of the detector with
            this architecture), ``timm:backbone``, ``timm:<name>`` or ``timm:<tag>``, a ``.pth``,
            ``.pt`` or ``.safetensors`` file, or the folder of a student.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: There are no such published weights, or the weights do not fit.
    """
    tensors = _read(model, str(source))
    part = model
    if isinstance(model, LimbeckModel):
        part, tensors = model.part_for(tensors)
    load_strictly(part, tensors, f"weights={str(source)!r} for {type(model).__name__}", _ADVICE)
    log.info("%s has the weights %s", type(model).__name__, source)


def _read(model: nn.Module, source: str) -> Tensors:
    library, _, name = source.partition(":")
    if library == "torchvision":
        return _torchvision(model, name)
    if library == "timm":
        return _timm(model, name)
    path = Path(source)
    if path.is_dir():
        return read_student(path)[1]
    if path.is_file():
        return read_tensors(path)
    raise FileNotFoundError(
        f"weights={source!r}: there is no such file or folder. Expected a .pth, .pt or "
        ".safetensors file, a student's folder, torchvision:backbone, "
        "torchvision:<name of the weights>, or timm:<name or tag>."
    )


def _torchvision(model: nn.Module, name: str) -> Tensors:
    """Weights that torchvision publishes for this model or its trunk."""
    fitting = [get_model_weights(m) for m in _published(model, "torchvision") if m in list_models()]
    known: dict[str, WeightsEnum] = {}
    for enum in reversed(fitting):  # the trunk's come last, so they win a name
        known |= {member.name: member for member in enum}
        known |= {repr(member): member for member in enum} | {"backbone": enum.DEFAULT}
    if name not in known:
        raise ValueError(
            f"weights='torchvision:{name}': torchvision publishes none of that name for this "
            f"{type(model).__name__}. There are: {', '.join(known) or 'none'}."
        )
    tensors: Tensors = known[name].get_state_dict(progress=True, check_hash=True)
    return _with_eps(tensors) if known[name] in _WITHOUT_EPS else tensors


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


def _with_eps(tensors: Tensors, eps: float = 1e-5) -> Tensors:
    """The same function with ``eps`` in every normalisation, where there was none.

    Scaling the weight is exact; lowering the variance instead would make that of a dead channel
    negative.
    """
    folded = dict(tensors)
    for name, variance in tensors.items():
        if name.endswith(".running_var"):
            weight = name.removesuffix("running_var") + "weight"
            variance = variance.double()
            scale = torch.sqrt((variance + eps) / variance)
            folded[weight] = (tensors[weight] * scale).to(tensors[weight].dtype)
    return folded
