"""Which graph is exported of which model, and in which frame."""

import math
from collections.abc import Mapping
from typing import Any

from torch import nn

from limbeck.export.classifiers import ClassifierGraph
from limbeck.export.graph import Graph
from limbeck.export.grid import GridGraph
from limbeck.export.libreyolo import LibreYOLOGraph
from limbeck.export.pyramid import DenseGraph
from limbeck.export.queries import QueryGraph
from limbeck.export.regions import RegionGraph
from limbeck.exported.framing import Framing
from limbeck.frame import Extent, fixed_size, own_size, takes_list
from limbeck.models import (
    FCOS,
    GFL,
    SSD,
    FasterRCNN,
    FasterRCNNC4,
    HuggingFaceDetector,
    LibreYOLODetector,
    RetinaNet,
    ShuffleDet,
    YOLOv2,
)
from limbeck.models.detection.c4.original import FGFITransform
from limbeck.models.detection.detr.images import ProcessorTransform
from limbeck.models.detection.libreyolo.images import LibraryTransform
from limbeck.models.detection.parts.transform import ReferenceTransform

GRAPHS: Mapping[type[nn.Module], Any] = {
    RetinaNet: DenseGraph,
    GFL: DenseGraph,
    FCOS: DenseGraph,
    SSD: DenseGraph,
    FasterRCNN: RegionGraph,
    FasterRCNNC4: RegionGraph,
    ShuffleDet: GridGraph,
    YOLOv2: GridGraph,
    HuggingFaceDetector: QueryGraph,
    LibreYOLODetector: LibreYOLOGraph,
}
_OF_ONE_SIZE = (SSD, ShuffleDet, YOLOv2)  # whose anchors, or backbones, are made for it


def graph_of(
    model: nn.Module,
    size: Extent | None = None,
    *,
    measured_at: Extent | None = None,
    dynamic: bool = False,
) -> Graph:
    """What is exported of a model.

    Args:
        model: The model, in evaluation mode, on the CPU, which the graph takes as its part.
        size: The (height, width) of the frame, in pixels. None: the one that it evaluates at.
        measured_at: The (height, width) of the images that a classifier was measured with. None: it
            is not known.
        dynamic: Whether the frame has any size.

    Returns:
        The graph, in evaluation mode.

    Raises:
        ValueError: The model is of no family that is exported, or does not take that size.
    """
    if not takes_list(model):
        framing = _framing_of_classifier(model, size or measured_at, dynamic=dynamic)
        return ClassifierGraph(model, framing).eval()
    kind = next((GRAPHS[each] for each in GRAPHS if isinstance(model, each)), None)
    if kind is None:
        raise ValueError(
            f"{type(model).__name__} is no detector of limbeck's own; expected one of "
            f"{', '.join(each.__name__ for each in GRAPHS)}, or a classifier. Build the student as "
            "one of these (its weights fit, see "
            "https://limbeck.readthedocs.io/en/latest/reference/checkpoints.html), or export it "
            "with its own library."
        )
    if dynamic and (kind is not DenseGraph or isinstance(model, SSD)):
        raise ValueError(
            f"--dynamic size: {type(model).__name__} is exported for one size. Leave it out, and "
            "give --size HEIGHT WIDTH if the images have another one."
        )
    graph: Graph = kind(model, framing_of(model, size, dynamic=dynamic))
    return graph.eval()


def framing_of(model: nn.Module, size: Extent | None, *, dynamic: bool = False) -> Framing:
    """How images come into the frame of a detector.

    Args:
        model: The detector.
        size: The (height, width) of the frame, in pixels. None: the one that it evaluates at; where
            it keeps the aspect of images, the largest one of images that are wider than high.
        dynamic: Whether the frame has any size.

    Returns:
        The rule.

    Raises:
        ValueError: The model does not take that size, or a size has to be given.
    """
    transform: Any = model.get_submodule("transform")
    if isinstance(transform, LibraryTransform):
        return _framing_of_library(model, transform, size)
    if fixed_size(model) is not None or isinstance(transform, ProcessorTransform):
        return _stretched(model, transform, size)
    return _framing_by_shorter_side(model, transform, size, dynamic=dynamic)


