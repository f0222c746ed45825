import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from limbeck import Taps
from limbeck.checkpoints.libraries import detectron2, mmdetection
from limbeck.commands.inspect import landmark_table, models_in, models_of
from limbeck.models import SSD, BasicBlocks, RetinaNet, load_student, save_student
from tests import small_models
from tests.checkpoints.libraries.darknet_files import header
from tests.checkpoints.narrow_tensors import small_detector
from tests.commands import tiny_recipes
from tests.commands.conftest import Runs
from tests.models.detection.c4.plain_original import original_tensors
from tests.models.detection.published import file_of

# One block a stage, strides of 4, 8 and 16, and a pyramid of 16 channels on the last two.
AT_64_PX = {
    "C2": ["backbone.body.layer1", "tensor", "1x8x16x16", "4"],
    "C4.pre": ["backbone.body.layer3.0.relu:input", "tensor", "1x16x4x4", "16"],
    "P3": ["backbone/0", "tensor", "1x16x8x8", "8"],
    "fpn": ["backbone", "levels", "1x16x8x8 1x16x4x4", "8 16"],
    "cls_tower": ["head.classification_head.conv[*]", "levels", "1x16x8x8 1x16x4x4", "8 16"],
    "box_maps": ["head.regression_head.bbox_reg[*]", "levels", "1x8x8x8 1x8x4x4", "8 16"],
    # Paths, with the module's class and its calls.
    "backbone.body.layer2": ["Sequential", "1", "1x8x8x8", "8"],
    "head.regression_head.bbox_reg": ["Conv2d", "2", "1x8x4x4", "16"],
}


