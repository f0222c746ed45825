import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
        ("<object>", r"mismatched tag: line 1, column \d+"),
        (
            an_object("cat", 9, 1, 3, 5),
            r"object 1 \(cat\) has .*'xmin': 9.0.*expected xmin <= xmax",
        ),
        (an_object("cat", "left", 1, 3, 5), "has the bndbox/xmin 'left', expected a number"),
        (an_object("cat", 1, "nan", 3, 5), "has the bndbox/ymin 'nan', expected a number"),
        (an_object("cat", 1, 1, "inf", 5), "has the bndbox/xmax 'inf', expected a number"),
        (an_object("cat", 1, 1, 3, ""), "has the bndbox/ymax '', expected a number"),
        (an_object("cat", 1, 1, 3, 5, difficult="no"), "has the difficult 'no', expected a number"),
        (
            an_object("dog", 1, 1, 3, 5) + "<object><name>cat</name></object>",
            r"object 2 \(cat\) has",
        ),
        (an_object("cat", 1, 1, 3, 5).replace("name", "label"), "object 1 has no name"),
        ("<size><width>4O</width></size>", "it has the size/width '4O', expected a number"),
    ],
)
def test_malformed_annotations_name_file_and_object(devkit, objects, message):
    annotate(devkit, "b", objects, size="")
    with pytest.raises(ValueError, match=rf"b\.xml: malformed annotation \(.*{message}.*; correct"):
        VOC(devkit, "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no element found: line 1, column 0"),
        (b"<annotation><object>", "no element found: line 1"),
        (b"<html></html>", "its root is <html>, expected <annotation>"),
        (b'{"images": []}', "invalid token\\): line 1"),
        (
            "<annotation><folder>ü</folder></annotation>".encode("latin-1"),
            r"invalid token\)|line 1",
        ),
        (b"<?xml version='1.0' encoding='none'?><annotation/>", "unknown encoding"),
    ],
)
def test_what_is_no_annotation_is_named(devkit, content, message):
    (devkit / "Annotations/b.xml").write_bytes(content)
    with pytest.raises(ValueError, match=rf"b\.xml: malformed annotation \(.*{message}"):
        VOC(devkit, "train")


PIECES = st.sampled_from(
    [
        "<annotation>",
        "</annotation>",
        "<object>",
        "</object>",
        "<name>cat</name>",
        "<size>",
        "1e999",
    ]
    + [f"<{tag}>" for tag in ("bndbox", "xmin", "ymin", "xmax", "ymax", "width")]
    + [f"</{tag}>" for tag in ("bndbox", "xmin", "ymin", "xmax", "ymax", "width", "size")]
    + ["7", "-3", "nan", "\x00", "<?xml version='1.0' encoding='utf-7'?>", "&lol;", "<!DOCTYPE x>"]
)


