"""What a file is written of, and how ``torch.export`` sees it."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.exc import UserError
from torch.export import Dim, ExportedProgram

# What may be dynamic, and the axes of the batch that it means.
AXES = {"batch": (0,), "size": (2, 3)}


@dataclass(frozen=True)
class Program:
    """What a file is written of.

    Attributes:
        module: The module, in evaluation mode.
        example: A batch (B, 3, H, W) that it takes.
        dynamic: What is dynamic, of ``batch`` and ``size``.
        outputs: The names of what it gives.
        description: What is kept in the file under the name ``limbeck``, as JSON.
    """

    module: nn.Module
    example: Tensor
    dynamic: tuple[str, ...]
    outputs: tuple[str, ...]
    description: str

    def traced(self) -> ExportedProgram:
        """The program as ``torch.export`` sees it."""
        axes: dict[int, Any] = {axis: Dim.DYNAMIC for name in self.dynamic for axis in AXES[name]}
        options: dict[str, Any] = {"dynamic_shapes": {"images": axes}}
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what libraries keep of an image's size
            try:
                return torch.export.export(self.module, (self.example,), **options, strict=False)
            except UserError:  # dynamo alone sees what Python makes of a size, such as len(batch)
                if not axes:
                    raise
                return torch.export.export(self.module, (self.example,), **options, strict=True)
