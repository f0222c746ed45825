"""ONNX, through PyTorch's own exporter."""

import logging
import warnings
from pathlib import Path
from typing import Any

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
    _store_as_integers(made.model)
    made.model.metadata_props["limbeck"] = program.description
    made.save(path)


def _store_as_integers(model: Any) -> None:
    """Round the weights of a quantized model in the file, which is a quarter as large then."""
    from onnxscript.optimizer import fold_constants, remove_unused_nodes

    everything = 1 << 40
    fold_constants(
        model,
        input_size_limit=everything,
        output_size_limit=everything,
        should_fold=lambda node: (
            node.op_type == "QuantizeLinear" and node.inputs[0].is_initializer()
        ),
    )
    remove_unused_nodes(model)
