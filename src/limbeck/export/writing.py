"""A student as a file of another runtime, which is there only if it was checked."""

import copy
import importlib.metadata
import logging
import secrets
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.export.check import (
    LEAST,
    MOST,
    SCORE,
    Agreement,
    Checked,
    Tolerance,
    check_classifier,
    check_dense,
    check_detector,
)
from limbeck.export.families import graph_of
from limbeck.export.formats import onnx, openvino, torch_export, torchscript
from limbeck.export.formats.tracing import Program
from limbeck.export.graph import Detecting, DetectorGraph, Graph
from limbeck.export.regions import RegionGraph
from limbeck.export.rounded import agreement
from limbeck.export.suppressing import kept_by_operator
from limbeck.exported import ExportedModel
from limbeck.exported.description import (
    Description,
    PostProcessing,
    Runtime,
    write_description,
)
from limbeck.exported.runtimes import RUNTIMES
from limbeck.exported.suppression import kept_of_images
from limbeck.frame import Extent, takes_list
from limbeck.landmarks import unwrap
from limbeck.quantization import in_floats

log = logging.getLogger(__name__)

Dynamic = Literal["batch", "size"]
FORMATS: Mapping[Runtime, Any] = {
    "onnx": onnx,
    "openvino": openvino,
    "torch_export": torch_export,
    "torchscript": torchscript,
}
_BY_OPERATOR = ("onnx", "openvino")  # suppression is an operator of theirs, for any batch


class DifferenceError(ValueError):
    """An exported file does not find what PyTorch finds."""


@dataclass(frozen=True)
class Wanted:
    """What a file is to be.

    Attributes:
        runtime: Its format.
        size: The (height, width) of the frame, in pixels. None: the one that the student evaluates
            at.
        batch: The number of images that it takes at once, where that is not dynamic.
        dynamic: What is dynamic.
        post_processing: Whether detections are chosen ``inside`` of the file, or ``dense`` boxes
            and scores come out of it.
        half: Whether the network computes in float16.
        tolerance: How far it may be from PyTorch.
    """

    runtime: Runtime
    size: Extent | None = None
    batch: int = 1
    dynamic: tuple[Dynamic, ...] = ()
    post_processing: PostProcessing = "inside"
    half: bool = False
    tolerance: Tolerance = field(default_factory=Tolerance)


@dataclass(frozen=True)
class Said:
    """What is said of a student beside its weights.

    Attributes:
        classes: The names of its classes.
        licence: The licence of the weights that it began with. None: it is not known.
        metadata: What its card says under this name.
        measured_at: The (height, width) that a classifier was measured at. None: it is not known.
    """

    classes: tuple[str, ...] = ()
    licence: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    measured_at: Extent | None = None


def export(
    model: nn.Module,
    path: str | Path,
    wanted: Wanted,
    images: Sequence[Tensor],
    said: Said | None = None,
) -> Checked:
    """Write a model for another runtime, run the file there, and compare it with PyTorch.

    The file and its description are put in their place after that, or not at all.

    Args:
        model: A detector or a classifier, on the CPU. It stays as it is.
        path: The file to write. What is there is replaced.
        wanted: What it is to be.
        images: The images that it is compared on, (3, H, W) each, RGB in [0, 1], one at least.
        said: What is said of the student. Default (None): nothing is known.

    Returns:
        What was compared.

    Raises:
        DifferenceError: The file finds something else than PyTorch, beyond the tolerance.
        ImportError: A package that the format needs is not installed.
        ValueError: The model cannot be exported so.
    """
    path, model = Path(path), unwrap(model)
    before = model.training
    model.eval()
    try:
        return _Export(model, path, wanted, said or Said()).checked(images)
    finally:
        model.train(before)


