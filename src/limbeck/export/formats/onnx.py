"""ONNX, through PyTorch's own exporter."""

import logging
import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from limbeck.export.formats.tracing import Program
from limbeck.export.suppressing import translations
from limbeck.exported.runtimes import needed

PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def write(path: Path, program: Program) -> None:
    """Write a module as an ONNX file.

    Args:
        path: The file.
        program: What it is written of.

    Raises:
        ImportError: A package is not installed.
    """
    for package in PACKAGES:
        needed(package, "onnx")
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    traced, checker = program.traced(), needed("onnx", "onnx").checker
    _save(path, program, traced, optimize=True)
    try:
        checker.check_model(str(path))
    except checker.ValidationError:  # the optimizer drops outputs of deformable attention
        _save(path, program, traced, optimize=False)
        checker.check_model(str(path))


def _save(path: Path, program: Program, traced: ExportedProgram, *, optimize: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = torch.onnx.export(
            traced,
            (),
            input_names=["images"],
            output_names=list(program.outputs),
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
            optimize=optimize,
        )
    assert made is not None, "PyTorch's exporter gives a program unless it is given a file"
    made.model.metadata_props["limbeck"] = program.description
    made.save(path)
