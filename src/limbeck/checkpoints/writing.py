"""Weights as another library's file, with what that library has to be told beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_STD

from limbeck.checkpoints.checkpoint import Checkpoint, Library, Style, with_std
from limbeck.checkpoints.libraries import detectron2, fgfi, mmdetection, torchvision
from limbeck.checkpoints.libraries import trunks as backbones
from limbeck.checkpoints.libraries.detectron2_config import detectron2_config
from limbeck.checkpoints.libraries.mmdetection_written import mmdetection_config
from limbeck.checkpoints.libraries.stated import MetaArchitecture
from limbeck.checkpoints.reading.pickles import write_pickle
from limbeck.checkpoints.tensors import COCO_IDS, Tensors

_SUFFIXES = {
    "torchvision": (".pth", ".pt", ".safetensors"),
    "detectron2": (".pkl", ".pth"),
    "mmdetection": (".pth",),
    "fgfi": (".pth",),
}
_CONFIGURATIONS = {"detectron2": ".yaml", "mmdetection": ".py"}
_AUTHOR = "limbeck"


def contiguous(checkpoint: Checkpoint) -> Checkpoint:
    """A detector of torchvision's with COCO's 91 identifiers for classes, less those not used.

    Raises:
        ValueError: It is no such detector.
    """
    if checkpoint.kind != "SSD" and checkpoint.arguments.get("preset") != "torchvision":
        raise ValueError(
            f"{checkpoint.source} is {checkpoint.library}'s: only torchvision's detectors have "
            "COCO's 91 identifiers for classes."
        )
    tensors = torchvision.write(torchvision.read(checkpoint.tensors, coco_ids=True))
    arguments = checkpoint.arguments | {"num_classes": len(COCO_IDS)}
    return replace(checkpoint, tensors=tensors, arguments=arguments)


def write_checkpoint(
    checkpoint: Checkpoint, target: Path, library: Library, *, coco_ids: bool = False
) -> list[Path]:
    """Write a checkpoint under a library's names.

    Args:
        checkpoint: of any library: a whole detector with all ``arguments``, or a trunk. For
            torchvision its first convolution is scaled to ImageNet's standard deviation.
        target: the file. What its library cannot tell from it is written beside it, as that
            library's configuration. Each file appears whole or not at all.
        library: that will read it.
        coco_ids: torchvision's file gets COCO's 91 identifiers for its 80 classes.

    Returns:
        What was written.

    Raises:
        ValueError: That library has no such file or network.
    """
    if target.suffix not in _SUFFIXES[library]:
        raise ValueError(
            f"{target}: {library} reads {' or '.join(_SUFFIXES[library])}. Give it that suffix."
        )
    named = _named(checkpoint, library, coco_ids)
    tensors = {k: v.detach().cpu().contiguous() for k, v in named.items()}
    target.parent.mkdir(parents=True, exist_ok=True)
    text = _configuration(checkpoint, library)
    _save(tensors, target, library, checkpoint, text)
    if not text:
        return [target]
    beside = target.with_suffix(_CONFIGURATIONS[library])
    partial = beside.with_name(f"{beside.name}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(beside)
    return [target, beside]


def _named(checkpoint: Checkpoint, library: Library, coco_ids: bool) -> Tensors:
    """The tensors under the library's names."""
    arguments = checkpoint.arguments
    if (checkpoint.kind == "FasterRCNNC4") != (library == "fgfi"):
        raise ValueError(
            f"{checkpoint.source} is a {checkpoint.kind}: {library} has none. A FasterRCNNC4 is "
            "written as fgfi's or limbeck's, and nothing else is as fgfi's."
        )
    if library == "fgfi":
        return fgfi.write(with_std(checkpoint, fgfi.STD), arguments)
    if checkpoint.kind == "SSD":
        return _named_ssd(checkpoint, library, coco_ids)
    std = IMAGENET_DEFAULT_STD if library == "torchvision" else None
    tensors = with_std(checkpoint, std)
    bgr = style_of(checkpoint) == "caffe"
    if checkpoint.kind == "trunk":
        return _named_trunk(tensors, library, bgr)
    if arguments["preset"] == "torchvision":
        if library == "torchvision" and not coco_ids:
            return torchvision.up_to_date(tensors)
        tensors = torchvision.read(tensors)
    if library == "torchvision":
        return torchvision.write(tensors, coco_ids=coco_ids)
    if library == "detectron2":
        ratios = len(arguments.get("aspect_ratios", (0.5, 1.0, 2.0)))
        return detectron2.write(tensors, bgr=bgr, ratios=ratios)
    return mmdetection.write(tensors, bgr=bgr)


def _named_ssd(checkpoint: Checkpoint, library: Library, coco_ids: bool) -> Tensors:
    """As it is: torchvision's SSD is told its standard deviation in any case."""
    if library != "torchvision":
        raise ValueError(
            f"{checkpoint.source} is an SSD of torchvision's, which {library} does not have. "
            "Write it for torchvision."
        )
    return torchvision.write(checkpoint.tensors, coco_ids=coco_ids)


def _named_trunk(
    tensors: Tensors, library: Literal["torchvision", "detectron2", "mmdetection"], bgr: bool
) -> Tensors:
    if library == "torchvision":
        return tensors
    # mmdetection has no names for these; the library of its backbones has.
    whole = tensors.keys() & {"classifier.1.weight", "stage2.0.branch1.0.weight"}
    openmmlab = library == "mmdetection" and whole
    return backbones.write(tensors, "mmpretrain" if openmmlab else library, bgr=bgr)


def _configuration(checkpoint: Checkpoint, library: Library) -> str:
    """What the library has to be told of a detector; empty where it has no such language."""
    if checkpoint.kind == "trunk" or library not in _CONFIGURATIONS:
        return ""
    arch: MetaArchitecture = "retinanet" if checkpoint.kind == "RetinaNet" else "faster_rcnn"
    arguments = checkpoint.arguments | checkpoint.test_arguments
    bgr = style_of(checkpoint) == "caffe"
    write = detectron2_config if library == "detectron2" else mmdetection_config
    return write(arch, arguments, bgr=bgr, classes=checkpoint.classes)


def style_of(checkpoint: Checkpoint) -> Style:
    """In which weights are written for detectron2 or mmdetection: BGR where the deviation is 1."""
    is_one = np.allclose(checkpoint.arguments.get("std", 1.0), 1 / 255)
    return "caffe" if is_one else "pytorch"


def _save(
    tensors: Tensors, target: Path, library: Library, checkpoint: Checkpoint, text: str
) -> None:
    """In the container that the library expects; whole or not at all."""
    if target.suffix == ".pkl":
        write_pickle(
            target, tensors, author=_AUTHOR, matching_heuristics=checkpoint.kind == "trunk"
        )
        return
    partial = target.with_name(f"{target.name}.part")
    if target.suffix == ".safetensors":
        save_file(tensors, partial)
    elif library == "mmdetection":
        meta = {"cfg": text, "dataset_meta": {"classes": checkpoint.classes}}
        torch.save({"meta": meta, "state_dict": tensors}, partial)
    elif library == "detectron2":
        torch.save({"model": tensors, "__author__": _AUTHOR}, partial)
    elif library == "fgfi":
        torch.save({"model": tensors, **fgfi.beside(checkpoint.arguments)}, partial)
    else:
        torch.save(tensors, partial)
    partial.replace(target)
