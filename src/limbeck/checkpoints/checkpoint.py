"""A file of weights as a model of limbeck's takes it, whatever library wrote it.

A state dict does not say how it was trained to be run. Two of these things come together in the
published files and have a name in mmdetection, the trunk's **style**:

=========  =======  ===================  =======================  =========================
style      images   standard deviation   stride of bottlenecks    usual in
=========  =======  ===================  =======================  =========================
pytorch    RGB      ImageNet's           in the 3x3 convolution   mmdetection
caffe      BGR      1 (of 0 to 255)      in the 1x1 convolution   detectron2's R50 and R101
=========  =======  ===================  =======================  =========================

The means are ImageNet's in both. What the library's own configuration says, in mmdetection's file
or in detectron2's ``config.yaml`` beside it, goes before this table; so do the mean and standard
deviation that detectron2's older files hold.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torchvision.models.detection import (
    FasterRCNN_ResNet50_FPN_Weights,
    RetinaNet_ResNet50_FPN_Weights,
)

from limbeck.checkpoints.architecture import Kind, architecture, kind_of
from limbeck.checkpoints.libraries import darknet, detectron2, fgfi, mmdetection, torchvision
from limbeck.checkpoints.libraries import trunks as backbones
from limbeck.checkpoints.libraries.detectron2_config import stated_by_detectron2
from limbeck.checkpoints.libraries.mmdetection_stated import stated_by_meta
from limbeck.checkpoints.libraries.stated import Stated
from limbeck.checkpoints.reading.downloads import fetch, is_url
from limbeck.checkpoints.reading.files import Contents, read_file
from limbeck.checkpoints.tensors import Tensors, scaled_input

Library = Literal["torchvision", "detectron2", "mmdetection", "fgfi"]
Style = Literal["caffe", "pytorch"]
SUFFIXES = (".pth", ".pt", ".ckpt", ".pkl", ".safetensors")
_CAFFE_STD = (1 / 255,) * 3
_SOURCE = re.compile(
    r"(?:(torchvision|detectron2|mmdetection|fgfi|darknet)(?:-(caffe|pytorch))?:)?(.+)"
)
_TABLES = {"detectron2": detectron2, "mmdetection": mmdetection, "fgfi": fgfi}
# What a configuration may say of a detector, by the names of limbeck's arguments.
_STATED = (
    "anchor_sizes",
    "aspect_ratios",
    "p6_from",
    "relu_before_p7",
    "activation",
    "roi_aligned",
)
_TEST = ("min_size", "max_size", "score_threshold", "nms_threshold", "detections_per_image")
# torchvision runs these with eps 0 in every normalisation, which no state dict says.
WITHOUT_EPS = (FasterRCNN_ResNet50_FPN_Weights.COCO_V1, RetinaNet_ResNet50_FPN_Weights.COCO_V1)


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and what a model needs to give with them the outputs that their library gives.

    Attributes:
        source: where they are from, as it was said.
        library: whose file it is; "limbeck" for a student, "darknet" for what is read alone.
        kind: of the network: limbeck's class of detector, or a trunk or classifier.
        tensors: under torchvision's names, in the rows and columns that limbeck's model with these
            ``arguments`` has; without names in darknet's files, see
            :mod:`limbeck.checkpoints.libraries.darknet`.
        arguments: of that model's constructor; those alone that the file determines.
        classes: names of the foreground classes, where the file has them.
        contents: the file itself; none for a student.
        test_arguments: further arguments that its configuration has, which do not concern the
            weights: ``min_size``, ``score_threshold``, ...
    """

    source: str
    library: Library | Literal["limbeck", "darknet"]
    kind: Kind
    tensors: Tensors
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    contents: Contents | None = None
    test_arguments: dict[str, Any] = field(default_factory=dict)


def is_file_source(source: str) -> bool:
    """Whether weights are in a file, folder or at an address, and not published under a name."""
    library, _, name = source.partition(":")
    published = library == "timm" or (library == "torchvision" and not name.endswith(SUFFIXES))
    return not published


