"""Datasets in YOLO's layout, as the programs that export it write them."""

import logging
from pathlib import Path

import PIL.Image
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.PngImagePlugin import PngImageFile

from limbeck.data import YOLO
from limbeck.data.base import BadSampleError
from limbeck.training.data import DataModule

NAMES = ["cat", "dog"]
SIDES = (40, 20)  # width and height


def picture(path: Path, size: tuple[int, int] = SIDES, orientation: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = PIL.Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    PIL.Image.new("RGB", size).save(path, exif=exif)


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def describe(root: Path, **stated: object) -> None:
    (root / "data.yaml").write_text(yaml.safe_dump({"names": NAMES} | stated))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two training images, of which the first has a dog and a cat, and one validation image."""
    picture(tmp_path / "images/train/a.jpg")
    picture(tmp_path / "images/train/b.png")
    picture(tmp_path / "images/val/c.jpg")
    write(tmp_path / "labels/train/a.txt", "1 0.5 0.5 0.5 0.5", "", "0 0.1 0.9 0.2 0.2")
    write(tmp_path / "labels/val/c.txt", "0 0.5 0.5 1 1")
    describe(tmp_path, train="images/train", val="images/val", test=None)
    return tmp_path


def named(dataset: YOLO) -> list[str]:
    return [image.path.name for image in dataset.images]


def test_golden_item(root: Path) -> None:
    dataset = YOLO(root, "train")
    assert (dataset.classes, len(dataset)) == (("cat", "dog"), 2)
    image, target = dataset[0]
    assert image.shape == (3, 20, 40)
    assert isinstance(target, dict)
    assert target["labels"].tolist() == [2, 1]
    assert target["boxes"].tolist() == [[10, 5, 30, 15], [0, 16, 8, 20]]
    assert target["area"].tolist() == [200, 32]
    assert target["iscrowd"].tolist() == [0, 0]
    assert dataset[1][1]["boxes"].shape == (0, 4)
    assert dataset.image_size(0) == (20, 40)


def test_training_keeps_an_image_without_objects_where_it_is_asked_to(root: Path) -> None:
    assert named(YOLO(root, "train", training=True)) == ["a.jpg"]
    kept = YOLO(root, "train", training=True, keep_images_without_boxes=True)
    assert named(kept) == ["a.jpg", "b.png"]


def test_training_clips_boxes(root: Path) -> None:
    write(root / "labels/train/a.txt", "0 0.0 0.5 0.5 0.5")
    assert YOLO(root, "train")[0][1]["boxes"].tolist() == [[-10, 5, 10, 15]]
    assert YOLO(root, "train", training=True)[0][1]["boxes"].tolist() == [[0, 5, 10, 15]]


def test_an_outline_becomes_the_box_around_it(root: Path) -> None:
    write(root / "labels/train/a.txt", "1 0.25 0.5 0.75 0.25 0.5 1.0")
    assert YOLO(root, "train")[0][1]["boxes"].tolist() == [[10, 5, 30, 20]]


def test_of_a_pose_the_box_is_read(root: Path) -> None:
    write(root / "labels/train/a.txt", "1 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 1")
    describe(root, train="images/train", kpt_shape=[2, 3])
    assert YOLO(root, "train")[0][1]["boxes"].tolist() == [[10, 5, 30, 15]]


def test_a_line_that_comes_twice_counts_once(root: Path) -> None:
    write(root / "labels/train/a.txt", *["1 0.5 0.5 0.5 0.5"] * 2, "0 0.5 0.5 0.5 0.5")
    assert YOLO(root, "train")[0][1]["labels"].tolist() == [2, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_shares_are_of_the_image_as_it_is_seen(root: Path, orientation: int) -> None:
    picture(root / "images/train/a.jpg", orientation=orientation)
    image, target = YOLO(root, "train")[0]
    width, height = (20, 40) if orientation > 4 else (40, 20)
    assert image.shape == (3, height, width)
    assert target["boxes"][1].tolist() == pytest.approx(
        [0, 0.8 * height, 0.2 * width, height], abs=1e-5
    )


def test_roboflows_paths_lead_out_of_the_folder_of_their_own_file(tmp_path: Path) -> None:
    picture(tmp_path / "train/images/a.jpg")
    write(tmp_path / "train/labels/a.txt", "0 0.5 0.5 1 1")
    describe(tmp_path, train="../train/images", nc=2, roboflow={"license": "CC BY 4.0"})
    assert len(YOLO(tmp_path, "train")[0][1]["boxes"]) == 1


def test_cvats_lists_are_seen_from_the_path_that_is_stated(tmp_path: Path) -> None:
    picture(tmp_path / "set/images/train/a.jpg")
    write(tmp_path / "set/labels/train/a.txt", "0 0.5 0.5 1 1")
    write(tmp_path / "set/train.txt", "./images/train/a.jpg", "")
    describe(tmp_path, path="set", train="train.txt", names=dict(enumerate(NAMES)))
    assert named(YOLO(tmp_path, "train")) == ["a.jpg"]


def test_several_folders_and_lists_are_one_split_and_an_image_counts_once(root: Path) -> None:
    write(root / "more.txt", "images/val/c.jpg", "images\\train\\a.jpg")
    describe(root, train=["images/train", "more.txt"])
    assert named(YOLO(root, "train")) == ["a.jpg", "b.png", "c.jpg"]


def test_labels_lie_beside_images_where_no_folder_is_called_images(tmp_path: Path) -> None:
    picture(tmp_path / "obj/a.jpg")
    write(tmp_path / "obj/a.txt", "0 0.5 0.5 1 1")
    describe(tmp_path, train="obj")
    assert len(YOLO(tmp_path, "train")[0][1]["boxes"]) == 1


def test_the_last_folder_called_images_is_the_one_that_has_labels(tmp_path: Path) -> None:
    root = tmp_path / "images/set"
    picture(root / "images/train/a.jpg")
    write(root / "labels/train/a.txt", "0 0.5 0.5 1 1")
    describe(root, train="images/train")
    assert len(YOLO(root, "train")[0][1]["boxes"]) == 1


def test_files_that_others_leave_behind_are_no_images(root: Path) -> None:
    write(root / "images/train/.DS_Store")
    write(root / "images/train/a.cache")
    picture(root / "images/train/deeper/d.jpg")
    assert named(YOLO(root, "train")) == ["a.jpg", "b.png", "d.jpg"]


def test_an_image_that_is_readable_only_later_stays_a_bad_sample(root: Path) -> None:
    path = next((root / "images/train").iterdir())
    good = path.read_bytes()
    path.write_bytes(b"no image")
    dataset = YOLO(root, "train", training=True, keep_images_without_boxes=True)
    path.write_bytes(good)
    index = [each.name for each in dataset.images.paths()].index(path.name)
    with pytest.raises(BadSampleError, match="could not be read when the dataset was opened"):
        dataset[index]


def test_no_png_is_decoded_for_its_size(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in [*root.rglob("*.jpg")]:
        with PIL.Image.open(path) as image:
            image.save(path.with_suffix(".png"))
        path.unlink()
    decoded: list[int] = []
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda self: (decoded.append(1), load(self))[1])
    assert len(YOLO(root, "train"))
    assert not decoded


def test_a_damaged_image_is_told_and_is_a_bad_sample(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "images/train/a.jpg").write_bytes(b"no image")
    dataset = YOLO(root, "train", training=True)
    assert "1 images cannot be read; the first:" in caplog.text
    with pytest.raises(BadSampleError, match=r"a\.jpg"):
        dataset[0]


def test_images_without_labels_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    YOLO(root, "train")
    assert "1 of 2 images have no label file, such as b.png" in caplog.text


def test_a_loader_gives_its_batches(root: Path) -> None:
    data = DataModule(YOLO(root, "val"), YOLO(root, "train"), batch_size=2, workers=0)
    images, targets = next(iter(data.train_dataloader()))
    assert len(images) == 2
    assert sorted(len(target["labels"]) for target in targets) == [0, 2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("2 0.5 0.5 1 1", "the class is 2, expected a number from 0 to 1"),
        ("0.5 0.5 0.5 1 1", "the class is 0.5"),
        ("cat 0.5 0.5 1 1", "could not convert string to float: 'cat'"),
        ("0 0.5 0.5 1", "it has 4 columns, expected 5 for a box"),
        ("0 0.5 0.5 1 1 0.9", "it has 6 columns, .* the confidence of a prediction"),
        ("0 0.5 0.5 1 1 0.9 0.9 0.9", "it has 8 columns"),
        ("0 20 10 20 10", "expected shares of the image, from 0 to 1"),
        ("0 0.5 nan 1 1", "expected shares of the image"),
        ("0 0.5 0.5 -0.005 1", "width and height are -0.005 and 1"),
    ],
)
def test_a_wrong_line_is_named(root: Path, line: str, said: str) -> None:
    write(root / "labels/train/a.txt", "1 0.5 0.5 0.5 0.5", line)
    with pytest.raises(ValueError, match=rf"a\.txt, line 2: .*{said}"):
        YOLO(root, "train")


def test_numbers_of_classes_may_be_quoted(root: Path) -> None:
    describe(root, train="images/train", names={"1": "dog", "0": "cat"})
    assert YOLO(root, "train").classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"names": None}, "names is None"),
        ({"names": {1: "cat", 2: "dog"}}, "names has the numbers 1, 2; expected 0 to 1"),
        ({"names": {0: "cat", "x": "dog"}}, "names has the numbers 0, x; expected 0 to 1"),
        ({"names": ["cat", "cat"]}, "several classes of the name cat"),
        ({"nc": 3}, "nc is 3, and names has 2 classes"),
        ({"kpt_shape": 17}, "kpt_shape is 17"),
    ],
)
def test_a_wrong_description_is_named(root: Path, stated: dict[str, object], said: str) -> None:
    describe(root, **({"train": "images/train"} | stated))
    with pytest.raises(ValueError, match=rf"data\.yaml.*{said}"):
        YOLO(root, "train")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"val": "images/val"}, "split is 'train', and .* the images of val are"),
        ({"train": "pictures"}, "pictures is neither a folder nor a list of images"),
        ({"train": "labels"}, "there is no image of train in labels"),
        ({"train": "list.txt"}, r"list\.txt lists images/train/z\.jpg, which is not there"),
    ],
)
def test_what_is_missing_is_named(root: Path, stated: dict[str, object], said: str) -> None:
    write(root / "list.txt", "images/train/z.jpg")
    describe(root, **stated)
    with pytest.raises(FileNotFoundError, match=said):
        YOLO(root, "train")


def test_images_without_any_label_file_are_refused(root: Path) -> None:
    (root / "labels").rename(root / "annotations")
    with pytest.raises(FileNotFoundError, match=r"none of the 2 images .*labels/train/a\.txt"):
        YOLO(root, "train")


def test_another_file_is_advised(root: Path) -> None:
    (root / "data.yaml").rename(root / "coco8.yaml")
    with pytest.raises(FileNotFoundError, match=r"There is coco8\.yaml: name it \(description\)"):
        YOLO(root, "train")
    assert len(YOLO(root, "train", description="coco8.yaml")) == 2
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        YOLO(root / "nowhere", "train")


def test_a_file_without_names_is_refused(root: Path) -> None:
    (root / "data.yaml").write_text("- train\n")
    with pytest.raises(ValueError, match=r"data\.yaml has no names"):
        YOLO(root, "train")


def test_the_folder_within_is_advised(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    describe(tmp_path / "set", train="images")
    with pytest.raises(FileNotFoundError, match=f"Did you mean {tmp_path / 'set'}"):
        YOLO(tmp_path, "train")


share = st.floats(0.05, 0.95)


@given(st.lists(st.tuples(st.integers(0, 1), share, share, share, share), min_size=1, max_size=5))
@settings(max_examples=20, deadline=None)
def test_boxes_that_are_written_as_shares_are_read_in_pixels(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float, float, float, float]]
) -> None:
    root = tmp_path_factory.mktemp("yolo")
    picture(root / "images/a.jpg", (320, 200))
    write(root / "labels/a.txt", *(" ".join(map(str, row)) for row in dict.fromkeys(rows)))
    describe(root, train="images")
    target = YOLO(root, "train")[0][1]
    assert isinstance(target, dict)
    stated = torch.tensor(list(dict.fromkeys(rows)), dtype=torch.float64)
    centres, sides = stated[:, 1:3], stated[:, 3:]
    scale = torch.tensor([320.0, 200.0], dtype=torch.float64)
    expected = torch.cat([(centres - sides / 2) * scale, (centres + sides / 2) * scale], dim=1)
    torch.testing.assert_close(target["boxes"].as_subclass(torch.Tensor), expected.float())
    assert target["labels"].tolist() == (stated[:, 0] + 1).long().tolist()
