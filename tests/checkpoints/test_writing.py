"""Files that are written: names, containers, configurations, and the way back bit for bit."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
import yaml
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints import (
    Checkpoint,
    Library,
    contiguous,
    open_checkpoint,
    read_file,
    with_std,
    write_checkpoint,
)
from limbeck.checkpoints.architecture import architecture
from limbeck.checkpoints.checkpoint import style_of
from limbeck.checkpoints.tensors import COCO_IDS
from tests.checkpoints.manifests import Manifest, Tensors, assert_same, manifests
from tests.checkpoints.narrow_tensors import small, small_detector
from tests.models.detection.published import file_of

STYLES = {"caffe": (1 / 255,) * 3, "pytorch": IMAGENET_DEFAULT_STD}
SUFFIXES: dict[Library, str] = {
    "torchvision": ".pth",
    "detectron2": ".pkl",
    "mmdetection": ".pth",
}


def detector(kind: str = "RetinaNet", backbone: str = "resnet50", **arguments: Any) -> Checkpoint:
    """As limbeck has it, all arguments settled but those that are left out."""
    style = arguments.pop("style", "pytorch")
    tensors = small_detector(kind, backbone, **arguments)
    # Torchvision's RetinaNet has a column more than the network reads.
    columns = 1 if kind == "RetinaNet" and arguments.get("preset") == "torchvision" else 0
    settled = architecture(tensors).arguments
    settled["num_classes"] -= columns
    settled |= {"preset": "mmdetection", "mean": IMAGENET_DEFAULT_MEAN, "std": STYLES[style]}
    settled |= {"stride_in_1x1": style == "caffe"} | arguments
    return Checkpoint("student", "limbeck", kind, tensors, settled, ("cat", "dog", "cow"))


def trunk(name: str, style: str = "pytorch") -> Checkpoint:
    with torch.device("meta"):
        network = torchvision.models.get_model(name)
    return Checkpoint("student", "limbeck", "trunk", small(network), {"std": STYLES[style]})


# -- there and back --------------------------------------------------------------------------------


@pytest.mark.slow
@manifests()
def test_from_a_library_to_torchvision_and_back(
    manifest: Manifest, shared: Path, tmp_path: Path
) -> None:
    theirs = manifest.theirs(shared)
    library = manifest.module.__name__.rpartition(".")[2]
    first = open_checkpoint(str(file_of(tmp_path, library, theirs)))
    assert (style_of(first) == "caffe") is manifest.bgr
    write_checkpoint(first, tmp_path / "stock.pth", "torchvision")
    stock = open_checkpoint(f"torchvision:{tmp_path / 'stock.pth'}")
    # Its user says what a state dict of torchvision's does not; the deviation there is ImageNet's.
    there = replace(stock, arguments=stock.arguments | {"std": IMAGENET_DEFAULT_STD})
    tensors = with_std(there, first.arguments["std"])
    told = {"std": first.arguments["std"], "stride_in_1x1": manifest.bgr}
    back = replace(stock, tensors=tensors, arguments=stock.arguments | told)
    target = tmp_path / f"back{SUFFIXES[library]}"
    write_checkpoint(back, target, library)
    found = read_file(target).tensors
    if manifest.bgr:  # the deviation was folded into the first convolution, there and back
        name = "backbone.bottom_up.stem.conv1.weight"
        torch.testing.assert_close(found[name], theirs[name], rtol=1e-6, atol=0)
        theirs[name] = found[name]
    assert_same(found, theirs)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("library", ["detectron2", "mmdetection"])
@pytest.mark.parametrize("kind", ["RetinaNet", "FasterRCNN"])
def test_what_is_written_is_read_with_its_arguments(
    tmp_path: Path, kind: str, library: Library, style: str
) -> None:
    given = detector(kind, preset=library, style=style, score_threshold=0.2, min_size=96)
    target = tmp_path / f"model{SUFFIXES[library]}"
    written = write_checkpoint(given, target, library)
    assert written == [target, target.with_suffix({"d": ".yaml", "m": ".py"}[library[0]])]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    found = open_checkpoint(str(target))
    known = found.arguments | found.test_arguments
    for name, value in given.arguments.items():
        assert known[name] == (pytest.approx(value) if name in ("mean", "std") else value), name
    expected = {k: v for k, v in given.tensors.items() if k != "loss_normaliser"}
    if library == "detectron2":
        expected = {k: v for k, v in expected.items() if "num_batches" not in k}
    for name in expected:  # rows of the background's boxes, which are never used
        if name.startswith("roi_heads.box_predictor.bbox_pred"):
            expected[name][:4] = 0
    found = replace(found, tensors={k: v for k, v in found.tensors.items() if k in expected})
    assert_same(found.tensors, expected)
    assert found.classes == (given.classes if library == "mmdetection" else ())


def test_torchvisions_unused_column_is_not_carried_along(tmp_path: Path) -> None:
    given = detector(preset="torchvision")
    assert len(given.tensors["head.classification_head.cls_logits.bias"]) == 9 * 4
    write_checkpoint(given, tmp_path / "model.pkl", "detectron2")
    theirs = read_file(tmp_path / "model.pkl").tensors
    assert len(theirs["head.cls_score.bias"]) == 9 * 3
    write_checkpoint(given, tmp_path / "stock.pth", "torchvision")
    assert_same(read_file(tmp_path / "stock.pth").tensors, given.tensors)


@pytest.mark.parametrize(
    ("name", "library", "suffix", "first"),
    [
        ("resnet50", "detectron2", ".pkl", "stem.conv1.weight"),
        ("resnet18", "mmdetection", ".pth", "conv1.weight"),
        ("vgg11_bn", "mmdetection", ".pth", "features.0.weight"),
        ("mobilenet_v2", "mmdetection", ".pth", "backbone.conv1.conv.weight"),  # mmpretrain's names
        ("shufflenet_v2_x1_0", "mmdetection", ".pth", "backbone.conv1.conv.weight"),
        ("resnet18", "torchvision", ".safetensors", "conv1.weight"),
    ],
)
@pytest.mark.parametrize("style", STYLES)
def test_trunks(
    tmp_path: Path, name: str, library: Library, suffix: str, first: str, style: str
) -> None:
    given = trunk(name, style)
    target = tmp_path / f"trunk{suffix}"
    assert write_checkpoint(given, target, library) == [target]
    assert first in read_file(target).tensors
    found = open_checkpoint(str(target), library, style)
    expected = with_std(given, IMAGENET_DEFAULT_STD if library == "torchvision" else None)
    if library == "detectron2":
        expected = {k: v for k, v in expected.items() if "num_batches" not in k}
    assert_same(found.tensors, expected)


# -- containers ------------------------------------------------------------------------------------


def test_detectron2_reads_the_pickle_as_its_own(tmp_path: Path) -> None:
    write_checkpoint(detector(preset="detectron2"), tmp_path / "model.pkl", "detectron2")
    kept = pickle.loads((tmp_path / "model.pkl").read_bytes())
    assert kept["__author__"] == "limbeck"  # not Caffe2, whose names and classes are others
    assert kept["matching_heuristics"] is False
    assert all(isinstance(value, np.ndarray) for value in kept["model"].values())
    write_checkpoint(trunk("resnet50"), tmp_path / "trunk.pkl", "detectron2")
    assert pickle.loads((tmp_path / "trunk.pkl").read_bytes())["matching_heuristics"] is True
    write_checkpoint(detector(preset="detectron2"), tmp_path / "model.pth", "detectron2")
    kept = torch.load(tmp_path / "model.pth", weights_only=True)
    assert kept.keys() == {"model", "__author__"}


def test_mmdetections_file_holds_its_configuration(tmp_path: Path) -> None:
    write_checkpoint(detector(), tmp_path / "model.pth", "mmdetection")
    kept = torch.load(tmp_path / "model.pth", weights_only=True)
    assert kept["meta"]["cfg"] == (tmp_path / "model.py").read_text()
    assert kept["meta"]["dataset_meta"] == {"classes": ("cat", "dog", "cow")}
    assert "bbox_head.retina_cls.weight" in kept["state_dict"]


def test_detectron2s_configuration_says_the_input_of_its_weights(tmp_path: Path) -> None:
    given = detector(preset="detectron2", style="caffe")
    write_checkpoint(given, tmp_path / "model.pkl", "detectron2")
    config = yaml.safe_load((tmp_path / "model.yaml").read_text())
    assert config["INPUT"]["FORMAT"] == "BGR"
    assert config["MODEL"]["PIXEL_MEAN"] == [103.53, 116.28, 123.675]
    assert config["MODEL"]["PIXEL_STD"] == [1.0, 1.0, 1.0]
    conv1 = read_file(tmp_path / "model.pkl").tensors["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(conv1, given.tensors["backbone.body.conv1.weight"].flip(1))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_torchvisions_file_is_a_bare_state_dict(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"model{suffix}"
    write_checkpoint(detector(style="caffe", preset="detectron2"), target, "torchvision")
    found = read_file(target)
    assert (found.container, dict(found.metadata)) == ("", {})
    with torch.device("meta"):
        stock = torchvision.models.detection.retinanet_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=4
        )
    differing = found.tensors.keys() ^ stock.state_dict().keys()
    assert {name.rpartition(".")[2] for name in differing} <= {"num_batches_tracked"}


# -- COCO's identifiers ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RetinaNet", "FasterRCNN"])
def test_cocos_91_identifiers_and_the_80_that_occur(tmp_path: Path, kind: str) -> None:
    narrow = detector(kind, preset="torchvision")
    scores = {
        "RetinaNet": ("head.classification_head.cls_logits", 9, 91),
        "FasterRCNN": ("roi_heads.box_predictor.cls_score", 1, 91),
    }
    layer, groups, columns = scores[kind]
    tensors: Tensors = narrow.tensors
    tensors[f"{layer}.bias"] = torch.arange(float(groups * columns))
    tensors[f"{layer}.weight"] = torch.rand(groups * columns, 4)
    if kind == "FasterRCNN":
        tensors["roi_heads.box_predictor.bbox_pred.weight"] = torch.rand(4 * columns, 4)
        tensors["roi_heads.box_predictor.bbox_pred.bias"] = torch.rand(4 * columns)
    given = replace(narrow, arguments=narrow.arguments | {"num_classes": 90})
    coco = contiguous(given)
    assert coco.arguments["num_classes"] == 80
    first = coco.tensors[f"{layer}.bias"].unflatten(0, (groups, 81))[0]
    assert first[1:].tolist() == [float(i) for i in COCO_IDS]
    write_checkpoint(coco, tmp_path / "coco.pth", "torchvision", coco_ids=True)
    back = contiguous(open_checkpoint(f"torchvision:{tmp_path / 'coco.pth'}"))
    assert torch.equal(back.tensors[f"{layer}.weight"], coco.tensors[f"{layer}.weight"])


def test_only_torchvisions_detectors_have_cocos_identifiers() -> None:
    with pytest.raises(ValueError, match="student is limbeck's: only torchvision's detectors"):
        contiguous(detector())


# -- refusals leave nothing behind -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "name", "library", "message"),
    [
        (lambda: detector(), "model.pth.tar", "mmdetection", "mmdetection reads .pth. Give it"),
        (lambda: detector(), "model.pkl", "torchvision", "torchvision reads .pth or .pt or"),
        (
            lambda: replace(detector(), tensors=small_detector("RetinaNet", "mobilenet_v2")),
            "model.pkl",
            "detectron2",
            "detectron2 has no MobileNetV2",
        ),
        (lambda: trunk("mobilenet_v2"), "model.pkl", "detectron2", "detectron2 has no names for"),
        (
            lambda: detector(anchor_sizes=[[8, 80], *([16 * 2**k, 20 * 2**k] for k in range(4))]),
            "model.pth",
            "mmdetection",
            "mmdetection has the same scales on all levels",
        ),
    ],
)
def test_what_a_library_has_not_is_refused(
    tmp_path: Path, given: Any, name: str, library: Library, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_checkpoint(given(), tmp_path / name, library)
    assert list(tmp_path.iterdir()) == []
