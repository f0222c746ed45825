import PIL.Image
import pytest
import torch

from limbeck.data import ImageFolder


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
    with pytest.raises(FileNotFoundError, match="none is not a folder"):
        ImageFolder(root / "none")
    with pytest.raises(FileNotFoundError, match="class folder"):
        ImageFolder(root / "hat")
    (root / "scarf").mkdir()
    with pytest.raises(FileNotFoundError, match="scarf"):
        ImageFolder(root)


def test_a_folder_of_splits_is_refused(root):
    for split, name in (("train", "hat"), ("val", "dress")):
        (root / "set" / split).mkdir(parents=True)
        (root / name).rename(root / "set" / split / name)
    with pytest.raises(ValueError, match=r"splits \['train', 'val'\].*such as .*train"):
        ImageFolder(root / "set")
    assert ImageFolder(root / "set" / "train").classes == ("hat",)


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
