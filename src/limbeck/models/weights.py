"""Pretrained weights by their source: a library's file, a student's folder, a published name."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
from torch import nn

from limbeck.checkpoints import Checkpoint, Kind, is_file_source, open_checkpoint, with_std
from limbeck.checkpoints.architecture import trunk_of
from limbeck.checkpoints.formats import fitted
from limbeck.checkpoints.tensors import Tensors
from limbeck.models.build import LimbeckModel
from limbeck.models.card import is_on_hub
from limbeck.models.loading import read_student
from limbeck.models.published import published_tensors
from limbeck.models.state_dicts import load_strictly

log = logging.getLogger(__name__)

Source = str | Path | Checkpoint | None

_ADVICE = (
    "Expected either this very model, or the ImageNet classifier whose trunk it has. Give weights "
    "of the same architecture and num_classes, or build the model as the weights were."
)
# The numerics in which a model may differ from its weights: std is folded into the first
# convolution, and a detector of one image size may be trained further at another.
_FREE = ("std", "image_size")


def open_weights(source: Source) -> Source:
    """Read the weights in a file or in a student's folder.

    Args:
        source: What :func:`load_weights` takes. Weights that were opened, names of published
            weights and None are handed on as they are.

    Returns:
        The weights, opened, or what was handed on.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The file cannot be read, or is not of the library that was named.
    """
    if source is None or isinstance(source, Checkpoint) or not is_file_source(str(source)):
        return source
    if not (is_on_hub(source) or Path(source).is_dir()):
        return open_checkpoint(str(source))
    card, tensors = read_student(source)
    if card.quantization is not None:
        raise ValueError(
            f"weights={str(source)!r} are those of a quantized student; expected floats. Give the "
            "folder of the student that it was made of, or go on with the quantized one itself, as "
            "limbeck.models.load_student gives it."
        )
    network = card.network()
    maker = network.class_path.rpartition(".")[2]
    kind: Kind = next((each for each in get_args(Kind) if each == maker), "trunk")
    # The arguments of another library's class are its own, whatever they are called.
    stated = network.init_args if network.class_path.startswith("limbeck.") else {}
    return Checkpoint(str(source), "limbeck", kind, tensors, stated)


def stated_by(weights: Source, numerics: Mapping[str, Any]) -> dict[str, Any]:
    """What weights say about the arguments of a model that they are to be loaded into.

    Args:
        weights: The weights, opened.
        numerics: The model's numerics. A student's folder has all arguments of its own model, of
            which these alone concern another one.

    Returns:
        The arguments by name. There are none for published weights, which say nothing.
    """
    if not isinstance(weights, Checkpoint):
        return {}
    if weights.library != "limbeck":
        return weights.arguments
    return {n: v for n, v in weights.arguments.items() if n in numerics and v is not None}


def load_weights(model: nn.Module, source: str | Path | Checkpoint) -> None:
    """Load pretrained weights into a model, strictly: every tensor has to fit.

    The names of the tensors decide what the weights are: those of the whole model, or those of the
    ImageNet classifier whose trunk is this detector's, and whose head is left out. A
    :class:`limbeck.models.Classifier` takes weights of another number of classes, and keeps its own
    head. What is left out is logged. Sources are:

    * a file, ``.pth``, ``.pt``, ``.pkl`` or ``.safetensors``, or its address (http). Whether it is
      torchvision's, detectron2's, mmdetection's or Fine-grained Feature Imitation's is recognised,
      or said in front of it: ``detectron2:file``, ``mmdetection:file``, ``fgfi:file`` (this also
      for Caffe's VGG, in BGR), and ``detectron2-pytorch:file`` or ``mmdetection-caffe:file`` where
      the trunk is not in that library's usual style (see :mod:`limbeck.checkpoints`);
    * darknet's ``.weights`` and ``.conv.23`` for a YOLOv2, also as ``darknet:file``;
    * the folder of a student, or one on the hub of Hugging Face, as ``hf:owner/name`` or
      ``hf:owner/name@revision``;
    * published weights: ``torchvision:backbone`` (torchvision's default ImageNet weights for the
      trunk), ``torchvision:DEFAULT``, ``torchvision:IMAGENET1K_V1``, ``torchvision:COCO_V1`` (for a
      detector of this architecture), ``timm:backbone``, ``timm:<name>`` or ``timm:<tag>``.

    Args:
        model: One of limbeck's models; or any module, with a file of its own state dict. Its
            parameters and buffers are overwritten.
        source: The weights, as above, or opened ones.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: There are no such published weights; or the weights do not fit the model, or
            need one with other arguments to give the outputs that they gave.

    Example:
        >>> import tempfile, torch
        >>> from limbeck.models import BasicBlocks, Classifier, load_weights, save_student
        >>> shape = BasicBlocks(depths=(1, 1), widths=(8, 16))
        >>> student, folder = Classifier(shape, num_classes=2), tempfile.mkdtemp()
        >>> save_student(student, folder)
        >>> other = Classifier(shape, num_classes=2)
        >>> load_weights(other, folder)
        >>> torch.equal(other.network.conv1.weight, student.network.conv1.weight)
        True
    """
    opened = source if isinstance(source, Checkpoint) else open_weights(source)
    told = opened.source if isinstance(opened, Checkpoint) else str(opened)
    where = f"weights={told!r} for {type(model).__name__}"
    if isinstance(opened, Checkpoint):
        tensors = _fitting(model, opened, where)
    else:
        published = model.published if isinstance(model, LimbeckModel) else ()
        tensors = published_tensors(published, told, type(model).__name__)
    part = model
    if isinstance(model, LimbeckModel):
        part, tensors = model.part_for(tensors)
    load_strictly(part, tensors, where, f"{_trunks(model, opened)}{_ADVICE}")
    log.info("%s has the weights %s", type(model).__name__, told)


def _fitting(model: nn.Module, opened: Checkpoint, where: str) -> Tensors:
    """The tensors, after what is said about them was compared with the model's arguments."""
    opened = fitted(opened, model.state_dict(), where)
    if not isinstance(model, LimbeckModel):
        return opened.tensors
    kind = model.base.__name__
    if opened.kind not in ("trunk", kind):
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


def _trunks(model: nn.Module, opened: Any) -> str:
    """The trunk of weights and that of a detector, as a sentence, where they are not the same."""
    here = model.arguments.get("backbone") if isinstance(model, LimbeckModel) else None
    if here is None or not isinstance(opened, Checkpoint):
        return ""
    theirs = opened.arguments.get("backbone", opened.arguments.get("network"))
    try:
        theirs = theirs or trunk_of(opened.tensors)
    except ValueError:
        theirs = f"a network of tensors such as {', '.join([*opened.tensors][:3])}"
    if _same(theirs, here):
        return ""
    said = f"The trunk of the weights is {theirs}, and that of this {type(model).__name__} {here}. "
    if opened.library != "limbeck" and opened.kind != "trunk" and str(here).startswith("timm:"):
        said += f"No file of {opened.library}'s has a detector on a network of timm's. "
    return said


def _same(stated: Any, here: Any) -> bool:
    if isinstance(stated, str) and isinstance(here, str):
        return stated.removeprefix("torchvision:") == here.removeprefix("torchvision:")
    try:
        return np.shape(stated) == np.shape(here) and np.allclose(stated, here)
    except (TypeError, ValueError):
        return bool(stated == here)
