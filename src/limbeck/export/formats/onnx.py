"""ONNX, through PyTorch's own exporter."""

import logging
import warnings
from pathlib import Path

import torch

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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        made = torch.onnx.export(
            program.traced(),
            (),
            input_names=["images"],
            output_names=list(program.outputs),
            custom_translation_table=translations(),
            dynamo=True,
            verbose=False,
        )
    assert made is not None, "PyTorch's exporter gives a program unless it is given a file"
    made.model.metadata_props["limbeck"] = program.description
    made.save(path)
