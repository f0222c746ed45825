"""Files as models take them: whose they are, and what their weights need to be run as they were."""

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from limbeck.checkpoints import is_file_source, library_of, open_checkpoint
from limbeck.checkpoints.libraries import detectron2, mmdetection, torchvision
from tests.checkpoints.manifests import assert_same
from tests.checkpoints.narrow_tensors import small_detector
from tests.models.detection.published import file_of

CAFFE_STD = (1 / 255,) * 3
CONV1 = "backbone.body.conv1.weight"
CAFFE = {"mean": IMAGENET_DEFAULT_MEAN, "std": CAFFE_STD, "stride_in_1x1": True}
PYTORCH = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD, "stride_in_1x1": False}
D2_CONFIG = """\
MODEL:
  META_ARCHITECTURE: RetinaNet
  PIXEL_MEAN: [110.0, 120.0, 130.0]
  PIXEL_STD: [51.0, 102.0, 255.0]
  RESNETS: {DEPTH: 50, STRIDE_IN_1X1: false}
  ANCHOR_GENERATOR: {SIZES: [[8, 9], [16, 18], [32, 36], [64, 72], [128, 144]],
                     ASPECT_RATIOS: [[1.0, 2.0]]}
  RETINANET: {IN_FEATURES: [p3, p4, p5, p6, p7], SCORE_THRESH_TEST: 0.1}
INPUT: {FORMAT: RGB, MIN_SIZE_TEST: 640}
"""
MM_CONFIG = """\
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(type='ResNet', depth=50, style='caffe'),
    neck=dict(type='FPN', add_extra_convs='on_input'{relu}),
    test_cfg=dict(score_thr=0.3, max_per_img=7))
"""


def detectron2_file(folder: Path, backbone: str, *, bgr: bool = True, **arguments: Any) -> Path:
    ours = small_detector("RetinaNet", backbone, **arguments)
    ratios = len(arguments.get("aspect_ratios", (0.5, 1.0, 2.0)))
    theirs = detectron2.write(ours, bgr=bgr, ratios=ratios)
    return file_of(folder, "detectron2", theirs)


def mmdetection_file(folder: Path, kind: str = "RetinaNet", backbone: str = "resnet50") -> Path:
    theirs = mmdetection.write(small_detector(kind, backbone), bgr=False)
    return file_of(folder, "mmdetection", theirs)


def with_meta(file: Path, **meta: Any) -> Path:
    kept = torch.load(file, weights_only=True)
    torch.save(kept | {"meta": meta}, file)
    return file


def inputs(arguments: dict) -> dict:
    return {name: arguments[name] for name in PYTORCH}


def comparable(arguments: dict) -> dict:
    return {name: pytest.approx(value) for name, value in arguments.items()}


# -- the style of the trunk ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backbone", "before", "expected"),
    [
        ("resnet50", "", CAFFE),
        ("resnet50", "detectron2:", CAFFE),
        ("resnet50", "detectron2-pytorch:", PYTORCH),
        ("resnet18", "", PYTORCH),
        ("resnet18", "detectron2-caffe:", CAFFE | {"stride_in_1x1": False}),
    ],
)
def test_detectron2s_usual_style_and_the_one_that_is_said(
    tmp_path: Path, backbone: str, before: str, expected: dict
) -> None:
    bgr = expected["std"] == CAFFE_STD
    file = detectron2_file(tmp_path, backbone, bgr=bgr)
    found = open_checkpoint(f"{before}{file}")
    assert (found.library, found.kind) == ("detectron2", "RetinaNet")
    assert inputs(found.arguments) == expected
    assert found.arguments["preset"] == "detectron2"
    assert found.arguments["backbone"] == backbone
    assert torch.equal(found.tensors[CONV1], small_detector("RetinaNet", backbone)[CONV1])


@pytest.mark.parametrize(("before", "caffe"), [("", False), ("mmdetection-caffe:", True)])
def test_mmdetections_usual_style_and_the_one_that_is_said(
    tmp_path: Path, before: str, caffe: bool
) -> None:
    found = open_checkpoint(f"{before}{mmdetection_file(tmp_path)}")
    assert inputs(found.arguments) == (CAFFE if caffe else PYTORCH)
    own = small_detector("RetinaNet", "resnet50")[CONV1]
    assert torch.equal(found.tensors[CONV1], own.flip(1) if caffe else own)


