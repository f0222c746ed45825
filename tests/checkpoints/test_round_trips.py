"""From each library to torchvision's names and back, and the other way round."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from limbeck.checkpoints.libraries import detectron2, mmdetection
from limbeck.models import FasterRCNN, RetinaNet
from tests.checkpoints.manifests import Manifest, assert_same, counted_like, manifests

RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101"]


@manifests()
def test_the_libraries_own_names_and_values(manifest: Manifest, shared: Path) -> None:
    assert_same(manifest.read(manifest.theirs(shared)), manifest.ours(shared))


@manifests()
def test_every_bit_comes_back(manifest: Manifest, shared: Path) -> None:
    theirs = manifest.theirs(shared)
    assert_same(manifest.write(manifest.read(theirs)), theirs)


@manifests()
def test_shapes_are_those_that_torchvision_has(manifest: Manifest, shared: Path) -> None:
    table = shared / f"golden/checkpoints/keys/map_{manifest.name}__to__torchvision.json"
    expected = {e["tv"]: e["tv_shape"] for e in json.loads(table.read_text())}
    ours = manifest.read(manifest.theirs(shared))
    assert {name: list(value.shape) for name, value in ours.items()} == expected


@pytest.mark.parametrize(
    ("kind", "backbone", "library", "arguments"),
    [
        *((RetinaNet, name, mmdetection, {}) for name in [*RESNETS, "mobilenet_v2"]),
        *((RetinaNet, name, detectron2, {}) for name in RESNETS),
        *((FasterRCNN, "resnet18", library, {}) for library in (detectron2, mmdetection)),
        (FasterRCNN, "resnet50", detectron2, {}),
        (FasterRCNN, "mobilenet_v2", mmdetection, {}),
        (RetinaNet, "resnet18", detectron2, {"head_depth": 1, "levels": (2, 7)}),
        (RetinaNet, "resnet18", mmdetection, {"head_depth": 6, "levels": (2, 7)}),
        (RetinaNet, "resnet18", detectron2, {"levels": (3, 4)}),
        (FasterRCNN, "resnet18", mmdetection, {"levels": (3, 5)}),
    ],
)
def test_detectors_of_limbeck(
    kind: type, backbone: str, library: ModuleType, arguments: dict
) -> None:
    preset = library.__name__.rpartition(".")[2]
    with torch.device("meta"):
        model = kind(backbone, 5, preset=preset, norm="trained", fpn_channels=8, **arguments)
    ours = counted_like(model)
    theirs = library.write(ours, bgr=True)
    assert library.recognises(theirs)
    left_out = ["loss_normaliser"] + ["num_batches_tracked"] * (library is detectron2)
    expected = {k: v for k, v in ours.items() if k.rpartition(".")[2] not in left_out}
    assert len(theirs) == len(expected)
    for name in expected:  # rows that nothing is computed from, and that theirs does not have
        if "bbox_pred" in name and "rpn" not in name:
            expected[name][:4] = 0
    read = library.read(theirs, bgr=True)
    assert_same(read, expected)
    model.load_state_dict(read, assign=True)  # strict: nothing is missing


@pytest.mark.parametrize("library", [detectron2, mmdetection])
def test_frozen_normalisations_load_what_was_written(library: ModuleType) -> None:
    preset = library.__name__.rpartition(".")[2]
    with torch.device("meta"):
        model = RetinaNet("resnet18", 5, preset=preset, fpn_channels=8)
    ours = counted_like(model)
    theirs = library.write(ours, bgr=False)
    counters = [name for name in theirs if name.endswith("num_batches_tracked")]
    assert len(counters) == (20 if library is mmdetection else 0)
    read = library.read(theirs, bgr=False)
    model.load_state_dict(read, assign=True)


def test_from_one_library_to_the_other() -> None:
    with torch.device("meta"):
        model = FasterRCNN("resnet18", 5, preset="detectron2", fpn_channels=8)
    ours = counted_like(model)
    first = detectron2.write(ours, bgr=True)
    second = mmdetection.write(detectron2.read(first, bgr=True), bgr=False)
    assert_same(detectron2.write(mmdetection.read(second, bgr=False), bgr=True), first)