def _framing_of_library(
    model: nn.Module, transform: LibraryTransform, size: Extent | None
) -> Framing:
    """As LibreYOLO frames images: on a grey ground, or stretched."""
    preprocessing, multiple = transform.preprocessing, int(transform.size_divisible)
    frame = _checked(size or transform.size, multiple, model)
    if not preprocessing.letterboxed:
        return Framing("stretch", frame, multiple, antialias=preprocessing.antialias)
    grey = (transform.surrounding * transform.std + transform.mean).flatten().tolist()
    return Framing(
        "fit",
        frame,
        multiple,
        antialias=preprocessing.antialias,
        centred=transform.centred,
        fill=(grey[0], grey[1], grey[2]),
    )


def _stretched(model: nn.Module, transform: Any, size: Extent | None) -> Framing:
    """Images are stretched to one size, which some detectors are built for."""
    fixed, multiple = fixed_size(model), int(transform.size_divisible)
    frame = size or fixed
    if frame is None:
        raise ValueError(
            f"{type(model).__name__} keeps the aspect of images (min_size is "
            f"{transform.min_size[-1]}), and a file has one size, to which images are then "
            "resized. Give --size HEIGHT WIDTH with the aspect of the images."
        )
    if isinstance(model, _OF_ONE_SIZE) and frame != fixed:
        raise ValueError(
            f"--size {frame[0]} {frame[1]}: this {type(model).__name__} was built for images "
            f"of {fixed[0] if fixed else 0} x {fixed[1] if fixed else 0} px (height, width). "
            "Leave --size out, or train one with another image_size."
        )
    antialias = isinstance(transform, ProcessorTransform)
    return Framing("stretch", _checked(frame, multiple, model), multiple, antialias=antialias)


def _framing_by_shorter_side(
    model: nn.Module, transform: Any, size: Extent | None, *, dynamic: bool
) -> Framing:
    """Images keep their aspect: their shorter side gets one length, and what is left is padded."""
    multiple, reference = int(transform.size_divisible), isinstance(transform, ReferenceTransform)
    shortest, longest = transform.min_size[-1], transform.max_size
    bound = None if math.isinf(longest) else int(longest)
    if dynamic:
        frame = None
    elif size is not None:
        frame = _checked(size, multiple, model)
    else:
        wide = 4 * shortest // 3 if bound is None else bound
        frame = _up(shortest, multiple), _up(wide, multiple)
    mean = transform.mean.flatten().tolist()
    return Framing(
        "shorter_side",
        frame,
        multiple,
        min_size=shortest,
        max_size=bound,
        rounding="nearest" if reference else "down",
        antialias=reference and transform.preset.antialias,
        fill=(mean[0], mean[1], mean[2]),
        inclusive=isinstance(transform, FGFITransform),
    )


def _framing_of_classifier(model: nn.Module, size: Extent | None, *, dynamic: bool) -> Framing:
    own = own_size(model)
    if dynamic and own is not None:
        raise ValueError(
            f"--dynamic size: this {type(model).__name__} takes images of {own[0]} x {own[1]} px "
            "alone. Leave it out."
        )
    frame = None if dynamic else size or own
    if frame is None and not dynamic:
        raise ValueError(
            f"it is not known at which size this {type(model).__name__} was measured: the student "
            "names no augmentation. Give --size HEIGHT WIDTH."
        )
    if own is not None and frame != own:
        raise ValueError(
            f"--size {frame[0] if frame else 0} {frame[1] if frame else 0}: this "
            f"{type(model).__name__} takes images of {own[0]} x {own[1]} px alone. Give that."
        )
    return Framing("stretch", frame, antialias=True)


def _checked(size: Extent, multiple: int, model: nn.Module) -> Extent:
    if any(side < multiple or side % multiple for side in size):
        near = [max(multiple, _up(side, multiple)) for side in size]
        raise ValueError(
            f"--size {size[0]} {size[1]}: {type(model).__name__} takes a height and a width that "
            f"are multiples of {multiple}. Give such, for example --size {near[0]} {near[1]}."
        )
    return size


def _up(side: float, multiple: int) -> int:
    return math.ceil(side / multiple) * multiple
