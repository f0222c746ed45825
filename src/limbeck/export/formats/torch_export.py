"""Files of ``torch.export``, which PyTorch loads without limbeck.

Those of detectors need ``import torchvision`` before, whose operators are in them.
"""

from pathlib import Path

import torch

from limbeck.export.formats.tracing import Program


def write(path: Path, program: Program) -> None:
    """Write a module as a file of ``torch.export``.

    Args:
        path: The file.
        program: What it is written of.
    """
    traced = program.traced()
    with path.open("wb") as file:  # a path would have to end with .pt2
        torch.export.save(traced, file, extra_files={"limbeck": program.description})