def library_of(names: Tensors) -> Library | None:
    """Whose names these are; none for torchvision's and for names that nobody knows."""
    for library, table in _TABLES.items():
        if table.recognises(names):
            return library  # type: ignore[return-value]  # a key of the literal's values
    trunk = None if torchvision.recognises(names) else backbones.library_of(names)
    if trunk is None:
        return None
    return "detectron2" if trunk in ("caffe2", "detectron2") else "mmdetection"


def open_checkpoint(
    source: str,
    library: Library | None = None,
    style: Style | None = None,
    part: str | None = None,
) -> Checkpoint:
    """Read a file of weights.

    Args:
        source: ``file``, ``library:file`` or ``library-style:file``; a file or its http address.
        library: whose file it is; none: as ``source`` says, otherwise as the names in it say. A
            file of torchvision's whose library is not said determines no arguments.
        style: of its trunk; none: as ``source`` says, otherwise as its configuration says,
            otherwise as is usual, see above.
        part: of a file with several sets of weights, see :func:`read_file`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It cannot be read, or is not of that library.
    """
    said = re.fullmatch(_SOURCE, source)
    assert said is not None
    path = fetch(said[3]) if is_url(said[3]) else Path(said[3])
    if not path.exists():
        raise FileNotFoundError(
            f"weights={source!r}: there is no such file or folder. Expected a file of weights "
            f"({', '.join((*SUFFIXES, *darknet.SUFFIXES))}) or its address, alone or after "
            "detectron2:, mmdetection:, fgfi:, darknet: or torchvision:; a student's folder; or "
            "torchvision:<name of published weights>, timm:<name or tag>."
        )
    if said[1] == "darknet" or (library is said[1] is None and darknet.recognises(path)):
        return _read_darknet(source, path)
    contents = read_file(path, part)
    if _is_without_eps(contents):
        contents = replace(contents, tensors=with_eps(contents.tensors))
    own = library_of(contents.tensors)
    named = library or said[1] or own
    if named not in get_args(Library):
        kind = kind_of(contents.tensors)
        return Checkpoint(source, "torchvision", kind, contents.tensors, contents=contents)
    if own not in (None, named):
        raise ValueError(
            f"{path}, read as {named}'s: its names are {own}'s. Name that library, or none."
        )
    try:
        return _read(source, contents, named, style or said[2])
    except ValueError as error:
        raise ValueError(f"{path}, read as {named}'s: {error}") from None


def _read(source: str, contents: Contents, library: Any, style: Any) -> Checkpoint:
    """A file of that library."""
    if library == "torchvision":
        return _read_torchvision(source, contents)
    if library == "fgfi":
        return _read_fgfi(source, contents)
    given, stated = contents.tensors, stated_in(contents)
    inputs, bgr = _inputs(library, given, style, stated)
    if not _TABLES[library].recognises(given):
        trunk = backbones.read(given, bgr=bgr)
        return Checkpoint(source, library, "trunk", trunk, inputs, contents=contents)
    ratios = {"ratios": len(stated.aspect_ratios)} if stated.aspect_ratios else {}
    if library == "detectron2":
        tensors = detectron2.read(given, bgr=bgr, **ratios)
    else:
        tensors = mmdetection.read(given, bgr=bgr)
    network = architecture(tensors)
    arguments = _said(stated, _STATED) | network.arguments | {"preset": library} | inputs
    return Checkpoint(
        source,
        library,
        network.kind,
        tensors,
        arguments,
        stated.classes or (),
        contents,
        _said(stated, _TEST),
    )


def _read_fgfi(source: str, contents: Contents) -> Checkpoint:
    """A detector of Fine-grained Feature Imitation, or the VGG that its training begins with."""
    given = contents.tensors
    if not fgfi.recognises(given):
        inputs = {"mean": fgfi.MEAN, "std": fgfi.STD}
        trunk = backbones.read(given, bgr=True)
        return Checkpoint(source, "fgfi", "trunk", trunk, inputs, contents=contents)
    tensors = fgfi.read(given)
    arguments = fgfi.arguments_of(tensors, contents.metadata)
    return Checkpoint(source, "fgfi", "FasterRCNNC4", tensors, arguments, contents=contents)


def _read_darknet(source: str, path: Path) -> Checkpoint:
    """Numbers without names, which its model gives them."""
    tensors = darknet.read(path)
    kind = darknet.kind_of(tensors["values"])
    arguments: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if kind == "YOLOv2":
        arguments["passthrough"] = "darknet"
    return Checkpoint(source, "darknet", kind, tensors, arguments)