def test_detectron2s_configuration_beside_the_file_goes_first(tmp_path: Path) -> None:
    shape = {"anchor_sizes": [[8, 9]] * 5, "aspect_ratios": [1.0, 2.0]}
    file = detectron2_file(tmp_path, "resnet50", bgr=False, **shape)
    (tmp_path / "config.yaml").write_text(D2_CONFIG)
    found = open_checkpoint(str(file))
    assert inputs(found.arguments) == comparable(
        {"mean": (110 / 255, 120 / 255, 130 / 255), "std": (0.2, 0.4, 1.0), "stride_in_1x1": False}
    )
    assert found.arguments["aspect_ratios"] == (1.0, 2.0)
    assert found.arguments["anchor_sizes"] == ((8, 9), (16, 18), (32, 36), (64, 72), (128, 144))
    assert found.test_arguments == {"min_size": 640, "score_threshold": 0.1}
    # The order of channels and anchors is the configuration's, too.
    assert_same(found.tensors, small_detector("RetinaNet", "resnet50", **shape))


def test_the_style_that_is_said_goes_before_the_configuration(tmp_path: Path) -> None:
    file = detectron2_file(tmp_path, "resnet50")
    (tmp_path / "config.yaml").write_text(D2_CONFIG.replace("[[1.0, 2.0]]", "[[0.5, 1.0, 2.0]]"))
    found = open_checkpoint(str(file), style="caffe")
    assert inputs(found.arguments) == CAFFE


def test_mean_and_deviation_in_detectron2s_older_files(tmp_path: Path) -> None:
    theirs = detectron2.write(small_detector("RetinaNet", "resnet50"), bgr=False)
    theirs["pixel_mean"] = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
    theirs["pixel_std"] = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
    file = file_of(tmp_path, "detectron2", theirs)
    found = open_checkpoint(str(file))
    assert inputs(found.arguments) == comparable(PYTORCH | {"stride_in_1x1": True})
    assert torch.equal(found.tensors[CONV1], theirs["backbone.bottom_up.stem.conv1.weight"])
    theirs |= {"pixel_mean": theirs["pixel_mean"].flip(0), "pixel_std": torch.ones(3, 1, 1)}
    found = open_checkpoint(str(file_of(tmp_path, "detectron2", theirs)))
    assert inputs(found.arguments) == comparable(CAFFE)
    flipped = theirs["backbone.bottom_up.stem.conv1.weight"].flip(1)
    assert torch.equal(found.tensors[CONV1], flipped)


def test_mmdetections_configuration_inside_the_file(tmp_path: Path) -> None:
    config = MM_CONFIG.format(relu="")
    meta = {"cfg": config, "dataset_meta": {"classes": ("cat", "dog", "cow")}}
    found = open_checkpoint(str(with_meta(mmdetection_file(tmp_path), **meta)))
    assert inputs(found.arguments) == comparable(CAFFE)
    assert found.classes == ("cat", "dog", "cow")
    assert found.test_arguments == {"score_threshold": 0.3, "detections_per_image": 7}


def test_the_relu_before_p7_is_what_the_configuration_says(tmp_path: Path) -> None:
    config = MM_CONFIG.format(relu=", relu_before_extra_convs=True")
    file = with_meta(mmdetection_file(tmp_path), cfg=config)
    assert open_checkpoint(str(file)).arguments["relu_before_p7"] is True


def test_a_file_of_mmdetection_1_is_refused(tmp_path: Path) -> None:
    file = with_meta(mmdetection_file(tmp_path), mmdet_version="1.2.0+abc")
    with pytest.raises(ValueError, match=r"mmdet_version is 1.2.0.*upgrade_model_version.py"):
        open_checkpoint(str(file))


def test_shapes_say_what_p6_is_computed_from_before_the_configuration(tmp_path: Path) -> None:
    file = detectron2_file(tmp_path, "resnet50", p6_from="P5")
    name = "MODEL:\n  BACKBONE: {NAME: build_retinanet_resnet_fpn_backbone}\n"
    (tmp_path / "config.yaml").write_text(name)  # which takes C5
    assert open_checkpoint(str(file)).arguments["p6_from"] == "P5"
    wide = detectron2_file(tmp_path, "resnet18", fpn_channels=512, bgr=False)
    assert open_checkpoint(str(wide)).arguments["p6_from"] == "C5"


# -- whose file it is ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RetinaNet", "FasterRCNN"])
def test_torchvisions_names_say_nothing_of_the_preset_until_the_library_is_said(
    tmp_path: Path, kind: str
) -> None:
    stock = small_detector(kind, "resnet18", preset="torchvision")
    file = tmp_path / "model.safetensors"
    save_file(stock, file)
    found = open_checkpoint(str(file))
    assert (found.library, found.kind, found.arguments) == ("torchvision", kind, {})
    said = open_checkpoint(f"torchvision:{file}")
    assert said.arguments["preset"] == "torchvision"
    assert said.arguments["num_classes"] == 3
    assert_same(said.tensors, stock)


