"""TorchScript, for runtimes that take nothing newer. PyTorch has retired it."""

import warnings
from pathlib import Path

import torch

from limbeck.export.formats.tracing import Program


def write(path: Path, program: Program) -> None:
    """Write a module as a file of TorchScript, by tracing it.

    Args:
        path: The file.
        program: What it is written of.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is retired; that shapes are constants
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            program.module, (program.example,), check_trace=False
        )
        torch.jit.save(traced, str(path), _extra_files={"limbeck": program.description})
