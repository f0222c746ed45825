"""The four files of every layout parse, and their first steps run."""

from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch
import yaml

from limbeck.commands.new import new, write
from limbeck.commands.starting import detectors
from limbeck.commands.starting.measured import measured
from limbeck.commands.starting.recipes import FILES, Beginning
from limbeck.commands.stated import parts_of
from limbeck.comparison import read_comparison
from limbeck.data.loading import scaled
from limbeck.models import save_student
from tests.commands import tiny_recipes
from tests.commands.starting.folders import LAYOUTS

HERE = {"data": {"workers": 0}}  # loading workers take seconds to begin


def first_step(*recipes: Path) -> tuple[dict[str, float], torch.nn.Module]:
    """The losses of the first training batch of recipes, and the student."""
    over = tiny_recipes.write(Path(), "here", HERE)
    module, data = parts_of([*map(str, recipes), str(over)])
    images, targets = next(iter(data.train_dataloader()))
    losses = module.pair.train()(scaled(images), targets)
    losses.total.backward()
    return {name: float(value) for name, value in losses.items()}, module.pair.student


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_steps_of_every_layout_run(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout](tmp_path / "data")
    data = measured(tmp_path / "data")
    detects = data.task == "detection"
    word = "retinanet-light" if detects else "light"
    folder = Path("work")
    chosen = Beginning.of(data, folder, word, word, None)
    write(folder, chosen.texts())
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    plain, model = first_step(folder / "teacher.yaml")
    save_student(model, chosen.run / "student", classes=data.classes)
    taught, _ = first_step(folder / "student.yaml", folder / "distilled.yaml")
    assert taught.keys() > plain.keys()
    assert all(torch.tensor(value).isfinite() for value in taught.values())
    comparison = read_comparison(folder / "comparison.yaml")
    assert list(comparison.rows) == ["FitNet" if detects else "KD"]
    assert comparison.teacher_recipe is not None
    assert (comparison.scored_on is not None) == (layout == "YOLO")


def test_one_size_suits_both_ssds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the trunk of one takes no images as small as these."""
    monkeypatch.setattr(detectors, "with_anchors", lambda model, data: model)  # which takes seconds
    LAYOUTS["YOLO"](tmp_path / "data")
    data = measured(tmp_path / "data")
    texts = Beginning.of(data, Path("work"), "ssd-mobilenet_v3_large", "ssd-light", None).texts()
    sizes = []
    for name in FILES[:2]:
        stated = yaml.safe_load(texts[name])
        sizes.append(stated["model"]["student"]["init_args"]["image_size"])
        sizes.append(stated["data"]["augmentation"]["init_args"]["size"])
    assert sizes == [[288, 448]] * 4
    assert "torchvision's trunks of SSD take none below 288" in " ".join(
        texts["student.yaml"].replace("#", "").split()
    )


def test_words_stand_above_what_they_are_about(tmp_path: Path) -> None:
    LAYOUTS["YOLO"](tmp_path / "data")
    texts = Beginning.of(
        measured(tmp_path / "data"), Path("work"), None, "ssd-resnet18", "fitnet"
    ).texts()
    for name, text in texts.items():
        first = text.splitlines()[0]
        assert first.startswith("# limbeck "), name
        assert f"work/{name}" in first
        assert max(map(len, text.splitlines())) < 400
    lines = texts["teacher.yaml"].splitlines()
    above = " ".join(lines[: next(i for i, line in enumerate(lines) if "weights:" in line)])
    assert "downloads torchvision's ImageNet weights" in above
    assert "To go without" in above
    # An SSD takes one size, so its teacher is trained with that, too.
    stated = [yaml.safe_load(texts[name]) for name in FILES[:2]]
    sizes = {str(each["data"]["augmentation"]["init_args"]["size"]) for each in stated}
    assert sizes == {str(stated[1]["model"]["student"]["init_args"]["image_size"])}


@pytest.mark.parametrize(
    ("teacher", "student", "side", "expected"),
    [
        # A letterbox brings the longer side to 160 px, so the others do, too.
        ("yolox-n", "retinanet-light", 160, {"short_sides": [160], "long_side": 160}),
        ("yolox-n", "picodet-s", 160, {"size": [160, 160]}),
        ("retinanet-resnet18", "picodet-s", 64, {"size": [64, 160]}),  # stretched to its frame
    ],
)
def test_images_come_as_libreyolos_frame_needs_them(
    teacher: str, student: str, side: int, expected: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("libreyolo", reason="LibreYOLO is not installed")
    LAYOUTS["YOLO"](tmp_path / "data")
    PIL.Image.new("RGB", (192, 64)).save(tmp_path / "data/train/images/7.jpg")
    data = measured(tmp_path / "data")
    texts = Beginning.of(data, Path("work"), teacher, student, None).texts()
    write(Path("work"), texts)  # after it was parsed
    for name in ("teacher.yaml", "student.yaml"):
        stated = yaml.safe_load(texts[name])
        assert stated["data"]["augmentation"]["init_args"] == expected | {
            "flip": 0.5,
            "jitter": 0.2,
        }
        arguments = stated["model"]["student"]["init_args"]
        if "min_size" in arguments:
            assert (arguments["min_size"], arguments["max_size"]) == (side, 160)
    assert yaml.safe_load(texts["distilled.yaml"])["model"]["methods"]["fitnet"]


def test_a_letterbox_beside_a_frame_that_images_are_stretched_to_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("libreyolo", reason="LibreYOLO is not installed")
    LAYOUTS["YOLO"](tmp_path / "data")
    new(tmp_path / "data", tmp_path / "work", "yolox-s", "picodet-s")
    assert "stretches images to its frame" in caplog.text


def test_recipes_of_data_with_an_unreadable_image_skip_it(tmp_path: Path) -> None:
    LAYOUTS["YOLO"](tmp_path / "data")
    data = measured(tmp_path / "data")
    texts = Beginning.of(data, Path("work"), "retinanet-light", "fcos-light", None).texts()
    assert "on_bad_sample" not in texts["student.yaml"]
    (tmp_path / "data/train/images/7.jpg").write_text("not an image")
    data = measured(tmp_path / "data")
    texts = Beginning.of(data, Path("work"), "retinanet-light", "fcos-light", None).texts()
    assert yaml.safe_load(texts["student.yaml"])["data"]["on_bad_sample"] == "skip"
