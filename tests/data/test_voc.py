import PIL.Image
import pytest
import torch

from limbeck.data import VOC
from limbeck.data.voc import PASCAL

OBJECT = """<object><name>{name}</name>{difficult}<part><name>head</name></part>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""


def an_object(name, *box, difficult=None):
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return OBJECT.format(*box, name=name, difficult=flag)


@pytest.fixture
def devkit(tmp_path):
    """A root with images of 40x30 (a, b in the split ``train``; c in ``val``)."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    (root / "ImageSets/Main/train.txt").write_text("b\na\n")
    (root / "ImageSets/Main/val.txt").write_text("c\n")
    for name in "abc":
        PIL.Image.new("RGB", (40, 30)).save(root / "JPEGImages" / f"{name}.jpg")
        annotate(root, name)
    return root


def annotate(root, name, *objects, size="<size><width>40</width><height>30</height></size>"):
    file = root / "Annotations" / f"{name}.xml"
    file.write_text(f"<annotation>{size}{''.join(objects)}</annotation>")


def test_golden_item(devkit):
    annotate(
        devkit,
        "b",
        an_object("dog", 1, 1, 40, 30),
        an_object("cat", 3, 4, 3, "5.5", difficult=1),
    )
    dataset = VOC(devkit, "train")
    assert dataset.classes == PASCAL
    image, target = dataset[0]
    assert image.shape == (3, 30, 40)
    assert target["boxes"].canvas_size == (30, 40)
    assert target["boxes"].tolist() == [[0, 0, 40, 30], [2, 3, 3, 5.5]]
    assert target["labels"].tolist() == [12, 8]
    assert target["difficult"].tolist() == [False, True]
    assert target["difficult"].dtype == torch.bool
    assert target["iscrowd"].tolist() == [0, 0]
    assert target["area"].tolist() == [1200, 2.5]
    assert target["image_id"].item() == 0


def test_training_keeps_difficult_objects_and_leaves_out_images_without(devkit):
    annotate(devkit, "a", an_object("cat", 1, 1, 9, 9, difficult=1))
    assert len(VOC(devkit, "train")) == 2
    assert len(VOC(devkit, "train", training=True, keep_images_without_boxes=True)) == 2
    training = VOC(devkit, "train", training=True)
    assert [one.path.name for one in training.images] == ["a.jpg"]
    assert training[0][1]["image_id"].item() == 1
    assert training[0][1]["difficult"].tolist() == [True]


def test_classes_are_found_in_all_splits(devkit):
    annotate(devkit, "b", an_object("zebra", 1, 1, 9, 9))
    annotate(devkit, "c", an_object("cat", 1, 1, 9, 9))
    assert VOC(devkit, "train").classes == ("cat", "zebra")
    assert VOC(devkit, "val")[0][1]["labels"].tolist() == [1]


def test_named_classes_are_strict(devkit):
    annotate(devkit, "b", an_object("dog", 1, 1, 9, 9))
    assert VOC(devkit, "train", classes=["cat", "dog"])[0][1]["labels"].tolist() == [2]
    with pytest.raises(ValueError, match=r"b\.xml has an object of the class 'dog'.*\['cat'\]"):
        VOC(devkit, "train", classes=["cat"])


def test_size_is_read_from_the_file_where_the_annotation_has_none(devkit):
    annotate(devkit, "b", size="<size><width>0</width><height>0</height></size>")
    annotate(devkit, "a", size="")
    dataset = VOC(devkit, "train")
    assert [dataset.image_size(i) for i in range(2)] == [(30, 40), (30, 40)]


def test_png_images(devkit):
    (devkit / "JPEGImages/b.jpg").unlink()
    PIL.Image.new("L", (40, 30), 9).save(devkit / "JPEGImages/b.png")
    assert VOC(devkit, "train")[0][0].unique().tolist() == [9]


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ("<object>", "mismatched tag"),
        (an_object("cat", 9, 1, 3, 5), "'xmin': 9.0"),
        (an_object("cat", "left", 1, 3, 5), "left"),
        ("<object><name>cat</name></object>", "an object has no bndbox/xmin"),
        (an_object("cat", 1, 1, 3, 5).replace("name", "label"), "an object has no name"),
    ],
)
def test_malformed_annotations_name_the_file(devkit, objects, message):
    annotate(devkit, "b", objects)
    with pytest.raises(ValueError, match=rf"b\.xml: malformed annotation \(.*{message}"):
        VOC(devkit, "train")


def test_missing_files_are_named(devkit):
    (devkit / "JPEGImages/a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images .*JPEGImages.* first is a"):
        VOC(devkit, "train")
    (devkit / "Annotations/a.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.xml does not exist"):
        VOC(devkit, "train")


def test_wrong_layouts_and_splits_say_what_there_is(devkit):
    with pytest.raises(FileNotFoundError, match=r"did you mean .*VOC2007\?"):
        VOC(devkit.parent, "train")
    with pytest.raises(FileNotFoundError, match=r"test\.txt .* \['train', 'val'\]"):
        VOC(devkit, "test")


def labels_of(dataset):
    return torch.cat([one.objects.labels for one in dataset.images])


def test_real_blood_cells(shared):
    root = shared / "data/voc_bccd/VOCdevkit/VOC2007"
    splits = [VOC(root, split) for split in ("train", "val", "test")]
    assert [len(split) for split in splits] == [205, 87, 72]
    assert splits[0].classes == ("Platelets", "RBC", "WBC")
    assert torch.cat([labels_of(split) for split in splits]).bincount().tolist() == [
        0,
        361,
        4153,
        372,
    ]
    image, target = splits[0][0]
    assert tuple(image.shape[-2:]) == splits[0].image_size(0) == (480, 640)
    assert target["boxes"].max() <= 640


def test_real_pascal(shared):
    root = shared / "data/voc_pascal/VOCdevkit/VOC2012"
    splits = [VOC(root, split) for split in ("train", "val")]
    assert [len(split) for split in splits] == [40, 20]
    assert splits[0].classes == PASCAL
    objects = [one.objects for split in splits for one in split.images]
    assert sum(map(len, objects)) == 168
    assert sum(int(one.difficult.sum()) for one in objects) == 26
