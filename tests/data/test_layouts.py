"""Folders whose layout is recognised: of every dataset here, and as exporters write them."""

import json
import pkgutil
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from limbeck.data.layouts import Layout, recognised

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
BOX = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (16, 12)).save(path)


def instances(file: Path, image: Path) -> None:
    """Write one image, and COCO's file about it."""
    picture(image)
    file.parent.mkdir(parents=True, exist_ok=True)
    entry = {"id": 1, "file_name": image.name, "height": 12, "width": 16}
    box = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 8, 8]}
    content = {"images": [entry], "annotations": [box], "categories": CATEGORIES}
    file.write_text(json.dumps(content))


def annotation(file: Path, image: Path, name: str = "cat") -> None:
    """Write one image, and VOC's file about it."""
    picture(image)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation><object><name>{name}</name>{BOX}</object></annotation>")


def built(layout: Layout) -> dict[str, Any]:
    """The dataset of each split, as a recipe would build it."""
    return {
        name: pkgutil.resolve_name(split["class_path"])(**split["init_args"])
        for name, split in layout.splits.items()
    }


@pytest.mark.parametrize(
    ("folder", "name", "counts"),
    [
        ("coco", "COCO", {"train": 160, "val": 80}),
        ("voc_bccd", "VOC", {"train": 205, "val": 87, "test": 72}),
        ("voc_pascal", "VOC", {"train": 40, "val": 20}),
        ("kitti", "KITTI", {"train": 9, "val": 3}),
        ("widerface", "WIDER FACE", {"val": 7}),
        ("imagefolder/cub200_2010_10cls", "ImageFolder", {"train": 223, "val": 69}),
    ],
)
def test_published_data(shared: Path, folder: str, name: str, counts: dict[str, int]) -> None:
    layout = recognised(shared / "data" / folder)
    assert layout.name == name
    assert layout.task == ("classification" if name == "ImageFolder" else "detection")
    if name != "WIDER FACE":  # whose file lists more images than there are
        assert {split: len(each) for split, each in built(layout).items()} == counts
    assert list(layout.splits) == list(counts)
    assert str(layout.root) in layout.why