def _read_torchvision(source: str, contents: Contents) -> Checkpoint:
    """A detector of torchvision's, or a classifier."""
    tensors = contents.tensors
    if not torchvision.recognises(tensors):
        return Checkpoint(source, "torchvision", "trunk", tensors, contents=contents)
    network = architecture(torchvision.read(tensors))
    habits = {"preset": "torchvision", "stride_in_1x1": False}  # SSD is torchvision's alone
    arguments = network.arguments | (habits if network.kind != "SSD" else {})
    return Checkpoint(source, "torchvision", network.kind, tensors, arguments, contents=contents)


def stated_in(contents: Contents) -> Stated:
    """What the configuration says that is in a checkpoint (mmdetection) or beside it (Detectron2).

    Raises:
        ValueError: It cannot be read, is of mmdetection 1, or says what limbeck's detectors cannot
            be; the key is named.
    """
    meta = contents.metadata.get("meta")
    if isinstance(meta, Mapping):
        return stated_by_meta(meta)
    for beside in (contents.path.with_suffix(".yaml"), contents.path.with_name("config.yaml")):
        if beside.is_file():
            return stated_by_detectron2(beside.read_text(encoding="utf-8"), str(beside))
    return Stated()


def _inputs(
    library: Library, tensors: Tensors, style: Style | None, stated: Stated
) -> tuple[dict[str, Any], bool]:
    """``mean``, ``std`` and ``stride_in_1x1`` of a trunk, and whether its images are BGR."""
    bottlenecks = any("conv3.weight" in name or "branch2c_w" in name for name in tensors)
    if style is not None:
        stated = Stated()  # the user knows better
    else:
        stated = stated if stated.std else _with_colours(stated, tensors)
        style = "caffe" if library == "detectron2" and bottlenecks else "pytorch"
    caffe = style == "caffe"
    stride = caffe if stated.stride_in_1x1 is None else stated.stride_in_1x1
    arguments = {
        "mean": stated.mean or IMAGENET_DEFAULT_MEAN,
        "std": stated.std or (_CAFFE_STD if caffe else IMAGENET_DEFAULT_STD),
        "stride_in_1x1": bottlenecks and stride,
    }
    return arguments, caffe if stated.bgr is None else stated.bgr


def _with_colours(stated: Stated, tensors: Tensors) -> Stated:
    """With the mean and standard deviation that detectron2's files held until 2020."""
    if not {"pixel_mean", "pixel_std"} <= tensors.keys():
        return stated
    held = tensors["pixel_mean"].flatten(), tensors["pixel_std"].flatten()
    bgr = bool(held[0][0] < held[0][-1])  # red is the brightest
    mean, std = ((values.flip(0) if bgr else values) / 255 for values in held)
    return replace(stated, mean=tuple(mean.tolist()), std=tuple(std.tolist()), bgr=bgr)


def _said(stated: Stated, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(stated, name) for name in names if getattr(stated, name) is not None}


def _is_without_eps(contents: Contents) -> bool:
    """Whether it is one of those files, whose published names end with their checksums."""
    if not torchvision.recognises(contents.tensors):
        return False
    with contents.path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()[:8]
    return any(each.url.endswith(f"-{found}.pth") for each in WITHOUT_EPS)


def with_eps(tensors: Tensors, eps: float = 1e-5) -> Tensors:
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


def with_std(checkpoint: Checkpoint, std: Sequence[float] | None) -> Tensors:
    """The tensors for a model that divides its input by ``std``, folded where that is another.

    Raises:
        ValueError: No layer takes three channels.
    """
    own = checkpoint.arguments.get("std")
    if own is None or std is None or np.allclose(own, std):
        return checkpoint.tensors
    for name, value in checkpoint.tensors.items():
        if value.dim() == 4 and value.shape[1] == 3:
            return checkpoint.tensors | {name: scaled_input(value, own, std)}
    raise ValueError(
        f"weights={checkpoint.source!r} were trained with std={own} and no layer of theirs takes "
        f"three channels, so that they could be adapted to std={std}. Give the model their std."
    )
