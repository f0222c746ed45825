"""What ``limbeck predict`` writes beside predictions.json, and lists of files as its images."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import hotcoco
import pytest
import torch
from torchvision.io import write_png

from limbeck.commands.predict import predict
from limbeck.data import COCO, VOC, YOLO, Shapes
from limbeck.models import BasicBlocks, RetinaNet, load_student, save_student
from tests import tiny_models

CLASSES = list("abcde")


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that finds ten objects wherever it looks."""
    folder = tmp_path_factory.mktemp("student")
    torch.manual_seed(0)
    blocks = BasicBlocks(**tiny_models.BLOCKS)
    model = RetinaNet(**tiny_models.DETECTOR | {"backbone": blocks, "score_threshold": 0.0})
    save_student(model.eval(), folder, classes=CLASSES)
    return folder


@pytest.fixture
def paths() -> list[Path]:
    Path("images").mkdir()
    found = [Path("images", f"{number}.png") for number in range(3)]
    for path, (image, _) in zip(found, Shapes(count=3, size=64), strict=True):
        write_png(image, str(path))
    return found


def results(output: str = "predictions") -> dict[str, list[dict[str, Any]]]:
    return json.loads(Path(output, "predictions.json").read_text())


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_what_was_found_is_written_as_a_dataset(to: Any, detector: Path, paths: list[Path]) -> None:
    predict(detector, ["images"], threshold=0.0, to=to)
    root = Path("predictions", to)
    dataset = {
        "coco": lambda: COCO(root / "train", root / "annotations/instances_train.json"),
        "voc": lambda: VOC(root, "train", classes=CLASSES),
        "yolo": lambda: YOLO(root, "train"),
    }[to]()
    assert len(dataset) == 3
    for path, (image, target) in zip(paths, dataset, strict=True):
        found = results()[str(path)]
        large = [f for f in found if min(f["box"][2] - f["box"][0], f["box"][3] - f["box"][1]) > 2]
        assert len(large) <= len(target["labels"]) <= len(found) == 10
        boxes = torch.tensor([each["box"] for each in found])
        nearest = torch.cdist(target["boxes"].as_subclass(torch.Tensor), boxes, p=1).min(dim=1)
        assert nearest.values.max() < 0.3  # of four sides that are rounded to 0.1
        assert image.shape == (3, 64, 64)
    with pytest.raises(FileExistsError, match=f"predictions/{to} holds "):
        predict(detector, ["images"], to=to)


def test_the_annotations_of_coco_are_results_that_evaluators_take(
    detector: Path, paths: list[Path]
) -> None:
    predict(detector, paths, threshold=0.0, to="coco")
    file = Path("predictions/coco/annotations/instances_train.json")
    entries = json.loads(file.read_text())["annotations"]
    assert all({"image_id", "category_id", "bbox", "score"} <= each.keys() for each in entries)
    scores = [each["score"] for each in entries if each["image_id"] == 1]
    assert [round(score, 4) for score in scores] == [d["score"] for d in results()[str(paths[1])]]
    Path("results.json").write_text(json.dumps(entries))
    loaded = hotcoco.COCO(str(file)).load_res("results.json")
    assert len(loaded.get_ann_ids()) == len(entries) == 30


def test_the_table_has_a_row_for_each_detection(detector: Path, paths: list[Path]) -> None:
    predict(detector, ["images"], threshold=0.0, to="csv")
    with Path("predictions/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [(path, each) for path, found in results().items() for each in found]
    assert len(rows) == len(expected) == 30
    for row, (path, each) in zip(rows, expected, strict=True):
        assert (row["image"], row["class"], row["frame"]) == (path, each["class"], "")
        assert float(row["score"]) == each["score"]
        assert [float(row[side]) for side in ("x1", "y1", "x2", "y2")] == each["box"]
    Path("predictions/predictions.csv").write_text("mine\n")
    with pytest.raises(FileExistsError, match=r"predictions\.csv is there, and is no result"):
        predict(detector, ["images"], to="csv")


def test_a_classifier_has_a_table_and_no_dataset(paths: list[Path]) -> None:
    save_student(tiny_models.classifier().eval(), "classifier", classes=CLASSES)
    predict(Path("classifier"), ["images"], to="csv")
    with Path("predictions/predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert {row["x1"] for row in rows} == {""}
    with pytest.raises(ValueError, match="--to voc is for detectors"):
        predict(Path("classifier"), ["images"], to="voc")


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_a_dataset_of_classes_without_names_is_refused_before_anything_is_done(
    to: Any, detector: Path, paths: list[Path]
) -> None:
    save_student(load_student(detector), "nameless")
    with pytest.raises(ValueError, match=r"nameless does not say .* called; .* Give --to csv, or"):
        predict(Path("nameless"), ["images"], to=to)
    assert not Path("predictions").exists()
    predict(Path("nameless"), ["images"], threshold=0.0, to="csv")


def test_a_missing_library_of_videos_is_told_before_anything_is_done(
    detector: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ImportError, match=r"need the library PyAV .* Install it: pip install"):
        predict(detector, ["images", "a.mkv"])
    assert not Path("predictions").exists()


def test_a_list_names_its_images(detector: Path, paths: list[Path]) -> None:
    Path("images/list.txt").write_text("2.png\n0.png\n")
    predict(detector, ["images/list.txt", "images/0.png"])
    assert list(results()) == ["images/2.png", "images/0.png"]
    Path("images/list.txt").write_text("2.png\nnone.png\n")
    with pytest.raises(FileNotFoundError, match=r"list\.txt: 1 of the 2 images do not exist"):
        predict(detector, ["images/list.txt"])
