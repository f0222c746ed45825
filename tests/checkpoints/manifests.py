"""Names, shapes and changes of the reference libraries' detectors, and tensors to tell them by."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.checkpoints.libraries import detectron2, mmdetection
from tests.models.detection.published import renamed

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Manifest:
    """A model of a library, as its keys were written down there."""

    name: str
    module: ModuleType
    bgr: bool = False

    def theirs(self, shared: Path) -> Tensors:
        """Tensors of its names and shapes, each value unlike its neighbours."""
        file = shared / f"golden/checkpoints/keys/{self.name}.json"
        entries = json.loads(file.read_text())["entries"]
        return counted({entry["name"]: torch.Size(entry["shape"]) for entry in entries})

    def ours(self, shared: Path) -> Tensors:
        """What they are in torchvision by the table that was written down with them."""
        return renamed(shared, self.theirs(shared), self.name)

    def read(self, tensors: Tensors) -> Tensors:
        return self.module.read(tensors, bgr=self.bgr)

    def write(self, tensors: Tensors) -> Tensors:
        return self.module.write(tensors, bgr=self.bgr)


MANIFESTS = [
    Manifest("d2_retinanet_R18", detectron2),
    Manifest("d2_retinanet_R50", detectron2, bgr=True),
    Manifest("d2_faster_rcnn_R50", detectron2, bgr=True),
    Manifest("mmdet_retinanet_r18_fpn", mmdetection),
    Manifest("mmdet_retinanet_r50_fpn", mmdetection),
    Manifest("mmdet_retinanet_mobilenet_v2_fpn", mmdetection),
    Manifest("mmdet_faster_rcnn_r50_fpn", mmdetection),
]


def manifests(module: ModuleType | None = None) -> pytest.MarkDecorator:
    """Every model, or those of one library."""
    chosen = [m for m in MANIFESTS if module in (None, m.module)]
    return pytest.mark.parametrize("manifest", chosen, ids=lambda manifest: manifest.name)


def counted(shapes: dict[str, torch.Size]) -> Tensors:
    """0, 1, 2, ... from another number in each tensor."""
    return {
        name: torch.tensor(i)
        if name.endswith("num_batches_tracked")
        else torch.arange(i, i + shape.numel(), dtype=torch.float32).view(shape)
        for i, (name, shape) in enumerate(shapes.items())
    }


def counted_like(model: nn.Module) -> Tensors:
    """The same, with the names and shapes of a model, which may be on ``meta``."""
    return counted({name: value.shape for name, value in model.state_dict().items()})


def counted_detector(
    kind: type[nn.Module], backbone: str = "resnet18", **arguments: Any
) -> Tensors:
    """The tensors of a detector of five classes."""
    with torch.device("meta"):
        network = kind(backbone, 5, **arguments)
    return counted_like(network)


def assert_same(found: Tensors, expected: Tensors) -> None:
    """Names, types and bits."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        assert torch.equal(found[name], value), name
