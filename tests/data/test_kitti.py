import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data import KITTI
from limbeck.training.data import DataModule

REST = "1.5 1.6 3.7 2.9 2.4 13.2 1.6"  # size, place and turn in 3D


def line(type_, *box, truncation=0, occlusion=0, rest=REST):
    return f"{type_} {truncation} {occlusion} -1.5 {' '.join(map(str, box))} {rest}\n"


@pytest.fixture
def root(tmp_path):
    """Five frames of 40x30, of which 000001 has objects, without lists of splits."""
    for folder in ("image_2", "label_2"):
        (tmp_path / "training" / folder).mkdir(parents=True)
    for frame in range(5):
        PIL.Image.new("RGB", (40, 30)).save(tmp_path / f"training/image_2/{frame:06}.png")
        annotate(tmp_path, f"{frame:06}")
    annotate(
        tmp_path,
        "000001",
        line("Cyclist", 1, 2.25, 11, 12, truncation=0.31, occlusion=2),
        line("Truck", 0, 0, 9, 9),
        line("Van", 3, 3, 13, 8, truncation=0.1, occlusion=1),
        line("DontCare", 5, 6, 25, 26, truncation=-1, occlusion=-1),
        line("Person_sitting", 7, 7, 9, 9),
        line("Car", 20, 10, 45, 20, rest=f"{REST} 0.9"),
    )
    return tmp_path


def annotate(root, frame, *lines):
    (root / f"training/label_2/{frame}.txt").write_text("".join(lines))


def lists(root, **splits):
    (root / "ImageSets").mkdir()
    for split, content in splits.items():
        (root / f"ImageSets/{split}.txt").write_text(content)


def frames(dataset):
    return [int(image.path.stem) for image in dataset.images]


def test_golden_item(root):
    lists(root, val="000003\n000001")
    dataset = KITTI(root, "val")
    assert dataset.classes == ("Car", "Pedestrian", "Cyclist")
    image, target = dataset[1]
    assert image.shape == (3, 30, 40)
    assert target["image_id"].item() == 1
    assert target["labels"].tolist() == [3, 1, 1, 2, 3, 2, 1]
    assert target["iscrowd"].tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert target["occlusion"].tolist() == [2, 1, -1, -1, -1, 0, 0]
    assert target["occlusion"].dtype == torch.int64
    expected = torch.tensor([0.31, 0.1, -1, -1, -1, 0, 0])
    assert torch.equal(target["truncation"], expected)
    assert target["boxes"].tolist()[:3] == [[1, 2.25, 11, 12], [3, 3, 13, 8], [5, 6, 25, 26]]
    assert target["boxes"].tolist()[-1] == [20, 10, 45, 20]
    assert target["area"].tolist() == [97.5, 50, 400, 400, 400, 4, 250]


def test_training_leaves_only_objects_of_the_classes(root):
    annotate(root, "000000", line("Van", 3, 3, 13, 8), line("DontCare", 5, 6, 25, 26))
    annotate(root, "000002", line("Pedestrian", 3, 3, 3.5, 8))
    lists(root, train="000000\n000001\n000002\n")
    dataset = KITTI(root, "train", training=True)
    assert frames(dataset) == [1]  # already here, where no image has been read
    target = dataset[0][1]
    assert target["image_id"].item() == 1
    assert target["labels"].tolist() == [3, 1]
    assert target["boxes"].tolist() == [[1, 2.25, 11, 12], [20, 10, 40, 20]]  # clipped
    assert target["occlusion"].tolist() == [2, 0]
    assert len(target["truncation"]) == 2
    kept = KITTI(root, "train", training=True, keep_images_without_boxes=True)
    assert [len(image.objects) for image in kept.images] == [0, 2, 0]


def test_classes_choose_what_is_a_neighbour(root):
    lists(root, val="000001")
    vans = KITTI(root, "val", classes=["Van"])[0][1]
    assert vans["labels"].tolist() == [1, 1]
    assert vans["iscrowd"].tolist() == [0, 1]  # the van and what nobody labelled
    both = KITTI(root, "val", classes=["Van", "Car"])[0][1]
    assert both["labels"].tolist() == [1, 1, 2, 2]
    assert both["iscrowd"].tolist() == [0, 1, 1, 0]
    with pytest.raises(ValueError, match=r"no object of the class 'car'; .*Car, Van, .*Cyclist"):
        KITTI(root, "val", classes=["car"])


def test_without_lists_every_second_frame_is_for_validation(root, caplog):
    assert frames(KITTI(root, "trainval")) == [0, 1, 2, 3, 4]
    assert not caplog.text
    assert frames(KITTI(root, "train")) == [0, 2, 4]
    assert frames(KITTI(root, "val")) == [1, 3]
    assert "'val' is a split of our own, 2 of 5 frames" in caplog.text
    assert "not the published one (3712 for training, 3769 for validation)" in caplog.text
    assert f"put train.txt and val.txt into {root / 'ImageSets'}" in caplog.text


