"""What is called as a split is, and could not be read as one."""

import shutil
from pathlib import Path

import pytest

from limbeck.data.layouts import recognised
from limbeck.data.passed_over import passed_over
from tests.commands.starting.folders import LAYOUTS, coco, draw


@pytest.mark.parametrize("layout", LAYOUTS)
def test_of_whole_data_nothing_is_passed_over(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout](tmp_path)
    assert passed_over(recognised(tmp_path)) == []


def test_annotations_whose_images_are_not_there(tmp_path: Path) -> None:
    coco(tmp_path)
    shutil.rmtree(tmp_path / "val")
    found = passed_over(recognised(tmp_path))
    assert found == [tmp_path / "annotations" / "instances_val.json"]


def test_classes_that_are_called_as_a_split_is(tmp_path: Path) -> None:
    for number, name in enumerate(("bus", "car", "train")):
        draw(tmp_path / name / "1.jpg", number)
    assert passed_over(recognised(tmp_path)) == []
