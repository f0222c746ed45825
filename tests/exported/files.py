"""A tiny classifier of three classes as an exported file, with its description."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.export.classifiers import ClassifierGraph
from limbeck.export.formats import torch_export, torchscript
from limbeck.export.formats.tracing import Program
from limbeck.exported import Description
from limbeck.exported.description import write_description
from limbeck.exported.framing import Framing

CLASSIFIER = Description(
    runtime="torchscript",
    task="classification",
    model="Classifier",
    classes=("a", "b", "c"),
    batch=1,
    framing=Framing("stretch", (4, 4)),
    post_processing=None,
    suppression=None,
    half=False,
    licence=None,
    limbeck="0.1.0",
    outputs=("logits",),
)


def write_classifier(path: Path, **changes: Any) -> nn.Module:
    """Write the file and a description that is changed so; the module is returned."""
    described = replace(CLASSIFIER, **changes)
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)).eval()
    graph = ClassifierGraph(module, described.framing).eval()
    program = Program(graph, torch.rand(1, 3, 4, 4), (), described.outputs, described.written())
    (torch_export if path.suffix == ".pt2" else torchscript).write(path, program)
    write_description(path, described)
    return module