@settings(max_examples=200, derandomize=True)
@given(st.binary(max_size=40) | st.lists(PIECES, max_size=12).map(lambda p: "".join(p).encode()))
def test_whatever_an_annotation_holds_it_is_named(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp() / "anything"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Main/all.txt").write_text("a")
    (root / "JPEGImages/a.jpg").touch()
    (root / "Annotations/a.xml").write_bytes(content)
    try:
        assert len(VOC(root, "all")) == 1
    except ValueError as error:
        assert str(root / "Annotations/a.xml") in str(error)  # noqa: PT017 - some are fine


def test_boxes_are_clipped_for_training_and_counted(devkit, caplog):
    annotate(
        devkit,
        "b",
        an_object("cat", 0, 0, 41, 31),  # a pixel is rounding
        an_object("dog", 31, -9, 60, 30),
        an_object("dog", 50, 1, 60, 30),
    )
    assert VOC(devkit, "train")[0][1]["boxes"].tolist()[1:] == [[30, -10, 60, 30], [49, 0, 60, 30]]
    assert "2 boxes reach beyond their images, 1 of them lie outside" in caplog.text
    assert "the first is on b.jpg, of height and width (30, 40). They are evaluated" in caplog.text
    caplog.clear()
    target = VOC(devkit, "train", training=True)[0][1]
    assert target["boxes"].tolist() == [[0, 0, 40, 30], [30, 0, 40, 30]]
    assert target["area"].tolist() == [1200, 300]
    assert target["labels"].tolist() == [8, 12]
    assert target["difficult"].tolist() == [False, False]
    assert "They are clipped, those outside left out" in caplog.text


def test_boxes_are_clipped_to_the_file_where_no_size_is_stated(devkit):
    annotate(devkit, "b", an_object("dog", 31, 1, 60, 30), an_object("dog", 50, 1, 60, 30), size="")
    assert VOC(devkit, "train", training=True)[0][1]["boxes"].tolist() == [[30, 0, 40, 30]]


def test_a_set_without_images_or_boxes_is_refused(devkit):
    (devkit / "ImageSets/Main/val.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"val\.txt lists no image; expected at least one"):
        VOC(devkit, "val")
    with pytest.raises(
        ValueError, match=r"train\.txt: none of the 2 images has an object to learn"
    ):
        VOC(devkit, "train", training=True)


def test_a_list_may_have_been_written_elsewhere(devkit):
    for name in ("c", "a b"):
        (devkit / "JPEGImages/c.jpg").with_stem(name).touch()
        annotate(devkit, name)
    (devkit / "ImageSets/Main/val.txt").write_bytes("\ufeffc\r\na b\r\n".encode())
    assert [one.path.stem for one in VOC(devkit, "val").images] == ["c", "a b"]
    (devkit / "ImageSets/Main/val.txt").write_bytes("café".encode("latin-1"))
    with pytest.raises(ValueError, match=r"val\.txt is no text in UTF-8: byte \d+ is 0xe9"):
        VOC(devkit, "val")
    (devkit / "ImageSets/Main/val.txt").write_text("c.jpg")
    with pytest.raises(FileNotFoundError, match=r"lists 'c\.jpg' \(a name a line, without ending"):
        VOC(devkit, "val")


def test_double_classes_are_refused(devkit):
    with pytest.raises(ValueError, match=r"^classes: .* several classes of the name cat;"):
        VOC(devkit, "train", classes=["cat", "cat"])


def test_missing_files_are_named(devkit):
    (devkit / "JPEGImages/a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 images .*JPEGImages.* first is a"):
        VOC(devkit, "train")
    (devkit / "Annotations/a.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.xml does not exist"):
        VOC(devkit, "train")


def test_wrong_layouts_and_splits_say_what_there_is(devkit):
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*VOC2007\?$"):
        VOC(devkit.parent, "train")
    with pytest.raises(FileNotFoundError, match=r"^split is 'test'.* are there: train, val\. Give"):
        VOC(devkit, "test")


def test_the_layout_of_coco_is_recognised(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"instances_train\.json .*use limbeck\.data\.COCO"):
        VOC(tmp_path, "train")


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
    assert sum(int(one.attributes["difficult"].sum()) for one in objects) == 26


def test_companion_files_are_left_out_and_counted(devkit, caplog):
    annotate(devkit, "a", an_object("own", 1, 1, 9, 9))
    (devkit / "ImageSets/Main/train.txt").write_text("b\n._b\na\n._a\n")
    for name in ("Annotations/._a.xml", "JPEGImages/._a.jpg", "ImageSets/Main/._train.txt"):
        (devkit / name).write_bytes(b"\0\5\x16\7")
    dataset = VOC(devkit, "train")
    assert [image.path.name for image in dataset.images] == ["b.jpg", "a.jpg"]
    assert dataset.classes == ("own",)
    in_list, in_folder = caplog.messages
    assert "train.txt: left out 2 files or folders that are hidden" in in_list
    assert "Annotations: left out 1 files or folders" in in_folder
    with pytest.raises(FileNotFoundError, match=r"the lists that are there: train, val\."):
        VOC(devkit, "test")


@pytest.fixture
def folders(tmp_path):
    """Ten images in ``pics``, each with a cat in its file in ``annots``, and no lists."""
    for folder in ("annots", "pics"):
        (tmp_path / folder).mkdir()
    cat = an_object("cat", 1, 1, 9, 9)
    for number in range(10):
        PIL.Image.new("RGB", (40, 30)).save(tmp_path / f"pics/{number}.png")
        (tmp_path / f"annots/{number}.xml").write_text(f"<annotation>{cat}</annotation>")
    return tmp_path


def divided(root, split, **arguments):
    """The names of the images of a split that is no list."""
    found = VOC(root, split, annotations="annots", images="pics", **{"held_out": 0.3} | arguments)
    return [image.path.stem for image in found.images]


def test_folders_of_other_names_are_divided_by_a_share(folders):
    train, val = divided(folders, "train"), divided(folders, "val")
    assert train
    assert val
    assert sorted(train + val) == divided(folders, "trainval") == [str(n) for n in range(10)]


def test_what_is_held_out_goes_by_the_names_alone(folders):
    val = set(divided(folders, "val"))
    empty = min(val)
    (folders / f"annots/{empty}.xml").write_text("<annotation></annotation>")
    PIL.Image.new("RGB", (40, 30)).save(folders / "pics/more.png")
    (folders / "annots/more.xml").write_text("<annotation></annotation>")
    assert set(divided(folders, "val")) - {"more"} == val
    assert set(divided(folders, "val", training=True)) == val - {empty}
    assert val <= set(divided(folders, "val", held_out=0.6))


def test_a_share_is_about_what_is_held_out(folders):
    for number in range(10, 400):
        (folders / f"pics/{number}.png").symlink_to(folders / "pics/0.png")
        (folders / f"annots/{number}.xml").symlink_to(folders / "annots/0.xml")
    assert 70 < len(divided(folders, "val", held_out=0.25)) < 130


def test_a_list_may_lie_anywhere_in_the_root(folders):
    (folders / "lists").mkdir()
    (folders / "lists/mine.txt").write_text("3\n1\n")
    assert divided(folders, "lists/mine.txt", held_out=None) == ["3", "1"]


@pytest.mark.parametrize(
    ("split", "held_out", "error", "said"),
    [
        ("test", 0.3, ValueError, "split is 'test'; of the 10 annotations .* val with"),
        ("train", 1.0, ValueError, "held_out is 1.0"),
        ("train", None, FileNotFoundError, "ImageSets/Main is not a folder; .* and held_out where"),
    ],
)
def test_what_cannot_be_divided_is_named(folders, split, held_out, error, said):
    with pytest.raises(error, match=said):
        divided(folders, split, held_out=held_out)


def test_a_list_and_a_share_contradict_each_other(devkit):
    with pytest.raises(ValueError, match=r"train\.txt says which images are of 'train'"):
        VOC(devkit, "train", held_out=0.2)
