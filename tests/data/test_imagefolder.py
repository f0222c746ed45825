import shutil

import PIL.Image
import pytest
import torch

from limbeck.data import ImageFolder
from limbeck.data.base import BadSampleError


@pytest.fixture
def root(tmp_path):
    for name, colour in (("hat", (0, 0, 200)), ("dress", (200, 0, 0))):
        (tmp_path / name).mkdir()
        PIL.Image.new("RGB", (40, 30), colour).save(tmp_path / name / "1.png")
    return tmp_path


def test_golden_items(root):
    dataset = ImageFolder(root)
    assert dataset.task == "classification"
    assert dataset.classes == ("dress", "hat")
    assert len(dataset) == 2
    image, target = dataset[1]
    assert image.shape == (3, 30, 40)
    assert image[:, 0, 0].tolist() == [0, 0, 200]
    assert target.dtype == torch.int64
    assert (target.item(), target.ndim) == (1, 0)


@pytest.mark.parametrize(("orientation", "size"), [(1, (30, 40)), (3, (30, 40)), (6, (40, 30))])
def test_photographs_are_turned_upright(root, orientation, size):
    photo = PIL.Image.new("RGB", (40, 30))
    photo.putpixel((0, 0), (255, 255, 255))
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    photo.save(root / "hat" / "1.png", exif=exif)
    dataset = ImageFolder(root)
    image, _ = dataset[1]
    assert dataset.image_size(1) == tuple(image.shape[-2:]) == size
    corner = {1: (0, 0), 3: (29, 39), 6: (0, 29)}[orientation]
    assert image[0].nonzero().tolist() == [list(corner)]


def test_wrong_roots_are_named(root):
    with pytest.raises(FileNotFoundError, match=r"none is not a folder; expected .* of one split"):
        ImageFolder(root / "none")
    with pytest.raises(FileNotFoundError, match="hat holds no folder; expected"):
        ImageFolder(root / "hat")
    (root / "scarf").mkdir()
    (root / "scarf" / "list.txt").write_text("no image")
    with pytest.raises(
        FileNotFoundError, match=r"1 of the 3 classes .* first is .*scarf; expected"
    ):
        ImageFolder(root)


def test_links_that_lead_back_are_not_followed(root):
    """They would count images many times over, and under other classes."""
    (root / "hat" / "up").symlink_to(root)
    (root / "dress" / "loop").symlink_to(root / "dress")
    (root / "elsewhere").mkdir()
    shutil.copy(root / "hat" / "1.png", root / "elsewhere" / "2.png")
    (root / "hat" / "more").symlink_to(root / "elsewhere")
    dataset = ImageFolder(root)
    assert dataset.labels.tolist() == [0, 1, 2, 2]
    assert [path.rpartition("/")[2] for path in dataset.paths] == [
        "1.png",
        "2.png",
        "1.png",
        "2.png",
    ]


def test_hidden_folders_are_no_classes(root):
    (root / ".ipynb_checkpoints").mkdir()
    assert ImageFolder(root).classes == ("dress", "hat")


def test_a_folder_of_splits_is_refused(root):
    for split in ("train", "val"):
        shutil.copytree(root / "hat", root / "set" / split / "hat")
        shutil.copytree(root / "dress", root / "set" / split / "dress")
    with pytest.raises(ValueError, match=r"splits \['train', 'val'\].*such as .*train"):
        ImageFolder(root / "set")
    assert ImageFolder(root / "set" / "train").classes == ("dress", "hat")


def test_a_folder_around_the_classes_is_refused(root):
    shutil.move(root / "dress", root / "clothing" / "dress")
    shutil.move(root / "hat", root / "clothing" / "hat")
    with pytest.raises(ValueError, match=r"one folder 'clothing'.*Did you mean .*clothing\?"):
        ImageFolder(root)


@pytest.mark.parametrize(
    ("folders", "reader"),
    [(("Annotations", "ImageSets", "JPEGImages"), "VOC"), (("annotations", "train"), "COCO")],
)
def test_detection_datasets_are_refused(tmp_path, folders, reader):
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=rf"detection dataset: use limbeck\.data\.{reader}"):
        ImageFolder(tmp_path)


def test_a_damaged_image_is_named(root):
    (root / "hat" / "1.png").write_bytes(b"")
    dataset = ImageFolder(root)
    for read in (dataset.__getitem__, dataset.image_size):
        with pytest.raises(BadSampleError, match=r"hat/1\.png: not a readable image"):
            read(1)


def test_real_data(shared):
    splits = [
        ImageFolder(shared / "data/imagefolder/clothing" / s) for s in ("train", "val", "test")
    ]
    assert [len(split) for split in splits] == [3068, 341, 372]
    assert splits[0].classes == splits[2].classes
    assert splits[0].classes[::9] == ("dress", "t-shirt")
    image, target = splits[1][340]
    assert tuple(image.shape[-2:]) == splits[1].image_size(340)
    assert target.item() == 9


def test_companion_files_and_other_files_are_left_out_and_counted(root, caplog):
    shutil.copy(root / "hat/1.png", root / "hat/2.PNG")
    for name in ("hat/._1.png", "hat/.cache/1.png", "hat/@eaDir/1.png", "__MACOSX/hat/1.png"):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_bytes(b"no image")
    for name in ("hat/Thumbs.db", "hat/.DS_Store", "hat/notes.txt", ".DS_Store"):
        (root / name).touch()
    dataset = ImageFolder(root)
    assert dataset.classes == ("dress", "hat")
    assert [path.removeprefix(f"{root}/") for path in dataset.paths] == [
        "dress/1.png",
        "hat/1.png",
        "hat/2.PNG",
    ]
    hidden, others = caplog.messages
    assert f"{root}: left out 5 files or folders that are hidden" in hidden
    assert f"{root}: left out 1 files or folders that are no images" in others


def test_an_item_holds_its_own_label_alone(root):
    dataset = ImageFolder(root)
    assert dataset.labels.tolist() == [0, 1]
    assert all(label.untyped_storage().nbytes() == 8 for _, label in dataset)