@pytest.mark.parametrize(
    ("library", "other"), [("detectron2", "mmdetection"), ("mmdetection", "torchvision")]
)
def test_a_library_that_is_not_the_files_is_refused(
    tmp_path: Path, library: str, other: str
) -> None:
    make = {"detectron2": lambda f: detectron2_file(f, "resnet18"), "mmdetection": mmdetection_file}
    file = make[library](tmp_path)
    with pytest.raises(ValueError, match=rf"read as {other}'s: its names are {library}'s"):
        open_checkpoint(f"{other}:{file}")


def test_a_trunk_of_detectron2_is_not_taken_for_mmdetections(tmp_path: Path) -> None:
    whole = detectron2.write(small_detector("RetinaNet", "resnet50"), bgr=True)
    prefix = "backbone.bottom_up."
    trunk = {k.removeprefix(prefix): v for k, v in whole.items() if k.startswith(prefix)}
    file = file_of(tmp_path, "detectron2", trunk)
    found = open_checkpoint(str(file))
    assert (found.kind, found.library, found.arguments) == ("trunk", "detectron2", CAFFE)
    with pytest.raises(ValueError, match="its names are detectron2's"):
        open_checkpoint(f"mmdetection:{file}")


def test_torchvisions_names_of_a_trunk_may_be_mmdetections(tmp_path: Path) -> None:
    body = small_detector("RetinaNet", "resnet50")
    prefix = "backbone.body."
    trunk = {k.removeprefix(prefix): v for k, v in body.items() if k.startswith(prefix)}
    file = file_of(tmp_path, "mmdetection", trunk)
    assert open_checkpoint(str(file)).arguments == {}
    found = open_checkpoint(f"mmdetection-caffe:{file}")
    assert (found.kind, found.arguments) == ("trunk", CAFFE)
    assert torch.equal(found.tensors["conv1.weight"], trunk["conv1.weight"].flip(1))


def test_other_heads_are_refused_by_name(tmp_path: Path) -> None:
    theirs = detectron2.write(small_detector("FasterRCNN", "resnet18"), bgr=False)
    theirs["roi_heads.mask_head.mask_fcn1.weight"] = torch.zeros(1)
    file = file_of(tmp_path, "detectron2", theirs)
    with pytest.raises(
        ValueError, match=r"pkl, read as detectron2's: 1 of 131(.|\n)*mask_head.mask_fcn1"
    ):
        open_checkpoint(str(file))


def test_a_folder_and_what_does_not_exist_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is a folder\. Name the file"):
        open_checkpoint(f"detectron2:{tmp_path}")
    with pytest.raises(FileNotFoundError, match="there is no such file or folder"):
        open_checkpoint("detectron2:nowhere.pkl")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("torchvision:DEFAULT", False),
        ("torchvision:ResNet18_Weights.IMAGENET1K_V1", False),
        ("timm:resnet18.a1_in1k", False),
        ("torchvision:model.pth", True),
        ("detectron2-pytorch:model.pkl", True),
        ("https://example.org/model.pth", True),
        ("runs/student", True),
    ],
)
def test_sources_of_files(source: str, expected: bool) -> None:
    assert is_file_source(source) is expected


def test_names_of_nobody() -> None:
    assert library_of({"weight": torch.zeros(1)}) is None


# -- values ----------------------------------------------------------------------------------------


def test_published_files_of_torchvision_without_eps_are_known_by_their_checksum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock = small_detector("FasterRCNN", "resnet18", preset="torchvision")
    stock = {k: v / v.numel() if v.is_floating_point() else v for k, v in stock.items()}
    file = tmp_path / "renamed.safetensors"
    save_file(stock, file)
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()[:8]
    assert_same(open_checkpoint(str(file)).tensors, stock)
    url = f"https://example.org/fasterrcnn-{checksum}.pth"
    monkeypatch.setattr(torchvision, "WITHOUT_EPS", (SimpleNamespace(url=url),))
    found = open_checkpoint(str(file)).tensors
    norm = "backbone.body.bn1."
    assert torch.equal(found[f"{norm}running_var"], stock[f"{norm}running_var"])
    ours = found[f"{norm}weight"] / (found[f"{norm}running_var"] + 1e-5).sqrt()
    theirs = stock[f"{norm}weight"] / stock[f"{norm}running_var"].sqrt()
    torch.testing.assert_close(ours, theirs)
    assert not torch.equal(found[f"{norm}weight"], stock[f"{norm}weight"])


def test_files_of_torchvision_may_have_older_names(tmp_path: Path) -> None:
    stock = small_detector("RetinaNet", "resnet18", preset="torchvision")
    older = {name.replace("_blocks.0.0.", "_blocks.0."): value for name, value in stock.items()}
    assert older.keys() != stock.keys()
    save_file(older, tmp_path / "older.safetensors")
    assert_same(torchvision.up_to_date(older), stock)
    found = open_checkpoint(f"torchvision:{tmp_path / 'older.safetensors'}")
    assert found.arguments["num_classes"] == 3
