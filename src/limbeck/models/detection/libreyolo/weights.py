"""Files of weights of LibreYOLO and of those whose detectors it has; no code of a file is run."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.arguments import shown
from limbeck.checkpoints.reading.downloads import fetch, is_url
from limbeck.checkpoints.reading.files import Contents, read_file
from limbeck.checkpoints.tensors import Tensors
from limbeck.models.detection.libreyolo.families import Family
from limbeck.models.state_dicts import load_strictly

log = logging.getLogger(__name__)

_AVERAGE = "ema_net"  # which SuperGradients keeps beside the weights, and the library takes first
_BRANCHES = ("aux.", "aux_head.")  # of YOLOv9, which help to train it and are not run afterwards
_CLASS_TOWER = "head.cv3.0.0.conv.weight"


@dataclass(frozen=True)
class LibraryWeights:
    """The weights in a file.

    Attributes:
        source: Where they are from, as it was said.
        tensors: The weights, by the names that LibreYOLO gives them.
        stated: What the file says of the detector's arguments.
        licence: The licence of the weights. None: it is not known.
    """

    source: str
    tensors: Tensors
    stated: Mapping[str, Any]
    licence: str | None


def read_weights(source: str | Path, family: Family, size: str) -> LibraryWeights:
    """Read a file of weights.

    Args:
        source: A file, its address (http), or a name under which the library publishes weights,
            such as ``LibreYOLOXs.pt``, which are then downloaded.
        family: The family of the detector.
        size: The library's name of its size.

    Returns:
        The weights.

    Raises:
        FileNotFoundError: There is no such file, and the library publishes none of that name.
        ValueError: It cannot be read, or is of another detector.
    """
    path, licence = _found(str(source), family, size)
    contents = read_file(path)
    if _AVERAGE in contents.parts:
        contents = read_file(path, _AVERAGE)
    _refuse_others(str(source), contents, family, size)
    own = family.own_class
    named = own.convert_upstream_state_dict(contents.tensors)
    if named is None and own.can_load(contents.tensors):
        named = contents.tensors
    if named is None or own.detect_size(named) not in (None, size):
        found = "no such detector" if named is None else f"size {own.detect_size(named)}"
        raise ValueError(
            f"weights={str(source)!r}: by their names and shapes they are of {found}; expected "
            f"{family.name}-{size}. Give weights of that network, or name theirs as the network."
        )
    tensors = {n: tensor for n, tensor in named.items() if not n.startswith(_BRANCHES)}
    if len(tensors) < len(named):
        log.info("%s: the branch that only helps in training is left out.", source)
    return LibraryWeights(str(source), tensors, _stated(contents, tensors), licence)


def _found(source: str, family: Family, size: str) -> tuple[Path, str | None]:
    """The file, downloaded where it is named by an address or by the library, and its licence."""
    if is_url(source):
        return fetch(source), None
    path = Path(source)
    if path.exists():
        return path, None
    own, example = family.own_class, family.published(size)
    if source != example:
        raise FileNotFoundError(
            f"weights={source!r}: there is no such file. Expected a file of weights or its "
            f"address; {example}, which the library publishes; or a student's folder."
        )
    address = own.get_download_url(source)
    known = getattr(own, "_CHECKPOINT_SHA256", {}).get(Path(address).name)
    log.warning(
        "%s is downloaded from %s; its licence is %s.",
        source,
        address,
        family.licence or "not known: ask who publishes it",
    )
    return fetch(address if known is None else f"{address}#sha256={known}"), family.licence


def _refuse_others(source: str, contents: Contents, family: Family, size: str) -> None:
    """Refuse a file that says of itself that it is of another network."""
    expected = {"model_family": family.name, "size": size, "task": "detect"}
    for name, value in expected.items():
        said = contents.metadata.get(name)
        if isinstance(said, str) and said != value:
            raise ValueError(
                f"weights={source!r}: {name} is {shown(said)} in the file; expected {value!r}. "
                "Give weights of that network, or name theirs as the network."
            )


def _stated(contents: Contents, tensors: Tensors) -> dict[str, Any]:
    """What a file says of how images are prepared, and of the widths of the head."""
    stated: dict[str, Any] = {}
    sides = [contents.metadata.get(name) for name in ("imgsz_h", "imgsz_w")]
    if all(isinstance(side, int) for side in sides):  # the library writes it of other shapes alone
        stated["image_size"] = tuple(sides)
    if contents.metadata.get("letterbox_pad") in ("topleft", "center"):
        stated["letterbox"] = contents.metadata["letterbox_pad"]
    if _CLASS_TOWER in tensors:
        stated["class_channels"] = tensors[_CLASS_TOWER].shape[0]
    return stated


def load_library_weights(
    network: nn.Module, weights: LibraryWeights, of_classes: Sequence[str], num_classes: int
) -> None:
    """Load weights into a network, strictly but for layers of another number of classes.

    Args:
        network: The network, whose parameters and buffers are overwritten.
        weights: The weights.
        of_classes: The paths of the layers that have a row for each class. They keep their own
            weights where their shapes differ, which is logged.
        num_classes: The number of foreground classes of the network.

    Raises:
        ValueError: A tensor is missing, of another shape, or left over.
    """
    own, tensors = network.state_dict(), dict(weights.tensors)
    kept = [
        f"{path}.{name}"
        for path in of_classes
        for name in ("weight", "bias")
        if f"{path}.{name}" in tensors
        and tensors[f"{path}.{name}"].shape != own[f"{path}.{name}"].shape
    ]
    tensors |= {name: own[name] for name in kept}
    tensors |= _shared(network, tensors)
    counters = {name: own[name] for name in own.keys() - tensors if "num_batches" in name}
    load_strictly(
        network,
        tensors | counters,
        f"weights={weights.source!r} for LibreYOLODetector",
        "Give weights of the same network, or name theirs as the network.",
    )
    if kept:
        log.warning(
            "weights=%r have another number of classes than num_classes=%d: %d tensors, such as "
            "%s, keep their initial weights, and detect nothing before they are trained",
            weights.source,
            num_classes,
            len(kept),
            kept[0],
        )
    log.info("LibreYOLODetector has the weights %s", weights.source)


def _shared(network: nn.Module, tensors: Tensors) -> Tensors:
    """The tensors that go by several names, under those names that the file leaves out."""
    places: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(name)
    found: Tensors = {}
    for names in places.values():
        given = [name for name in names if name in tensors]
        found |= {name: tensors[given[0]] for name in names if given and name not in tensors}
    return found
