"""The library's own weights: all of them, or the rows of the classes that a detector has."""

import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.checkpoints.formats import SUFFIXES
from limbeck.checkpoints.tensors import Tensors
from limbeck.models.card import CARD as STUDENT
from limbeck.models.detection.detr.configuration import names_of
from limbeck.models.hub import not_loaded, pretrained, refuse_adapter

log = logging.getLogger(__name__)

_NO_CLASS = "N/A"  # what configurations call a number of COCO's that no category has
_COUNT = "num_batches_tracked"  # which frozen normalisations do not have


def are_the_librarys(weights: str | Path) -> bool:
    """Whether weights are a folder of the library's, or a name on the hub.

    Args:
        weights: The weights, as ``HuggingFaceDetector`` takes them.

    Returns:
        False for a file, a student's folder, or another library's name of weights.
    """
    place = Path(weights)
    if place.exists():
        return place.is_dir() and not (place / STUDENT).exists()
    return ":" not in str(weights) and not str(weights).endswith(SUFFIXES)


def load_the_librarys(network: Any, weights: str, class_numbers: Sequence[int] | None) -> None:
    """Load weights of the library's into a network.

    Layers of classes have a row for each class. Where the weights have more classes than the
    network, the rows of ``class_numbers`` are taken. Otherwise such layers keep what they have.

    Args:
        network: The network.
        weights: A folder, or a name on the hub, with weights in ``safetensors``.
        class_numbers: The class of the weights, counted from 0, that each class of the network is.
            None: those that the ``config.json`` of the weights names otherwise than ``N/A``, if
            these are as many as the network has.

    Raises:
        ValueError: There are no such weights, they do not fit, or they have no such class.
    """
    names = _names(weights)
    chosen = class_numbers if class_numbers is not None else _named(names, network)
    if chosen is None:
        tensors = _loaded(network, network.config, weights)
    else:
        _refuse_no_class(chosen, names, network, weights)
        theirs = _with_classes(network.config, len(names))
        taken, rows = _loaded(network, theirs, weights), torch.tensor(chosen)
        of_classes = _shaped_by_classes(network)
        tensors = {
            name: _rows(tensor, rows, len(names)) if name in of_classes else tensor
            for name, tensor in taken.items()
        }
        log.info("Of the %d classes of weights=%r, %d are taken", len(names), weights, len(chosen))
    network.load_state_dict(tensors)
    log.info("%s has the weights %s", type(network).__name__, weights)


def _names(weights: str) -> list[str]:
    """The names of the classes of weights, which may be no adapter."""
    refuse_adapter(weights)
    try:
        return names_of(weights)
    except OSError as error:
        raise not_loaded(weights, error) from error


def _loaded(network: Any, config: Any, weights: str) -> Tensors:
    """The weights in a network of that configuration, which has to be the one they are of."""
    loaded, told = pretrained(type(network), weights, config, ignore_mismatched_sizes=True)
    misfits = told["mismatched_keys"]
    own = {n for n, *shapes in misfits if _are_of_classes(config.num_labels, *shapes)}
    strange = {name for name, *_ in misfits} - own
    strange |= set(told["missing_keys"]) - own | set(told["unexpected_keys"])
    strange = {name for name in strange if not name.endswith(_COUNT)}
    if strange:
        raise ValueError(
            f"weights={weights!r} do not fit the network: {', '.join(sorted(strange)[:5])} are "
            "missing, left over, or of another shape. Give the weights of this very network."
        )
    if own:
        log.warning(
            "weights=%r have another number of classes than num_classes=%d: %d tensors, such as "
            "%s, keep their initial weights, and detect nothing before they are trained",
            weights,
            config.num_labels,
            len(own),
            min(own),
        )
    tensors: Tensors = loaded.state_dict()
    return tensors


def _named(names: Sequence[str], network: Any) -> list[int] | None:
    """The numbers of the classes that have a name, if there are others and these are ours."""
    named = [number for number, name in enumerate(names) if name != _NO_CLASS]
    count = network.config.num_labels
    return named if len(named) == count and len(names) != count else None


def _refuse_no_class(
    chosen: Sequence[int], names: Sequence[str], network: Any, weights: str
) -> None:
    if not names:
        raise ValueError(
            f"weights={weights!r} have no config.json that names their classes (id2label), so "
            "class_numbers mean nothing. Put it beside them."
        )
    strange = [number for number in chosen if not 0 <= number < len(names)]
    count = network.config.num_labels
    if strange or len(chosen) != count:
        found = f"the number {strange[0]}" if strange else f"{len(chosen)} numbers"
        raise ValueError(
            f"class_numbers has {found}; expected num_classes={count} numbers of the "
            f"{len(names)} classes of weights={weights!r}, from 0. Correct it."
        )


def _with_classes(config: Any, count: int) -> Any:
    other = copy.deepcopy(config)
    other.num_labels = count
    return other


def _shaped_by_classes(network: Any) -> set[str]:
    """The names of the tensors whose shape depends on the number of classes."""
    with torch.device("meta"):
        other = type(network)(_with_classes(network.config, network.config.num_labels + 1))
    ours = network.state_dict()
    return {name for name, tensor in other.state_dict().items() if tensor.shape != ours[name].shape}


def _rows(tensor: Tensor, rows: Tensor, classes: int) -> Tensor:
    """The rows of some classes, and those behind all classes, such as that of the background."""
    return torch.cat([tensor[rows], tensor[classes:]])


def _are_of_classes(count: int, theirs: Sequence[int], ours: Sequence[int]) -> bool:
    """Whether the shapes of a tensor differ in the number of classes, or of these and one."""
    rows = (count,), (count + 1,)
    return tuple(theirs[1:]) == tuple(ours[1:]) and tuple(ours[:1]) in rows