def test_half_of_our_own_is_not_put_beside_a_list(root, caplog):
    lists(root, train="000000\n000001\n")
    with pytest.raises(FileNotFoundError, match=r"val\.txt does not exist; .* \['train'\]"):
        KITTI(root, "val")
    assert frames(KITTI(root, "train")) == [0, 1]
    assert not caplog.text
    with pytest.raises(FileNotFoundError, match=r"test\.txt does not exist"):
        KITTI(root, "test")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (line("Car", 1, 2, 3, 4, rest="1 2 3"), "it has 11 columns, expected 15, or 16"),
        (line("Car", 1, 2, 3, 4, rest=f"{REST} 1 2"), "it has 17 columns"),
        (line("Car", 1, "x", 3, 4), "could not convert string to float: 'x'"),
        (line("Car", 1, 2, "nan", 4), "it has .* 1 2 nan 4 .*, expected finite numbers"),
        (line("Car", 1, 2, 3, 4, occlusion=0.5), "the occlusion is 0.5, expected a level"),
        (line("Car", 5, 2, 3, 4), r"the box is \[5.0, 2.0, 3.0, 4.0\], expected left <= right"),
    ],
)
def test_malformed_lines_are_named(root, content, message):
    annotate(root, "000002", line("Car", 1, 2, 3, 4), "\n", content)
    with pytest.raises(ValueError, match=rf"000002\.txt, line 3: {message}.*; correct it"):
        KITTI(root, "trainval")


WORDS = st.sampled_from(["Car", "DontCare", "1", "-1", "2.5", "1e999", "nan", "inf", "ü", "0x1"])


@settings(max_examples=100, derandomize=True)
@given(st.binary(max_size=40) | st.lists(WORDS, min_size=15, max_size=16).map(" ".join))
def test_whatever_a_label_file_holds_it_is_named(tmp_path_factory, content):
    root = tmp_path_factory.getbasetemp() / "anything"
    for folder in ("image_2", "label_2"):
        (root / "training" / folder).mkdir(parents=True, exist_ok=True)
    (root / "training/image_2/0.png").touch()
    file = root / "training/label_2/0.txt"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("latin-1"))
    try:
        assert len(KITTI(root, "trainval")) == 1
    except ValueError as error:
        said = str(error)
        assert said.startswith((f"{file}, line ", f"{file} is no text"))


def test_missing_files_are_named(root):
    (root / "training/image_2/000004.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 5 images .* the first is 000004\.png"):
        KITTI(root, "trainval")
    lists(root, val="000009")
    with pytest.raises(FileNotFoundError, match=r"000009\.txt does not exist, though the split"):
        KITTI(root, "val")
    with pytest.raises(FileNotFoundError, match=r"image_2 is not a folder; expected a root"):
        KITTI(root / "training", "val")


def test_real_frames(shared):
    root = shared / "data/kitti"
    train, val = (KITTI(root, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (9, 3)
    _, target = train[1]  # a truck, a car, a cyclist and four regions
    assert target["labels"].tolist() == [1, 3] + [1, 2, 3] * 4
    assert target["iscrowd"].tolist() == [0, 0] + [1] * 12
    assert target["occlusion"].tolist() == [0, 3] + [-1] * 12
    assert torch.equal(target["boxes"][0], torch.tensor([387.63, 181.54, 423.81, 203.12]))
    for dataset in (train, val):
        for index in range(len(dataset)):
            image, target = dataset[index]
            assert tuple(image.shape[-2:]) == dataset.image_size(index)
            assert (target["boxes"][:, 2:] <= torch.tensor(image.shape[:0:-1])).all()
    objects = [image.objects for image in KITTI(root, "train", training=True).images]
    assert torch.cat([one.labels for one in objects]).bincount().tolist() == [0, 17, 10, 2]
    assert all((one.iscrowd == 0).all() for one in objects)


def test_real_frames_become_batches(shared):
    root = shared / "data/kitti"
    data = DataModule(KITTI(root, "val"), KITTI(root, "train", training=True), batch_size=3)
    (batch,) = data.val_dataloader()
    assert [target["truncation"].dtype for target in batch.targets] == [torch.float32] * 3
    assert [len(target["occlusion"]) for target in batch.targets] == [
        len(target["labels"]) for target in batch.targets
    ]


def test_companion_files_are_no_frames_and_move_no_split(root, caplog):
    before = frames(KITTI(root, "train")), frames(KITTI(root, "val"))
    for name in ("label_2/._000000.txt", "label_2/.DS_Store", "image_2/._000000.png"):
        (root / "training" / name).write_bytes(b"\0\5\x16\7")
    caplog.clear()
    assert (frames(KITTI(root, "train")), frames(KITTI(root, "val"))) == before
    assert "label_2: left out 1 files or folders that are hidden" in caplog.text
    lists(root, train="._000000 000001\n", **{"._train": "000001"})
    assert frames(KITTI(root, "train")) == [1]


def test_images_may_have_another_format(root):
    (root / "training/image_2/000001.png").unlink()
    PIL.Image.new("RGB", (40, 30)).save(root / "training/image_2/000001.jpg")
    assert KITTI(root, "val").images[0].path.name == "000001.jpg"


@pytest.mark.parametrize("file", ["ImageSets/val.txt", "training/label_2/000001.txt"])
def test_text_in_another_encoding_is_refused(root, file):
    lists(root, val="000003\n000001")
    (root / file).write_bytes("café".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{file} is no text in UTF-8: byte 3 is 0xe9.*UTF-8"):
        KITTI(root, "val")
