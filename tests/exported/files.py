"""Exported files with their descriptions: a tiny classifier, and one that gives stated outputs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.export.classifiers import ClassifierGraph
from limbeck.export.formats import torch_export, torchscript
from limbeck.export.formats.tracing import Program
from limbeck.exported import Description, ExportedModel
from limbeck.exported.description import write_description
from limbeck.exported.framing import Framing
from limbeck.exported.runtimes import RUNTIMES, Runtime
from limbeck.exported.suppression import Suppression

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
DETECTOR = replace(
    CLASSIFIER,
    runtime="onnx",
    task="detection",
    model="SSD",
    post_processing="inside",
    suppression=Suppression((1, 2, 3), 0.1, 0.5, 100),
    outputs=("boxes", "scores", "labels"),
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


def giving(
    outputs: Sequence[Tensor],
    description: Description,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ExportedModel:
    """An exported file that gives these outputs for every image."""

    def run(_: Runtime, images: Tensor) -> list[Tensor]:
        return [each.expand(len(images), *each.shape[1:]) for each in outputs]

    kind = RUNTIMES[description.runtime]
    monkeypatch.setattr(kind, "__init__", lambda *_: None)
    monkeypatch.setattr(kind, "run", run)
    path = folder / f"a{kind.suffix}"
    path.touch()
    write_description(path, description)
    return ExportedModel(path, trust=True)
