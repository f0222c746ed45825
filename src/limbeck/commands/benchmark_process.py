"""A process with one model that is timed, whose threads, memory and compilation are its own."""

import multiprocessing
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from limbeck.commands import quieten_libraries
from limbeck.commands.measuring import Measure, labelled_split
from limbeck.commands.students import Student, measured_at, student_of
from limbeck.exported import ExportedModel
from limbeck.frame import Extent
from limbeck.training.export import peak_memory

_USUAL_SIZE = (480, 640)
Mode = Literal["eager", "compiled"]
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Variant:
    """A model, and how it is run.

    Attributes:
        name: What the user calls the model.
        source: A student's folder, a run's folder, or a file of ``limbeck export``.
        mode: How PyTorch runs it. A file runs in its own runtime.
        precision: What PyTorch computes in; others than float32 by autocast. A file has its own.
        batch: The number of images at once.
        size: The (height, width) of the images, in pixels. None: that to which a classifier's
            augmentation brings every image, and 480 x 640 for detectors.
        threads: The number of threads of the CPU.
        device: Where PyTorch runs it.
        trust: Whether to build a student that is not limbeck's, torchvision's or timm's, or to open
            a file that can run code.
    """

    name: str
    source: Path
    mode: Mode
    precision: Precision
    batch: int
    size: Extent | None
    threads: int
    device: str
    trust: bool = False


class BenchmarkError(ValueError):
    """A variant could not be run."""


class Contestant:
    """The process of a variant, which runs its model when it is asked.

    Args:
        variant: The variant.

    Attributes:
        variant: The variant.
        runtime: What it runs in, once it is ready.
        size: The (height, width) of its images, in pixels.

    Raises:
        BenchmarkError: The model cannot be loaded, or not be run so.
    """

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, variant), daemon=True)
        self._process.start()
        theirs.close()
        self.runtime: str
        self.size: Extent
        self.runtime, self.size = self._answer()

    def __enter__(self) -> Self:
        """The contestant."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()

    def seconds(self) -> float:
        """The wall time of one call of the model, from images to detections or logits."""
        seconds: float = self._ask("time")
        return seconds

    def peak_memory(self) -> float:
        """The most memory so far, in MiB: of the GPU, or of the process with its libraries."""
        peak: float = self._ask("memory")
        return peak

    def score(self, labelled: str) -> tuple[str, float]:
        """The name and the value of the model's score on labelled images.

        Args:
            labelled: A folder of data, or a recipe.

        Returns:
            The name of the score, and the score.
        """
        name, value = self._ask("score", labelled)
        return name, value

    def _ask(self, *question: str) -> Any:
        with suppress(ConnectionError):  # of a process that has ended, which the answer says
            self._pipe.send(question)
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, answer = self._pipe.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise BenchmarkError(
                f"its process ended with exit code {self._process.exitcode}"
            ) from None
        if kind == "error":
            raise BenchmarkError(answer)
        return answer


def _serve(pipe: Connection, variant: Variant) -> None:
    """Answer questions until the other end is closed."""
    quieten_libraries()
    try:
        model = _Timed(variant)
        pipe.send(("answer", (model.runtime, model.size)))
        while True:
            what, *arguments = pipe.recv()
            pipe.send(("answer", getattr(model, what)(*arguments)))
    except EOFError:
        return
    except KeyboardInterrupt:
        return
    except Exception as error:  # whatever a model or a runtime raises
        lines = str(error).strip().splitlines() or [""]
        pipe.send(("error", f"{type(error).__name__}: {lines[0][:500]}"))


class _Timed:
    """A model on a batch of images, in the process that is its own."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        torch.set_num_threads(variant.threads)
        self.student: Student = student_of(variant.source, trust=variant.trust)
        self.device = torch.device(variant.device)
        self.model: Any = self.student.model
        self.runtime = f"PyTorch, {variant.mode}"
        if isinstance(self.model, ExportedModel):
            self.model = ExportedModel(variant.source, variant.threads, trust=variant.trust)
            self.device = torch.device("cpu")
            self.runtime = self.model.description.runtime
        else:
            self.model.to(self.device)
            if variant.mode == "compiled":
                getattr(self.model, "backbone", self.model).compile()
        generator = torch.Generator().manual_seed(0)
        own = measured_at(self.student) if self.student.task == "classification" else None
        self.size: Extent = variant.size or own or _USUAL_SIZE
        images = torch.rand(variant.batch, 3, *self.size, generator=generator).to(self.device)
        self.images: Tensor | list[Tensor] = images
        if self.student.task == "detection":
            self.images = list(images)
        self.time()  # so that what cannot be run is known

    def time(self) -> float:
        began = time.perf_counter()
        with torch.inference_mode(), self._precision():
            self.model(self.images)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() - began

    def memory(self) -> float:
        return peak_memory(self.device)

    def score(self, labelled: str) -> tuple[str, float]:
        task, classes = self.student.task, self.student.classes
        dataset = labelled_split(labelled, "--labelled", task, classes)
        measure = Measure(dataset, self.student.transform, self.variant.batch, self.device)
        with self._precision():
            return measure.name, measure(self.model, self.variant.name)[measure.name]

    def _precision(self) -> AbstractContextManager[Any]:
        if self.variant.precision == "float32" or isinstance(self.model, ExportedModel):
            return nullcontext()
        return torch.autocast(self.device.type, getattr(torch, self.variant.precision))