def shown(capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """Cells by the first one of their row."""
    lines = capsys.readouterr().out.splitlines()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
    return {row[0]: row[1:] for row in cells}


def folded(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """A table of two columns; the lines of a cell are one."""
    rows: dict[str, str] = {}
    name = ""
    for line in capsys.readouterr().out.splitlines():
        cells = [cell.strip() for cell in line.split("│")[1:-1]]
        if len(cells) == 2:
            name = cells[0] or name
            rows[name] = f"{rows[name]} {cells[1]}" if name in rows else cells[1]
    return rows


@pytest.mark.parametrize("target", ["recipe", "exported"])
def test_landmarks_and_paths_with_shapes_and_strides(
    target: str, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    place = runs.recipe("plain") if target == "recipe" else runs.teacher / "student"
    tiny_recipes.limbeck("inspect", place, "--size", "[64,64]")
    found = shown(capsys)
    assert {name: found[name] for name in AT_64_PX} == AT_64_PX


def test_a_detector_on_a_network_of_timms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_student(RetinaNet("timm:test_vit", 2, fpn_channels=8, head_depth=1), tmp_path)
    tiny_recipes.limbeck("inspect", tmp_path, "--size", "[64,64]")
    found = shown(capsys)
    assert found["C4"] == ["backbone.body/0", "tensor", "1x64x4x4", "16"]
    assert found["P3"] == ["backbone/0", "tensor", "1x8x8x8", "8"]
    assert found["P7"] == ["backbone/p7", "tensor", "1x8x1x1", "64"]


def test_a_recipe_s_teacher_is_shown_too(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_recipes.limbeck("inspect", runs.recipe("taught"), "--size", "[64,64]", "--depth", 1)
    said = capsys.readouterr().out
    assert "teacher: landmarks" in said
    assert "student: landmarks" not in said  # an overlay states no student


def test_every_path_can_be_tapped(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_recipes.limbeck("inspect", runs.teacher / "student", "--size", "[64,64]")
    model = load_student(runs.teacher / "student")
    paths = [n for n, cells in shown(capsys).items() if len(cells) == 4 and cells[1].isdigit()]
    assert len(paths) > 20
    with Taps(model, paths) as seen:
        model([torch.zeros(3, 64, 64)])
    assert [path for path in paths if seen[path] is None] == []


def test_depth_limits_the_paths(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_recipes.limbeck("inspect", runs.teacher / "student", "--size", "[64,64]", "--depth", 2)
    found = shown(capsys)
    assert "backbone.fpn" in found
    assert "backbone.body.layer2" not in found


@pytest.mark.parametrize(
    ("name", "landmark", "shape"),
    [
        ("resnet18", "C5", "1x512x2x2"),
        ("torchvision:resnet18", "logits", "1x1000"),
        ("timm:mobilenetv3_small_050", "C4", "1x24x4x4"),
    ],
)
def test_a_model_by_name(
    name: str, landmark: str, shape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_recipes.limbeck("inspect", name, "--size", "[64,64]")
    assert shape in shown(capsys)[landmark]


def test_a_classifier_of_one_image_size_is_shown_at_that(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_recipes.limbeck("inspect", "timm:vit_tiny_patch16_224", "--depth", "1")
    assert shown(capsys)["patch_embed"] == ["PatchEmbed", "1", "1x196x192", ""]


def test_regions_have_no_stride() -> None:
    table = landmark_table(small_models.faster_rcnn(), (64, 64), "")
    names, *_, strides = ([str(cell) for cell in column.cells] for column in table.columns)
    found = dict(zip(names, strides, strict=True))
    assert (found["P2"], found["roi_features"]) == ("4", "")


def test_a_detector_of_one_image_size_is_shown_at_that(capsys: pytest.CaptureFixture[str]) -> None:
    """An SSD300 takes no image of 256 pixels."""
    shape = BasicBlocks((1, 1, 1, 1), (4, 4, 8, 8))
    save_student(SSD(shape, 2, image_size=(96, 160), levels=(3, 6)), "ssd")
    tiny_recipes.limbeck("inspect", "ssd")
    assert "1x4x12x20" in shown(capsys)["C3"]


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_weights_file(suffix: str, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    path = runs.teacher / "student" / "student.safetensors"
    state = load_file(path)
    if suffix == ".pth":
        path = Path("weights.pth")
        torch.save({"model": state}, path)
    tiny_recipes.limbeck("inspect", path)
    said = capsys.readouterr().out
    count = sum(tensor.numel() for tensor in state.values())
    assert f"{len(state)} tensors, {count / 1e6:.2f} M values" in said
    table = said.partition("tensors, ")[2]
    assert table.count("│") == 4 * len(state)
    assert "│ head.regression_head.bbox_reg.weight" in said
    assert "│ 8x16x3x3  │ float32 │" in said


@pytest.mark.parametrize(
    ("kind", "library", "told"),
    [
        ("RetinaNet", "detectron2", "head_depth=4, p6_from=C5, preset=detectron2"),
        ("FasterRCNN", "mmdetection", "box_head_channels=64, preset=mmdetection"),
        ("RetinaNet", "torchvision", "head_depth=4, p6_from=P5, preset=torchvision"),
    ],
)
def test_a_detector_of_a_library(
    kind: str, library: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = small_detector(kind, "resnet18", preset=library)
    if library != "torchvision":
        table = {"detectron2": detectron2, "mmdetection": mmdetection}[library]
        path = file_of(Path(), library, table.write(tensors, bgr=False))
    else:
        path = Path("stock.pth")
        torch.save(tensors, path)
    tiny_recipes.limbeck("inspect", path)
    rows = folded(capsys)
    names = library if library != "torchvision" else "torchvision, or of a network of its own"
    assert rows["names of"] == names
    assert rows["network"] == kind
    stated = rows[f"as {library}'s"]
    assert "backbone=resnet18, " in stated
    assert "num_classes=3, " in stated
    assert told in stated


def test_classes_metadata_and_what_else_a_file_holds(capsys: pytest.CaptureFixture[str]) -> None:
    weights = mmdetection.write(small_detector("RetinaNet", "resnet18"), bgr=False)
    path = file_of(Path(), "mmdetection", weights)
    kept = torch.load(path, weights_only=True)
    meta = kept["meta"] | {"dataset_meta": {"classes": ("cat", "dog", "cow")}}
    average = {name: value + 1 for name, value in weights.items()}
    more = {"meta": meta, "ema_state_dict": average, "optimizer": {"state": {}}}
    torch.save(kept | more, path)
    tiny_recipes.limbeck("inspect", path)
    found = shown(capsys)
    assert found["kept under"] == ["state_dict"]
    assert found["others in the file"] == ["ema_state_dict"]
    assert found["classes"] == ["cat, dog, cow"]
    assert found["left out"] == ["optimizer"]
    assert "'mmdet_version': '3.3.0'" in found["metadata: meta"][0]


def test_a_trunk_with_its_name_and_input(capsys: pytest.CaptureFixture[str]) -> None:
    body = detectron2.write(small_detector("RetinaNet", "resnet50"), bgr=True)
    prefix = "backbone.bottom_up."
    trunk = {k.removeprefix(prefix): v for k, v in body.items() if k.startswith(prefix)}
    tiny_recipes.limbeck("inspect", file_of(Path(), "detectron2", trunk))
    found = shown(capsys)
    assert (found["names of"], found["network"]) == (["detectron2"], ["trunk"])
    assert found["as detectron2's"][0].startswith("backbone=resnet50, mean=(0.485, 0.456, 0.406)")


def test_a_detector_that_limbeck_has_not_is_shown_with_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = detectron2.write(small_detector("FasterRCNN", "resnet18"), bgr=False)
    weights["roi_heads.mask_head.mask_fcn1.weight"] = torch.zeros(1)
    tiny_recipes.limbeck("inspect", file_of(Path(), "detectron2", weights))
    said = capsys.readouterr().out
    assert "not one of limbeck's: model_final.pkl, read as detectron2's: 1 of 131 tensors" in said
    assert "roi_heads.mask_head.mask_fcn1.weight" in said


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("resnet19", "torchvision has no model of that name"),
        ("timm:resnet19", "timm has no model of that name"),
        ("missing.pth", "missing.pth does not exist"),
        ("missing.yaml", "missing.yaml does not exist"),
        (
            "vit_b_16 --size [256,256]",
            "does not take an image of 256 x 256 px (Wrong image height! Expected 224",
        ),
    ],
)
def test_what_cannot_be_inspected_is_refused_with_the_reason(
    target: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("inspect", *target.split())
    assert end.value.code == 1
    assert message in capsys.readouterr().err


def test_a_detector_of_fine_grained_feature_imitation(
    narrow_vggs: None, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {"session": 1, "epoch": 8, "pooling_mode": "align", "class_agnostic": True}
    tensors = original_tensors("vgg16", 20, 32, agnostic=True)
    torch.save(held | {"model": tensors, "optimizer": {}}, "faster_rcnn_1_7_10021.pth")
    tiny_recipes.limbeck("inspect", "faster_rcnn_1_7_10021.pth")
    rows = folded(capsys)
    assert rows["names of"] == "fgfi"
    assert rows["network"] == "FasterRCNNC4"
    assert "backbone=vgg16, num_classes=20, preset=fgfi, pooling=align" in rows["as fgfi's"]
    assert "class_agnostic=True, " in rows["as fgfi's"]


def test_a_file_of_darknets(capsys: pytest.CaptureFixture[str]) -> None:
    """It has no names; the length tells what it may be of."""
    path = Path("darknet19_448.conv.23")
    path.write_bytes(header(seen=1234))
    os.truncate(path, 20 + 4 * 19_831_776)
    tiny_recipes.limbeck("inspect", path)
    found = folded(capsys)
    assert found["numbers"] == "19,831,776"
    assert found["images seen"] == "1,234"
    assert found["network"] == "the trunk of Darknet-19: 18 convolutions of width 1"


def test_a_file_of_darknets_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("inspect", "darknet19_448.conv.23")
    assert "darknet19_448.conv.23 does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "1: 2\nmodel: {3: 4}\n",
            r"recipe\.yaml has neither model\.student nor model\.teacher",
        ),
        ("just a text\n", r"recipe\.yaml: the recipe is a str; expected a mapping"),
        ("model: &a {student: *a}\n", r"recipe\.yaml contains itself"),
        ("model: [\n", r"recipe\.yaml is no YAML"),
    ],
)
def test_recipes_without_models_are_told(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        models_in(tmp_path / "recipe.yaml")


def test_a_library_that_is_not_known_is_not_taken_for_torchvision() -> None:
    with pytest.raises(ValueError, match="'tim:resnet18' is no recipe"):
        models_of("tim:resnet18")


def test_the_folder_of_a_run_has_a_student(runs: Runs) -> None:
    assert list(models_of(str(runs.teacher))) == [str(runs.teacher)]
