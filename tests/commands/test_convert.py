"""``limbeck convert``, on detectors with few channels and images of a hundred pixels."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from limbeck.checkpoints.libraries import fgfi
from limbeck.models import (
    FCOS,
    GFL,
    SSD,
    BasicBlocks,
    Classifier,
    FasterRCNN,
    FasterRCNNC4,
    RetinaNet,
    save_student,
)
from limbeck.models.loading import read_student
from tests.checkpoints.libraries.darknet_files import header
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs
from tests.models.detection.c4.plain_original import original_tensors
from tests.models.detection.published import file_of
from tests.models.lively_weights import with_lively_heads

pytestmark = pytest.mark.usefixtures("narrow_resnets")

CLASSES = ["cat", "dog", "cow"]
SIZES = {"min_size": 96, "max_size": 160, "fpn_channels": 8}
CAFFE_STD = (1 / 255,) * 3


def student(folder: str, model: nn.Module) -> Path:
    save_student(with_lively_heads(model), folder, classes=CLASSES)
    return Path(folder)


def retinanet(backbone: str = "resnet18", **arguments: Any) -> RetinaNet:
    return RetinaNet(backbone, 3, **({"head_depth": 1} | SIZES | arguments))


def gfl(**arguments: Any) -> GFL:
    return GFL("resnet18", 3, **({"head_depth": 1} | SIZES | {"fpn_channels": 32} | arguments))


def faster_rcnn(backbone: str = "resnet18", **arguments: Any) -> FasterRCNN:
    return FasterRCNN(backbone, 3, **({"box_head_channels": 8} | SIZES | arguments))


@pytest.fixture
def image() -> Path:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (96, 128, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save("image.png")
    return Path("image.png")


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("convert", *words)
    assert end.value.code == 1
    return capsys.readouterr().err


def card(folder: str | Path) -> dict[str, Any]:
    return json.loads((Path(folder) / "student.json").read_text())


def cells(output: str) -> dict[str, list[str]]:
    """Of the table of differences, by the first one of their row."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in output.splitlines()]
    return {row[0]: row[1:] for row in rows if row}


