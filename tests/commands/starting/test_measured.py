"""Which splits are taken, and what is held out where there is no validation set."""

import pkgutil
from pathlib import Path
from typing import Any

import pytest

from limbeck.commands.starting.measured import divided, measured
from limbeck.data import Split
from limbeck.data.layouts import Layout, recognised
from tests.commands.starting.folders import LAYOUTS, SIZE, draw, image_folder, yolo


def layout(*splits: str) -> Layout:
    stated = {
        name: {"class_path": "limbeck.data.YOLO", "init_args": {"root": "d", "split": name}}
        for name in splits
    }
    return Layout("YOLO", stated, "detection", "It is YOLO's.", Path("d"))


def split_of(stated: dict[str, Any]) -> str:
    split: str = stated["init_args"]["split"]
    return split


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("trainval", "train", "val"), ("train", "val", None)),
        (("train", "val"), ("train", "val", None)),
    ],
)
def test_splits_by_their_names(there: tuple[str, ...], taken: tuple[str | None, ...]) -> None:
    found = divided(layout(*there))
    names = [
        None if each is None else split_of(each) for each in (found.train, found.val, found.test)
    ]
    assert tuple(names) == taken
    assert found.train["init_args"]["training"]
    assert "training" not in found.val["init_args"]


def test_without_a_validation_set_a_share_is_held_out(tmp_path: Path) -> None:
    yolo(tmp_path, ("train", "test"))
    data = measured(tmp_path)
    assert "held out" in data.splits.why
    assert data.splits.test is not None
    whole = data.splits.train["init_args"]["dataset"]
    assert whole["init_args"].pop("training")
    assert whole["init_args"].pop("keep_images_without_boxes")  # or both sides differ in images
    assert data.splits.val["init_args"]["dataset"] == whole
    kind = pkgutil.resolve_name(whole["class_path"])
    sides = [
        Split(kind(**whole["init_args"]), **{n: each["init_args"][n] for n in ("side", "share")})
        for each in (data.splits.train, data.splits.val)
    ]
    assert sorted([*sides[0].indices, *sides[1].indices]) == list(range(8))
    assert data.images == len(sides[0]) == 6
    assert len(data.objects) == 6  # one in each image
    assert (data.short_side, data.aspect) == (64, 1.5)


def test_splits_of_no_known_name_are_refused() -> None:
    with pytest.raises(ValueError, match="has the splits a, b; expected one called train"):
        divided(layout("a", "b"))


@pytest.mark.parametrize("there", [("val",), ("trainval", "val"), ("test",), ("trainval", "test")])
def test_no_image_is_on_two_sides(there: tuple[str, ...]) -> None:
    """A validation or test set that is trained on, or of which training has a part, is none."""
    found = divided(layout(*there))
    sides = [each["init_args"]["dataset"]["init_args"] for each in (found.train, found.val)]
    assert {side["split"] for side in sides} == {there[0]}
    assert [side.get("training", False) for side in sides] == [True, False]
    assert (found.test is None) == (there != ("trainval", "test"))


def test_one_split_of_any_name_is_divided() -> None:
    assert "held out" in divided(layout("all")).why
    assert "held out" in divided(layout("train2014")).why


def test_the_layout_is_that_of_the_folder(tmp_path: Path) -> None:
    yolo(tmp_path)
    assert measured(tmp_path).layout == recognised(tmp_path)


@pytest.mark.parametrize("layout", ["YOLO", "ImageFolder"])
def test_images_that_cannot_be_read_are_left_out_and_told(
    layout: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    LAYOUTS[layout](tmp_path)
    place = tmp_path / {"YOLO": "train/images/1.jpg", "ImageFolder": "red/2.jpg"}[layout]
    place.write_text("not an image")
    data = measured(tmp_path)
    assert f"1 of {data.images} training images that were looked at cannot be read" in caplog.text
    assert data.unreadable
    assert str(place) in caplog.text
    assert data.short_side == SIZE[1]
    assert len(data.objects) == (data.images - 1 if layout == "YOLO" else 0)


def split_folders(root: Path, **classes: tuple[str, ...]) -> None:
    """Folders of images by split and class."""
    for split, names in classes.items():
        for number, name in enumerate(names):
            for image in range(3):
                draw(root / split / name / f"{image}.jpg", number + image)


def test_a_validation_set_of_other_classes_is_refused(tmp_path: Path) -> None:
    split_folders(tmp_path, train=("ant", "bee", "cow"), val=("ant", "bee"))
    with pytest.raises(ValueError, match=r"which differ: only data.train has cow"):
        measured(tmp_path)


def test_a_test_set_of_other_classes_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split_folders(tmp_path, train=("ant", "bee"), val=("ant", "bee"), test=("bee", "cow"))
    assert measured(tmp_path).splits.test is None
    assert "The test set is left out" in caplog.text
    assert "only the test set has cow" in caplog.text


def test_a_split_that_cannot_be_read_is_told_before_another_is_held_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    split_folders(tmp_path, train=("ant", "bee"), val=("ant", "bee"))
    for image in (tmp_path / "val" / "bee").iterdir():
        image.unlink()
    assert "held out" in measured(tmp_path).splits.why
    assert f"{tmp_path / 'val'} is called as a split is, and is left out" in caplog.text


def test_a_folder_of_damaged_images_alone_is_refused(tmp_path: Path) -> None:
    image_folder(tmp_path)
    for path in tmp_path.glob("*/*.jpg"):
        path.write_text("not an image")
    with pytest.raises(ValueError, match="none of the training images"):
        measured(tmp_path)
