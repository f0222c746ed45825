"""``limbeck anchors``: shapes for a recipe's data, as YAML that the recipe takes."""

from pathlib import Path

import pytest
import torch
import yaml

from limbeck.data import Shapes
from limbeck.data.cluster import cluster_shapes, object_sizes
from limbeck.models import YOLOv2
from tests.commands import tiny_recipes


def yolo(**arguments: object) -> tiny_recipes.Recipe:
    """A recipe of 32 images of 64 px, whose weights are not there."""
    recipe = tiny_recipes.plain()
    given = {"width": 1.0, "num_classes": 5, "weights": "missing.weights"} | arguments
    recipe["model"]["student"] = {"class_path": "limbeck.models.YOLOv2", "init_args": given}
    return recipe


def found(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[list[list[float]], str]:
    """The shapes in the line that is to be pasted, and all that was said."""
    tiny_recipes.limbeck("anchors", *words)
    said = capsys.readouterr().out
    shapes: list[list[float]] = yaml.safe_load(said.splitlines()[-1])["anchor_shapes"]
    return shapes, said


def expected(count: int, size: tuple[int, int], images: int = 32) -> list[list[float]]:
    sizes = object_sizes(Shapes(count=images, size=64, seed=1), size)
    return [pytest.approx(shape, abs=0.051) for shape in cluster_shapes(sizes, count).tolist()]


def test_the_model_is_not_built_and_its_image_size_is_taken(
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tiny_recipes.write(Path(), "yolo", yolo(image_size=[96, 64]))
    shapes, said = found(capsys, path, "--count", 3)
    assert shapes == expected(3, (96, 64))
    assert "objects in images of 96 x 64 px" in said
    model = YOLOv2(0.05, 5, anchor_shapes=shapes, image_size=(96, 64))
    assert len(model.anchor_generator.shapes) == 3


def test_yolov2s_size_and_number_unless_said(capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny_recipes.write(Path(), "yolo", yolo())
    assert found(capsys, path)[0] == expected(5, (416, 416))
    assert found(capsys, path, "--image_size", "[64,128]")[0] == expected(5, (64, 128))


def test_a_shuffledets_size_unless_said(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = yolo()
    recipe["model"]["student"]["class_path"] = "limbeck.models.ShuffleDet"
    path = tiny_recipes.write(Path(), "shuffledet", recipe)
    assert found(capsys, path)[0] == expected(5, (384, 1248))


def test_recipes_are_laid_over_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    first = tiny_recipes.write(Path(), "first", yolo(image_size=[64, 64]))
    over = {"data": {"train": {"init_args": {"count": 8}}}}
    second = tiny_recipes.write(Path(), "second", over)
    assert found(capsys, first, second)[0] == expected(5, (64, 64), images=8)


def test_mean_iou_beside_that_of_vocs_anchors(capsys: pytest.CaptureFixture[str]) -> None:
    """VOC's are 416 px's, and are scaled to the size."""
    path = tiny_recipes.write(Path(), "yolo", yolo())
    rows = {}
    for size in (416, 832):
        _, said = found(capsys, path, "--image_size", f"[{size},{size}]")
        cells = [line.split("│") for line in said.splitlines() if line.startswith("│")]
        rows[size] = {row[1].strip(): float(row[2]) for row in cells}
    assert rows[416] == rows[832]
    assert 0 < rows[416]["VOC's 5"] < rows[416]["these 5"] < 1
    sizes = object_sizes(Shapes(count=32, size=64, seed=1), (416, 416))
    shapes = cluster_shapes(sizes, 5)
    best = [
        max(min(w, a) * min(h, b) / (w * h + a * b - min(w, a) * min(h, b)) for a, b in shapes)
        for w, h in sizes
    ]
    assert rows[416]["these 5"] == pytest.approx(torch.stack(best).mean().item(), abs=6e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": None}, "there is no data.train"),
        (
            {"train": tiny_recipes.shapes(4, 1, "classification")},
            "the dataset is for classification",
        ),
    ],
)
def test_data_without_boxes(
    change: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = yolo()
    recipe["data"] |= change
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("anchors", tiny_recipes.write(Path(), "yolo", recipe))
    assert end.value.code == 1
    assert message in capsys.readouterr().err


def test_more_anchors_than_objects(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("anchors", tiny_recipes.write(Path(), "yolo", yolo()), "--count", 900)
    assert "count=900: " in capsys.readouterr().err