class _Export:
    def __init__(self, model: nn.Module, path: Path, wanted: Wanted, said: Said) -> None:
        self.model, self.path, self.wanted, self.said = model, path, wanted, said
        _refuse_impossible(model, path, wanted)
        _refuse_dynamic(self._graph(), model, wanted)
        self.tolerance = wanted.tolerance.settled(half=wanted.half)

    def checked(self, images: Sequence[Tensor]) -> Checked:
        """Write, compare, and put in place.

        Files that are for the comparison alone have folders of their own in the hidden one.
        """
        folder = self.path.parent / f".{secrets.token_hex(8)}.part"
        folder.mkdir(parents=True)
        try:
            if getattr(self.model, "quantization", None) is None:
                found = self._equal(folder / self.path.name, images)
            else:
                with in_floats(self.model, [""]):
                    found = self._equal(folder / "floats" / self.path.name, images)
                found = replace(found, rounded=self._nearly(folder / self.path.name, images))
            for each in sorted(folder.iterdir()):
                if each.is_file():
                    each.replace(self.path.parent / each.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return found

    def _equal(self, path: Path, images: Sequence[Tensor]) -> Checked:
        """Write a file, and refuse it where it differs from PyTorch."""
        exported = self._written(path, self.wanted.post_processing)
        exact = self._graph()
        with self._told("be run in its runtime"):
            found = self._compared(exported, exact, images)
        if takes_list(self.model) and not found.detections and not found.dense:
            found += self._before_suppression(path.parent, exact, images)
        self._refuse(found)
        return found

    def _nearly(self, path: Path, images: Sequence[Tensor]) -> Agreement:
        """Write a file that rounds, and refuse it where it differs by more than rounding does."""
        exported = self._written(path, self.wanted.post_processing)
        with self._told("be run in its runtime"):
            found = agreement(self.model, exported, images)
        if not found.near:
            raise DifferenceError(
                f"{self.path} was not written: in its runtime, the file differs from PyTorch on "
                f"{len(images)} images by more than rounding explains. {found}; expected "
                f"{LEAST:.0%} or more, and {MOST:g} or less. Quantize the student anew, with "
                "images such as these, or leave sensitive layers in floats (limbeck quantize "
                "--drop)."
            )
        if not found.found:
            log.warning(
                "The student finds nothing with a score of %g or more on the %d images, so that "
                "its rounding could not be compared: all else was. Give --images with a folder of "
                "images on which it finds something.",
                SCORE,
                len(images),
            )
        return found

    def _graph(self) -> Graph:
        wanted = self.wanted
        return graph_of(
            copy.deepcopy(self.model),
            wanted.size,
            measured_at=self.said.measured_at,
            dynamic="size" in wanted.dynamic,
        )

    def _written(self, path: Path, post_processing: PostProcessing) -> ExportedModel:
        wanted, graph = self.wanted, self._graph()
        if wanted.half:
            graph.halve()
        kept = kept_by_operator if wanted.runtime in _BY_OPERATOR else kept_of_images
        if isinstance(graph, RegionGraph):
            graph.kept = kept
        module: Any = graph
        if isinstance(graph, DetectorGraph) and post_processing == "inside":
            module = Detecting(graph, kept)
        described = self._description(graph, module.outputs, post_processing)
        described.refuse_impossible(str(self.path))
        count = 2 if "batch" in wanted.dynamic else wanted.batch
        size = graph.framing.size or _example_size(graph, self.said.measured_at)
        example = torch.rand(count, 3, *size)
        outputs, text = tuple(module.outputs), described.written()
        path.parent.mkdir(exist_ok=True)
        program = Program(module.eval(), example, wanted.dynamic, outputs, text)
        with self._told("be written"):
            FORMATS[wanted.runtime].write(path, program)
        write_description(path, described)
        with self._told("be opened in its runtime"):
            return ExportedModel(path, trust=True)  # it was written here

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Say of whatever an exporter or a runtime does not take what to do instead."""
        try:
            yield
        except (ImportError, DifferenceError):
            raise
        except Exception as error:
            wanted = self.wanted
            raise ValueError(
                f"{type(self.model).__name__} as {wanted.runtime}"
                f"{', in half precision' if wanted.half else ''}, could not {what}: "
                f"{_short(error)}. {_way_out(self.model, wanted)}"
            ) from error

    def _description(
        self, graph: Graph, outputs: Collection[str], post_processing: PostProcessing
    ) -> Description:
        wanted, said = self.wanted, self.said
        return Description(
            runtime=wanted.runtime,
            task="detection" if graph.suppression else "classification",
            model=type(self.model).__name__,
            classes=said.classes,
            batch=None if "batch" in wanted.dynamic else wanted.batch,
            framing=graph.framing,
            post_processing=post_processing if graph.suppression else None,
            suppression=graph.suppression,
            half=wanted.half,
            licence=said.licence,
            limbeck=importlib.metadata.version("limbeck"),
            metadata=said.metadata,
            outputs=tuple(outputs),
        )

    def _compared(self, exported: ExportedModel, exact: Graph, images: Sequence[Tensor]) -> Checked:
        if not takes_list(self.model):
            return check_classifier(self.model, exported, images)
        found = check_detector(self.model, exported, images, self.tolerance)
        if self.wanted.post_processing == "dense":
            dense = check_dense(exact, exported, images)
            found += replace(dense, images=0)
        return found

    def _before_suppression(self, folder: Path, exact: Graph, images: Sequence[Tensor]) -> Checked:
        """Compare what comes before suppression, where nothing is left behind it."""
        log.warning(
            "The student finds nothing on the %d images, so that no detections could be compared: "
            "the boxes and scores before suppression are, in a second file. Give --images with a "
            "folder of images on which it finds something.",
            len(images),
        )
        second = self._written(folder / "dense" / self.path.name, "dense")
        return replace(check_dense(exact, second, images), images=0)

    def _refuse(self, found: Checked) -> None:
        if found.within(self.tolerance):
            return
        raise DifferenceError(
            f"{self.path} was not written: in its runtime, the file differs from PyTorch on "
            f"{found.images} images. {told(found)}; expected at most {self.tolerance.boxes:g} px, "
            f"{self.tolerance.scores:g}, and no detection that only one side has. Choose another "
            "--format, leave --half out if it was given, or, if such a difference does no harm, "
            "give a larger --tolerance.boxes and --tolerance.scores."
        )


def told(found: Checked) -> str:
    """What was compared, as a sentence without its full stop.

    Args:
        found: What was compared.

    Returns:
        The text.
    """
    rounded = "" if found.rounded is None else f"; {found.rounded}"
    scores = f"largest difference of scores {found.scores:.2g}{rounded}"
    if not found.detections and not found.dense and not found.unmatched:
        return scores.replace("scores", "probabilities")
    boxes = f"largest difference of boxes {found.boxes:.2g} px, {scores}"
    matched = f"{found.detections} detections, {found.unmatched} without a partner"
    dense = f"; {found.dense} boxes before suppression" if found.dense else ""
    return f"{matched}{dense}; {boxes}"


def _refuse_impossible(model: nn.Module, path: Path, wanted: Wanted) -> None:
    suffix = RUNTIMES[wanted.runtime].suffix
    if path.suffix != suffix:
        raise ValueError(
            f"--output {path}: a file of {wanted.runtime} ends with {suffix}. Call it "
            f"{path.with_suffix(suffix).name}."
        )
    if wanted.runtime == "torchscript" and wanted.dynamic:
        raise ValueError(
            "--dynamic: TorchScript is traced, with the shapes of one batch. Leave --dynamic out, "
            "or choose --format onnx or torch_export."
        )
    if wanted.half and getattr(model, "quantization", None) is not None:
        raise ValueError(
            "--half: the student is quantized; expected one in floats, or no --half. Leave it out."
        )
    inside = wanted.post_processing == "inside" and takes_list(model)
    if wanted.runtime == "torch_export" and wanted.dynamic and inside:
        raise ValueError(
            "--dynamic: torch.export has no suppression for batches of any size. Give "
            "--post_processing dense, leave --dynamic out, or choose --format onnx."
        )
    if "size" in wanted.dynamic and takes_list(model) and not inside:
        raise ValueError(
            "--dynamic size with --post_processing dense: the number of boxes of a level, of which "
            "the best are chosen, would not be known. Choose one of the two."
        )


def _refuse_dynamic(graph: Graph, model: nn.Module, wanted: Wanted) -> None:
    for name in wanted.dynamic:
        if name not in graph.dynamic:
            raise ValueError(
                f"--dynamic {name}: {type(model).__name__} is exported for a fixed {name}. Leave "
                f"it out{', and give --batch' if name == 'batch' else ''}."
            )


def _example_size(graph: Graph, measured_at: Extent | None) -> Extent:
    """A size of a frame whose size is dynamic, with unequal sides."""
    multiple = graph.framing.multiple
    # Some classifiers take no image that is much smaller than they are made for.
    usual = 64 if graph.suppression else (measured_at or (224, 224))[0]
    small = max(multiple, usual // multiple * multiple)
    return small, small + multiple * (1 + 32 // multiple)


def _way_out(model: nn.Module, wanted: Wanted) -> str:
    """What else to ask for, where a model cannot be written as it is wanted."""
    ways = [f"choose another --format{'' if wanted.runtime == 'onnx' else ' (onnx)'}"]
    if takes_list(model) and wanted.post_processing != "dense":
        ways.append("give --post_processing dense")
    if wanted.dynamic:
        ways.append("leave --dynamic out")
    return f"{', or '.join(ways).capitalize()}."


def _short(error: Exception) -> str:
    """The first line of an error that says something, without colours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}".rstrip(".")
