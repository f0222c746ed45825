"""What runs an exported file: one class for each format, over its own library."""

import warnings
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor


class Runtime(ABC):
    """A file that is open, in its own runtime.

    Args:
        path: The file.
        threads: The number of threads of the CPU that it may take. None: as its library has it.

    Attributes:
        suffix: How the name of such a file ends.
        runs_code: Whether a file can run code of its own, as it is opened or on images.
        weights_suffix: How the name of the file of weights beside it ends, in the place of
            ``suffix``. None: there is none.
    """

    suffix: ClassVar[str]
    runs_code: ClassVar[bool] = False
    weights_suffix: ClassVar[str | None] = None

    @abstractmethod
    def __init__(self, path: Path, threads: int | None) -> None: ...

    @abstractmethod
    def run(self, images: Tensor) -> list[Tensor]:
        """Run the file.

        Args:
            images: The batch (B, 3, H, W), float32, RGB in [0, 1], on the CPU.

        Returns:
            The outputs, in their order, on the CPU.
        """


class ONNX(Runtime):
    """An ONNX file in onnxruntime, on the CPU."""

    suffix = ".onnx"
    weights_suffix = ".onnx.data"  # of weights that are too large for one file

    def __init__(self, path: Path, threads: int | None) -> None:
        onnxruntime = needed("onnxruntime", "onnx")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors alone
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (self.input,) = (each.name for each in self.session.get_inputs())

    def run(self, images: Tensor) -> list[Tensor]:
        """Run the file on a batch."""
        return [torch.from_numpy(v) for v in self.session.run(None, {self.input: images.numpy()})]


class OpenVINO(Runtime):
    """An OpenVINO file, on the CPU."""

    suffix = ".xml"
    weights_suffix = ".bin"

    def __init__(self, path: Path, threads: int | None) -> None:
        openvino = needed("openvino", "openvino")
        # The CPU's plugin computes in bfloat16 or float16 where it can, unless it is told not to.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        self.compiled = openvino.Core().compile_model(str(path), "CPU", options)

    def run(self, images: Tensor) -> list[Tensor]:
        """Run the file on a batch."""
        found = self.compiled([images.numpy()])
        return [torch.tensor(found[output]) for output in self.compiled.outputs]


class TorchExport(Runtime):
    """A file of ``torch.export``, in PyTorch, which reads the pickles in it."""

    suffix = ".pt2"
    runs_code = True

    def __init__(self, path: Path, threads: int | None) -> None:
        _set_threads(threads)
        self.module = torch.export.load(path).module()

    @torch.inference_mode()
    def run(self, images: Tensor) -> list[Tensor]:
        """Run the file on a batch."""
        return _listed(self.module(images))


class TorchScript(Runtime):
    """A file of TorchScript, in PyTorch: a program, which may read and write files."""

    suffix = ".pt"
    runs_code = True

    def __init__(self, path: Path, threads: int | None) -> None:
        _set_threads(threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that it is retired
            self.module = torch.jit.load(str(path))  # type: ignore[no-untyped-call]

    @torch.inference_mode()
    def run(self, images: Tensor) -> list[Tensor]:
        """Run the file on a batch."""
        return _listed(self.module(images))


RUNTIMES: dict[str, type[Runtime]] = {
    "onnx": ONNX,
    "openvino": OpenVINO,
    "torch_export": TorchExport,
    "torchscript": TorchScript,
}


def opened(name: str, path: Path, threads: int | None, *, trust: bool) -> Runtime:
    """Open a file in the runtime that its description names.

    Args:
        name: The name of the runtime.
        path: The file.
        threads: The number of threads of the CPU that it may take. None: as its library has it.
        trust: Whether to open a file that can run code of its own.

    Returns:
        The open file.

    Raises:
        ImportError: The runtime is not installed.
        ValueError: The file is named as one of another runtime, or needs trust.
    """
    kind = RUNTIMES[name]
    if path.suffix != kind.suffix:
        raise ValueError(
            f"{path} is described as a file of {name}, whose name ends with {kind.suffix}; found "
            f"{path.suffix or 'no ending'}. Give the file as `limbeck export` has named it, with "
            "its own description beside it."
        )
    if kind.runs_code and not trust:
        free = " or ".join(each for each in RUNTIMES if not RUNTIMES[each].runs_code)
        raise ValueError(
            f"{path} is a file of {name}, which can run code of its own; expected --trust true, or "
            "in Python trust=True. Give it if you trust whoever wrote the file; otherwise have the "
            f"student exported with --format {free}, whose files run no code."
        )
    return kind(path, threads)


def needed(package: str, extra: str) -> Any:
    """Import a package that is an extra of limbeck's.

    Args:
        package: The name of the package.
        extra: The extra of limbeck's that brings it.

    Returns:
        The package.

    Raises:
        ImportError: It is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ImportError(
            f"the package {package} is needed for this, and cannot be imported ({error}). Install "
            f"it: pip install 'limbeck[{extra}]'."
        ) from error


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        torch.set_num_threads(threads)


def _listed(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)