# -- there and back --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "library", "target"),
    [
        (
            lambda: retinanet(
                preset="detectron2",
                anchor_sizes=[[20.5 * 2**k, 30 * 2**k] for k in range(5)],
                aspect_ratios=[1.0, 2.0],
                score_threshold=0.2,
                nms_threshold=0.6,
                detections_per_image=7,
            ),
            "detectron2",
            "m.pkl",
        ),
        (
            lambda: retinanet(
                preset="mmdetection",
                levels=(3, 5),
                anchor_sizes=[[24.0 * 2**k] for k in range(3)],
                aspect_ratios=[0.5, 1.0],
                score_threshold=0.2,
                detections_per_image=7,
            ),
            "mmdetection",
            "m.pth",
        ),
        (
            lambda: faster_rcnn(
                preset="detectron2",
                std=CAFFE_STD,
                mean=(0.4, 0.45, 0.5),
                nms_threshold=0.4,
                anchor_sizes=[[16.0 * 2**k] for k in range(5)],
            ),
            "detectron2",
            "m.pth",
        ),
        (
            lambda: faster_rcnn("mobilenet_v2", preset="mmdetection", score_threshold=0.1),
            "mmdetection",
            "m.pth",
        ),
        (lambda: retinanet(preset="detectron2", levels=(3, 4)), "detectron2", "m.pkl"),
        (lambda: gfl(std=CAFFE_STD, score_threshold=0.1), "mmdetection", "m.pth"),
    ],
    ids=["retinanet-d2", "retinanet-mm", "faster-rcnn-d2", "faster-rcnn-mm", "two-levels", "gfl"],
)
def test_a_student_goes_to_a_library_and_comes_back(
    model: Any, library: str, target: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = student("first", model())
    tiny_recipes.limbeck("convert", first, target, "--to", library)
    out = said(capsys)
    assert f"limbeck -> {library}: {target}, m.{'yaml' if library == 'detectron2' else 'py'}" in out
    assert " is " not in out  # the same numerics: nothing differs
    tiny_recipes.limbeck("convert", target, "back")
    assert f"{library} -> limbeck: back" in said(capsys)
    before, after = card(first), card("back")
    # detectron2 has no place for names of classes.
    assert after["classes"] == (CLASSES if library == "mmdetection" else [])
    given, found = before["build"]["init_args"], after["build"]["init_args"]
    assert (found["min_size"], found["max_size"]) == (96, 160)
    for name, value in given.items():
        if value is not None:  # what was left to the preset may be said now
            assert found[name] == (pytest.approx(value) if name in ("mean", "std") else value), name
    tensors, others = (
        load_file(first / "student.safetensors"),
        load_file("back/student.safetensors"),
    )
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        if name.startswith("roi_heads.box_predictor.bbox_pred"):
            value[:4] = 0  # the background's boxes, which are never used
        assert torch.equal(value, others[name]) or name == "loss_normaliser", name


@pytest.mark.parametrize("library", ["detectron2", "mmdetection"])
def test_a_librarys_file_by_way_of_torchvisions_names(
    library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = {"detectron2": ".pkl", "mmdetection": ".pth"}[library]
    student("student", faster_rcnn(preset=library))
    tiny_recipes.limbeck("convert", "student", f"first{suffix}", "--to", library)
    tiny_recipes.limbeck("convert", f"first{suffix}", "stock.safetensors")
    assert "FasterRCNN, " + library + " -> torchvision: stock.safetensors" in said(capsys)
    tiny_recipes.limbeck("convert", "stock.safetensors", f"back{suffix}", "--to", library)
    assert f"torchvision -> {library}" in said(capsys)
    first, back = (tiny_tensors(Path(f"{name}{suffix}"), library) for name in ("first", "back"))
    assert first.keys() == back.keys()
    assert all(torch.equal(value, back[name]) for name, value in first.items())


def tiny_tensors(file: Path, library: str) -> dict[str, torch.Tensor]:
    if library == "detectron2":
        arrays = pickle.loads(file.read_bytes())["model"]
        return {name: torch.from_numpy(value) for name, value in arrays.items()}
    return torch.load(file, weights_only=True)["state_dict"]


def test_a_gfl_gives_its_outputs_under_mmdetections_names(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_student(with_lively_heads(gfl()), "ours")
    tiny_recipes.limbeck("convert", "ours", "theirs.pth", "--to", "mmdetection", "--check", image)
    found, others = cells(said(capsys))["detections"]
    count = found.partition(" ")[0]
    assert int(count) > 5
    assert (found, others) == (f"{count} of {count} found", f"{count} there")
    assert "torchvision has none" in refused(capsys, "ours", "x.pth", "--to", "torchvision")
    weights = "ours/student.safetensors"
    assert "Give the student's folder" in refused(capsys, weights, "x.pth", "--to", "mmdetection")


# -- the check -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["align", "crop", "pool"])
def test_a_file_of_fine_grained_feature_imitation(
    pooling: str, image: Path, narrow_vggs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = original_tensors("vgg11", 3, 32)
    torch.save({"model": tensors, "pooling_mode": pooling, "class_agnostic": False}, "theirs.pth")
    tiny_recipes.limbeck("convert", "theirs.pth", "ours")
    assert card("ours")["build"]["class_path"] == "limbeck.models.FasterRCNNC4"
    capsys.readouterr()
    tiny_recipes.limbeck("convert", "ours", "back.pth", "--to", "fgfi", "--check", image)
    found = cells(said(capsys))
    assert float(found["RoI class logits"][0]) == 0
    back = torch.load("back.pth")
    assert back["pooling_mode"] == pooling
    assert all(torch.equal(value, tensors[name]) for name, value in back["model"].items())
    assert "torchvision has none" in refused(capsys, "ours", "x.pth", "--to", "torchvision")


def test_what_the_original_has_to_be_told_is_said(
    image: Path, narrow_vggs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files hold no anchors: with its own, the same weights find other boxes."""
    anchors = {"anchor_sizes": ((32, 64),), "aspect_ratios": (1.0,)}
    given = {"preset": "fgfi", "mean": fgfi.MEAN, "std": fgfi.STD, "min_size": 96}
    save_student(with_lively_heads(FasterRCNNC4("vgg11", 3, **given, **anchors)), "ours")
    tiny_recipes.limbeck("convert", "ours", "theirs.pth", "--to", "fgfi", "--check", image)
    output = said(capsys)
    told = "anchor_sizes=[[32, 64]], aspect_ratios=[1.0], min_size=96"
    assert f"fgfi has to be told: {told}" in output
    assert cells(output)["detections"] == ["34 of 34 found", "34 there"]


@pytest.mark.parametrize("kind", [retinanet, faster_rcnn])
@pytest.mark.parametrize(
    ("preset", "target"),
    [("detectron2", "m.pkl"), ("mmdetection", "m.pth"), ("torchvision", "m.safetensors")],
)
def test_the_check_finds_the_same_outputs(
    kind: Any, preset: str, target: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student("student", kind(preset=preset, score_threshold=0.1))
    tiny_recipes.limbeck("convert", "student", target, "--to", preset, "--check", image)
    found = cells(said(capsys))
    outputs = {
        retinanet: ["class logits", "box deltas"],
        faster_rcnn: ["RPN logits", "RPN deltas", "RoI class logits", "RoI box deltas"],
    }[kind]
    assert list(found) == [*outputs, "detections"]
    assert all(found[name][0] == "0.00e+00" for name in outputs)
    count = found["detections"][1].partition(" ")[0]
    assert found["detections"] == [f"{count} of {count} found", f"{count} there"]
    assert int(count) > 0


@pytest.mark.slow
def test_the_check_of_weights_of_msra_in_torchvision(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = retinanet("resnet50", preset="detectron2", std=CAFFE_STD, stride_in_1x1=True)
    student("student", model)
    tiny_recipes.limbeck("convert", "student", "m.pkl")
    tiny_recipes.limbeck("convert", "m.pkl", "stock.pth", "--to", "torchvision", "--check", image)
    out = said(capsys)
    told = "stride_in_1x1=True, min_size=96, max_size=160, detections_per_image=100"
    assert f"  torchvision has to be told: {told}\n" in out
    assert "  antialias is True in detectron2, False in torchvision\n" in out
    found = cells(out)
    # The standard deviation was folded into the first convolution.
    assert 0 < float(found["class logits"][0]) < 1e-5 * float(found["class logits"][1])


@pytest.mark.parametrize(
    ("model", "library", "reason", "outputs"),
    [
        (
            lambda: retinanet(preset="mmdetection"),
            "detectron2",
            "relu_before_p7 is False in mmdetection, True in detectron2",
            "class logits, box deltas",
        ),
        (
            lambda: faster_rcnn(preset="detectron2"),
            "torchvision",
            "roi_aligned is True in detectron2, False in torchvision",
            "RoI class logits, RoI box deltas",
        ),
    ],
    ids=["retinanet", "faster-rcnn"],
)
def test_the_check_fails_where_the_other_library_has_other_numerics(
    model: Any,
    library: str,
    reason: str,
    outputs: str,
    image: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    student("student", model())
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("convert", "student", "m.pth", "--to", library, "--check", image)
    out, err = capsys.readouterr()
    assert end.value.code == 1
    assert f"ERROR {outputs} differ: what was written gives other outputs." in err
    assert f"  {reason}\n" in out
    assert Path("m.pth").is_file()


@pytest.mark.parametrize("library", ["detectron2", "mmdetection"])
@pytest.mark.parametrize("model", [retinanet, faster_rcnn])
def test_what_the_configuration_says_of_a_student_of_torchvisions_preset(
    model: Any, library: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student("student", model())
    tiny_recipes.limbeck("convert", "student", "m.pth", "--to", library, "--check", image)
    found = cells(said(capsys))  # RoIAlign, and the ReLU before P7
    assert all(
        float(row[0]) == 0 for name, row in found.items() if name.endswith("s") and "." in row[0]
    )


def test_the_check_of_a_classifier(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    student("student", Classifier("resnet18", 3))
    tiny_recipes.limbeck("convert", "student", "m.pth", "--to", "mmdetection", "--check", image)
    out = said(capsys)
    assert "the trunk is of the style pytorch, which its file does not say" in out
    assert cells(out)["logits"][0] == "0.00e+00"


def test_nothing_is_written_where_the_image_of_the_check_cannot_be_read(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    student("student", Classifier("mobilenet_v2", num_classes=3))
    image.write_bytes(image.read_bytes()[:100])
    err = refused(capsys, "student", "m.pth", "--to", "mmdetection", "--check", image)
    assert f"{image}: not a readable image" in err
    assert not Path("m.pth").exists()


def test_a_trunk_of_a_library_cannot_be_checked_and_nothing_is_written(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), "trunk.pth")
    err = refused(capsys, "trunk.pth", "trunk.pkl", "--check", image)
    assert "trunk.pth is a trunk or classifier, and its file does not say how it is built" in err
    assert not Path("trunk.pkl").exists()
    tiny_recipes.limbeck("convert", "trunk.pth", "trunk.pkl")
    assert "trunk, torchvision -> detectron2: trunk.pkl" in said(capsys)


# -- COCO ------------------------------------------------------------------------------------------


def test_cocos_91_identifiers_become_80_classes(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = FasterRCNN("resnet18", 90, box_head_channels=8, **SIZES)
    torch.save(with_lively_heads(model).state_dict(), "coco.pth")
    tiny_recipes.limbeck("convert", "coco.pth", "coco.pkl", "--coco_ids", "true")
    found = tiny_tensors(Path("coco.pkl"), "detectron2")
    assert len(found["roi_heads.box_predictor.cls_score.bias"]) == 81
    save_student(model, "student")
    tiny_recipes.limbeck("convert", "student", "80", "--coco_ids", "true", "--check", image)
    assert card("80")["build"]["init_args"]["num_classes"] == 80
    tiny_recipes.limbeck(
        "convert", "80", "91.pth", "--to", "torchvision", "--coco_ids", "true", "--check", image
    )
    back = torch.load("91.pth", weights_only=True)["roi_heads.box_predictor.cls_score.bias"]
    assert torch.equal(back[1:12], model.roi_heads.box_predictor.cls_score.bias[1:12])
    assert back[12] == -100  # a street sign, which no image shows


def test_an_fcos_goes_to_torchvision_to_80_classes_and_back(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = SIZES | {"fpn_channels": 32, "head_depth": 2}
    model = with_lively_heads(FCOS("resnet18", 90, **arguments, score_threshold=0.05))
    save_student(model, "student")
    to = ("--to", "torchvision")
    tiny_recipes.limbeck("convert", "student", "91.pth", *to, "--check", image)
    told = said(capsys)
    assert "torchvision has to be told: min_size=96, max_size=160, score_threshold=0.05" in told
    back = FCOS("resnet18", 90, weights="torchvision:91.pth", **arguments)
    assert all(torch.equal(back.state_dict()[n], v) for n, v in model.state_dict().items())
    tiny_recipes.limbeck("inspect", "91.pth")
    assert "FCOS" in said(capsys)
    tiny_recipes.limbeck("convert", "student", "80", "--coco_ids", "true", "--check", image)
    assert card("80")["build"]["init_args"]["num_classes"] == 80
    assert "is of the kind FCOS, and detectron2 has none" in refused(capsys, "80", "80.pkl")


def test_an_ssd_of_coco_goes_to_80_classes_and_back(
    image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = with_lively_heads(
        SSD("resnet18", 90, image_size=(64, 96), levels=(4, 6), extra_channels=(8,))
    )
    save_student(model, "student")
    tiny_recipes.limbeck("convert", "student", "80", "--coco_ids", "true", "--check", image)
    assert card("80")["build"]["init_args"]["num_classes"] == 80
    back = ("--to", "torchvision", "--coco_ids", "true", "--check", image)
    tiny_recipes.limbeck("convert", "80", "91.pth", *back)
    assert "torchvision has to be told: image_size=[64, 96]" in said(capsys)
    place = "head.classification_head.module_list.2.bias"
    bias = torch.load("91.pth", weights_only=True)[place].view(6, 91)
    assert torch.equal(bias[:, 1:12], model.state_dict()[place].view(6, 91)[:, 1:12])
    assert (bias[:, 12] == -100).all()  # a street sign, which no image shows
    assert "is of the kind SSD, and detectron2 has none" in refused(capsys, "80", "80.pkl")


# -- formats and refusals --------------------------------------------------------------------------


def test_what_a_file_of_limbecks_training_is_not_said_to_be(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    err = refused(capsys, runs.teacher / "checkpoints" / "last.ckpt", "m.safetensors")
    assert "last.ckpt is a checkpoint of limbeck's training" in err
    assert "Convert the run's folder student/." in err
    assert (runs.teacher / "student" / "student.json").is_file()


def test_a_format_that_the_suffix_does_not_tell(capsys: pytest.CaptureFixture[str]) -> None:
    student("student", retinanet())
    err = refused(capsys, "student", "m.pth")
    assert "m.pth: the suffix .pth does not say one format" in err


def test_nothing_that_is_there_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    student("student", retinanet())
    Path("m.yaml").write_text("a recipe")
    assert "m.yaml is there, and would be replaced" in refused(capsys, "student", "m.pkl")
    assert Path("m.yaml").read_text() == "a recipe"
    Path("m.safetensors").touch()
    assert "m.safetensors is there" in refused(capsys, "student", "m.safetensors")
    assert "Expected a new folder" in refused(capsys, "student", "student")


def test_a_network_that_no_library_has(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = BasicBlocks((1, 1, 1), (4, 8, 8))
    student("student", RetinaNet(blocks, 3, levels=(3, 4), **SIZES))
    assert "no other library has it" in refused(capsys, "student", "m.pkl")
    assert not Path("m.pkl").exists()
    tiny_recipes.limbeck("convert", "student", "m.safetensors")
    assert load_file("m.safetensors").keys() == read_student("student")[1].keys()


def test_a_network_of_timms_is_torchvisions_alone(capsys: pytest.CaptureFixture[str]) -> None:
    student("student", RetinaNet("timm:test_resnet", 3, levels=(3, 4), **SIZES))
    for target in (["m.pkl"], ["m.pth", "--to", "mmdetection"]):
        assert "has no files of detectors on timm's networks" in refused(capsys, "student", *target)
    tiny_recipes.limbeck("convert", "student", "m.safetensors")
    assert load_file("m.safetensors").keys() == read_student("student")[1].keys()


def test_a_student_of_another_network_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    student("student", retinanet())
    changed = card("student")
    changed["build"]["class_path"] = "torchvision.models.resnet18"
    Path("student/student.json").write_text(json.dumps(changed))
    assert "was built by torchvision.models.resnet18" in refused(capsys, "student", "m.pkl")


def test_what_is_no_student_is_not_read_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.ones(1)}, "m.pth")
    assert "m.pth holds no student" in refused(capsys, "m.pth", "m.pkl", "--from", "limbeck")


def test_a_library_that_the_file_is_not_of(capsys: pytest.CaptureFixture[str]) -> None:
    student("student", retinanet(preset="detectron2"))
    tiny_recipes.limbeck("convert", "student", "m.pkl")
    err = refused(capsys, "m.pkl", "back", "--from", "mmdetection")
    assert "m.pkl, read as mmdetection's: its names are detectron2's" in err


class _Bomb:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('the code of the file was run')",))


def test_a_file_that_holds_code_or_is_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.pkl").write_bytes(pickle.dumps({"model": {}, "more": _Bomb()}))
    err = refused(capsys, "bad.pkl", "out")
    assert "bad.pkl cannot be read as weights: it asks for " in err
    whole = file_of(Path(), "mmdetection", retinanet().state_dict())
    Path("cut.pth").write_bytes(whole.read_bytes()[:2000])
    assert "cut.pth cannot be read as weights: it is cut off" in refused(capsys, "cut.pth", "out")
    assert not Path("out").exists()


def test_a_file_of_darknets(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.weights").write_bytes(header() + bytes(400))
    err = refused(capsys, "a.weights", "out")
    assert "a.weights is a file of darknet's, which does not say of what network" in err
    assert "YOLOv2(1.0, num_classes=..., weights='a.weights')" in err