def test_coco_as_roboflow_exports_it(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        instances(tmp_path / split / "_annotations.coco.json", tmp_path / split / "a.jpg")
    layout = recognised(tmp_path)
    assert {name: len(each) for name, each in built(layout).items()} == {"train": 1, "val": 1}
    assert layout.splits["val"]["init_args"]["images"] == str(tmp_path / "valid")


def test_coco_as_it_is_published(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        instances(
            tmp_path / f"annotations/instances_{split}.json", tmp_path / f"images/{split}/a.jpg"
        )
    instances(
        tmp_path / "annotations/person_keypoints_val2017.json", tmp_path / "images/val2017/a.jpg"
    )
    (tmp_path / "annotations/captions_val2017.json").write_text('{"images": [], "annotations": []}')
    splits = recognised(tmp_path).splits
    assert {name: Path(each["init_args"]["annotations"]).name for name, each in splits.items()} == {
        "train": "instances_train2017.json",
        "val": "instances_val2017.json",
    }


def test_one_file_of_coco_is_one_split(tmp_path: Path) -> None:
    instances(tmp_path / "annotations.json", tmp_path / "images/a.jpg")
    assert list(recognised(tmp_path).splits) == ["all"]


def test_voc_with_folders_of_other_names_holds_a_share_out(tmp_path: Path) -> None:
    for number in range(10):
        annotation(tmp_path / f"annots/{number}.xml", tmp_path / f"images/{number}.jpg")
    layout = recognised(tmp_path)
    counts = {name: len(each) for name, each in built(layout).items()}
    assert list(counts) == ["train", "val"]
    assert sum(counts.values()) == 10


@pytest.mark.parametrize("place", ["ImageSets", ".", "lists"])
def test_voc_with_lists_elsewhere(tmp_path: Path, place: str) -> None:
    for name in ("a b", "c", "d"):
        annotation(tmp_path / f"annots/{name}.xml", tmp_path / f"images/{name}.jpg")
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "train.txt").write_text("\na b\nc\n")
    (tmp_path / place / "valid.txt").write_text("d\n")
    (tmp_path / place / "test.txt").write_text("images/d.jpg\n")  # no list of names
    (tmp_path / place / "requirements.txt").write_text("c\n")
    layout = recognised(tmp_path)
    assert {name: len(each) for name, each in built(layout).items()} == {"train": 2, "val": 1}
    assert "train.txt" in layout.why


def test_voc_as_roboflow_exports_it_has_the_classes_of_all_its_splits(tmp_path: Path) -> None:
    annotation(tmp_path / "train/a.xml", tmp_path / "train/a.jpg", "lemon")
    annotation(tmp_path / "valid/b.xml", tmp_path / "valid/b.jpg", "apple")
    datasets = built(recognised(tmp_path))
    assert {name: each.classes for name, each in datasets.items()} == {
        "train": ("apple", "lemon"),
        "val": ("apple", "lemon"),
    }
    assert {name: len(each) for name, each in datasets.items()} == {"train": 1, "val": 1}


def test_yolo_without_the_test_set_that_it_states(tmp_path: Path) -> None:
    stated = "names: [cat]\ntrain: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (tmp_path / "data.yaml").write_text(stated)
    for split in ("train", "valid"):
        picture(tmp_path / split / "images" / "a.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / "a.txt").write_text("0 .5 .5 .5 .5\n")
    layout = recognised(tmp_path)
    assert layout.name == "YOLO"
    assert {name: len(each) for name, each in built(layout).items()} == {"train": 1, "val": 1}


def test_yolo_with_another_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "helmets.yaml").write_text("names: [cat]\ntrain: images\n")
    (tmp_path / "setup.yaml").write_text("a: 1\n")
    picture(tmp_path / "images/a.jpg")
    assert recognised(tmp_path).splits["train"]["init_args"]["description"] == "helmets.yaml"


def test_the_file_of_yolo_that_is_named(tmp_path: Path) -> None:
    """Another one beside it does not come first, though it has the usual name."""
    (tmp_path / "data.yaml").write_text("names: [cat]\ntrain: images\n")
    (tmp_path / "helmets.yaml").write_text("names: [helmet]\ntrain: images\n")
    picture(tmp_path / "images/a.jpg")
    layout = recognised(tmp_path / "helmets.yaml")
    assert layout.splits["train"]["init_args"]["description"] == "helmets.yaml"


def test_yolo_without_its_images_says_where_they_were_looked_for(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [cat]\npath: /gone\ntrain: images/train\n")
    said = rf"data\.yaml: images/train is neither a folder nor .* in {tmp_path}, /gone\."
    for place in (tmp_path, tmp_path / "data.yaml"):
        with pytest.raises(FileNotFoundError, match=said):
            recognised(place)
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    with pytest.raises(FileNotFoundError, match=r"split is 'train', and .* of none are"):
        recognised(tmp_path)


def test_splits_without_annotations_are_no_classes(tmp_path: Path) -> None:
    picture(tmp_path / "images/train2017/a.jpg")
    picture(tmp_path / "images/val2017/a.jpg")
    with pytest.raises(ValueError, match="in no layout that limbeck knows"):
        recognised(tmp_path)


def test_classes_without_splits(tmp_path: Path) -> None:
    picture(tmp_path / "cat/a.jpg")
    picture(tmp_path / "dog/a.jpg")
    assert list(recognised(tmp_path).splits) == ["all"]


def test_annotations_of_two_kinds_are_said(tmp_path: Path) -> None:
    annotation(tmp_path / "Annotations/a.xml", tmp_path / "JPEGImages/a.jpg")
    instances(tmp_path / "instances.json", tmp_path / "JPEGImages/a.jpg")
    layout = recognised(tmp_path)
    assert layout.name == "VOC"
    assert layout.why.endswith("Annotations are there for COCO, too.")


def test_an_unknown_folder_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    picture(tmp_path / "train/a.jpg")
    picture(tmp_path / "b.jpg")
    with pytest.raises(ValueError, match=r"holds b\.jpg, train/\. Expected one of:\nCOCO: a JSON"):
        recognised(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        recognised(tmp_path / "none")


def test_several_datasets_are_refused_by_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        annotation(tmp_path / name / "Annotations/a.xml", tmp_path / name / "JPEGImages/a.jpg")
    with pytest.raises(ValueError, match=r"holds 2 datasets: VOC in .*one, VOC in .*two\."):
        recognised(tmp_path)
