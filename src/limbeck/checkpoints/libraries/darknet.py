"""darknet's files of weights: a header and numbers, without names or shapes.

The header is major, minor and revision (int32 each) and how many images the network has seen:
int64 from version 0.2 on, int32 before. The rest are float32, convolution by convolution in the
order of the cfg. One with batch normalisation has bias, weight, running mean and running variance
of that, then its own weight; one without has its bias and its weight.

So a file is of whatever network has as many numbers, and the network is needed to read it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.checkpoints.architecture import Kind
from limbeck.checkpoints.checkpoint import Checkpoint, Style
from limbeck.checkpoints.libraries.format import Format
from limbeck.checkpoints.reading.files import Contents, refuse_other_kinds
from limbeck.checkpoints.tensors import Tensors

# Numbers at width 1 of Darknet-19's 18 convolutions, of its classifier's last one (1000 classes),
# of a YOLOv2 less its last convolution, and of each channel that this has.
_TRUNK, _CLASSIFIER, _YOLOV2, _CHANNEL = 19_831_776, 1_025_000, 50_547_936, 1025
_CLASSES = 1000  # of the published classifiers
_NORM = ("bias", "weight", "running_mean", "running_var")
# The trunk of a YOLOv2 and of a classifier, by the layer behind it that they are known by.
_FEATURES = {"head.weight": "backbone.features.", "network.head.weight": "network.features."}


def read(path: Path) -> Tensors:
    """The numbers in a file.

    Args:
        path: The file.

    Returns:
        ``values``, float32 (N,), and ``seen``, an int64 scalar.

    Raises:
        ValueError: The file is empty, cut off, holds NaN or infinity, or is none of darknet's.
    """
    with path.open("rb") as file:
        head = file.read(512)
    refuse_other_kinds(path, head)
    size = path.stat().st_size
    major, minor = np.frombuffer(head[:8].ljust(8, b"\xff"), "<i4").tolist()
    long = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    start = 20 if long else 16
    if size <= start or (size - start) % 4 or major < 0 or minor < 0:
        raise ValueError(
            f"{path} has {size} bytes and says that it is of version {major}.{minor}: expected a "
            f"header of {start} bytes and 4 for each number, of version 0.1 or 0.2. It is cut off, "
            "or no file of darknet's. Download or copy it again."
        )
    seen = np.frombuffer(head[12:start], "<i8" if long else "<i4")
    values = torch.from_numpy(np.fromfile(path, "<f4", offset=start))
    if not values.isfinite().all():
        raise ValueError(
            f"{path} holds NaN or infinity: training went wrong before it was kept, or it is no "
            "file of darknet's. Take an earlier one."
        )
    return {"values": values, "seen": torch.tensor(int(seen[0]))}


def kind_of(values: Tensor) -> Kind:
    """The kind of a network of width 1 with so many numbers; YOLOv2 for all that is no trunk."""
    return "trunk" if len(values) in (_TRUNK, _TRUNK + _CLASSIFIER) else "YOLOv2"


def described(values: Tensor) -> str:
    """What the length says of the network, for people."""
    channels, rest = divmod(len(values) - _YOLOV2, _CHANNEL)
    if len(values) == _TRUNK:
        return "the trunk of Darknet-19: 18 convolutions of width 1"
    if len(values) == _TRUNK + _CLASSIFIER:
        return f"Darknet-19 of width 1, a classifier of {_CLASSES} classes"
    if rest == 0 and channels > 0:
        return f"YOLOv2 of width 1, with {channels} channels at its end: {heads(channels)}"
    return "none of width 1: build the model, and see whether it takes these weights"


def heads(channels: int) -> str:
    """The numbers of classes and anchors that a last layer of so many channels has."""
    found = [
        f"num_classes={channels // anchors - 5} with {anchors} anchors"
        for anchors in (5, 2, 3, 4, 6, 7, 8, 9)  # the usual number first
        if channels % anchors == 0 and channels // anchors > 5
    ]
    return " or ".join(found) or "no number of classes"


def named(tensors: Tensors, own: Tensors, where: str) -> Tensors:
    """The numbers under the names of a network's state dict.

    Args:
        tensors: What :func:`read` gave.
        own: The state dict, whose convolutions stand in the order of the cfg.
        where: The file and the model, for messages.

    Returns:
        The tensors of the whole network; or those of its trunk alone, as a classifier has them,
        without the classifier's last convolution.

    Raises:
        ValueError: The file has not as many numbers as either, to the last one.
    """
    values, order = tensors["values"], _in_order(own)
    # An SSD has features as well, of another network, and no such layer behind them.
    features = tuple(path for head, path in _FEATURES.items() if head in own)
    trunk = [name for name in order if name.startswith(features)]
    sizes = {name: own[name].numel() for name in order}
    whole, of_trunk = sum(sizes.values()), sum(sizes[name] for name in trunk)
    outputs = len(own[trunk[-1]]) if trunk else 0
    if len(values) == whole:
        seen = {"seen": tensors["seen"]} if "seen" in own else {}
        return _shaped(values, order, own) | seen
    if trunk and len(values) in (of_trunk, of_trunk + _CLASSES * (outputs + 1)):
        found = _shaped(values[:of_trunk], trunk, own)
        return {name.removeprefix("backbone."): value for name, value in found.items()}
    expected = f"{whole} for all of it" + (f", {of_trunk} for its trunk" if trunk else "")
    advice = "Such files fill a YOLOv2, or a Classifier of limbeck:darknet19."
    raise ValueError(
        f"{where}: the file has {len(values)} numbers, this model takes {expected}. "
        + (_fitting(len(values) - whole, own) if trunk and "head.weight" in own else advice)
    )


def _in_order(own: Tensors) -> list[str]:
    """The names that darknet writes, in its order."""
    layers = [n.removesuffix(".weight") for n in own if n.endswith(".weight")]
    order = []
    for layer, following in pairwise([*layers, ""]):
        if own[f"{layer}.weight"].dim() == 4:  # the others are its normalisations
            biased = f"{layer}.bias" in own
            norm = [name for each in _NORM if (name := f"{following}.{each}") in own]
            order += [*([f"{layer}.bias"] if biased else norm), f"{layer}.weight"]
    return order


def _shaped(values: Tensor, names: list[str], own: Tensors) -> Tensors:
    parts = torch.split(values, [own[name].numel() for name in names])
    return {n: part.view(own[n].shape) for n, part in zip(names, parts, strict=True)}


def _fitting(surplus: int, own: Tensors) -> str:
    """What to do with so many numbers more or less than a detector has, all in its last layer."""
    here, inputs = own["head.weight"].shape[:2]
    more, rest = divmod(surplus, inputs + 1)
    if rest or here + more <= 0:
        return (
            "It fits no number of classes: it is of another width or network, cut off, or goes on "
            "too far. Take the width that the file has, or download it again."
        )
    channels = here + more
    return f"Its last layer would have {channels} channels, this one {here}: {heads(channels)}."


class Darknet(Format):
    """darknet's files: numbers without names, which their network gives them."""

    name = "darknet"
    endings = (".weights", ".conv.23")

    def recognises(self, names: Iterable[str]) -> bool:
        """No names of tensors are darknet's."""
        return False

    def load(self, path: Path, part: str | None = None) -> Contents:
        """The numbers in a file, see :func:`read`."""
        return Contents(path, read(path))

    def read(self, source: str, contents: Contents, style: Style | None) -> Checkpoint:
        """Images are RGB in [0, 1] as they are; a YOLOv2 passes features on in darknet's order."""
        kind = kind_of(contents.tensors["values"])
        arguments: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        if kind == "YOLOv2":
            arguments["passthrough"] = "darknet"
        return Checkpoint(source, self.name, kind, contents.tensors, arguments, contents=contents)

    def fitted(self, checkpoint: Checkpoint, own: Tensors, where: str) -> Checkpoint:
        """A file is of whatever model it fits to the last number."""
        tensors = named(checkpoint.tensors, own, where)
        arguments = dict(checkpoint.arguments)
        if "head.weight" not in tensors:  # a trunk's alone
            arguments.pop("passthrough", None)
        return replace(checkpoint, kind="trunk", tensors=tensors, arguments=arguments)

    def described(self, contents: Contents) -> Mapping[str, str]:
        """What the length of a file says."""
        values, seen = contents.tensors["values"], contents.tensors["seen"]
        return {
            "file of": "darknet: numbers without names",
            "numbers": f"{len(values):,}",
            "images seen": f"{seen.item():,}",
            "network": described(values),
        }

    def check_convertible(self, source: str) -> None:
        """Raise ValueError: the network of a file is not known, and no other library has it."""
        raise ValueError(
            f"{source} is a file of darknet's, which does not say of what network, and no other "
            "library has a YOLOv2. Give it to a model as weights; a student's folder of it is kept "
            f"by limbeck.models.save_student(limbeck.models.YOLOv2(1.0, num_classes=..., "
            f"weights={source!r}), folder)."
        )
