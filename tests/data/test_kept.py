"""Images that are kept are the same as those that are read, up to the memory that they may take."""

import pickle
from pathlib import Path

import PIL.Image
import pytest
import torch
from torchvision import tv_tensors

from limbeck.data import ImageFolder
from limbeck.data.base import BadSampleError
from limbeck.data.kept import KeptImages


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes with an image each."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        PIL.Image.new("RGB", (8, 8), "red").save(tmp_path / name / "0.png")
    return tmp_path


def image(value: int) -> tv_tensors.Image:
    return tv_tensors.Image(torch.full((3, 4, 4), value, dtype=torch.uint8))


def test_images_are_read_once_as_far_as_they_fit() -> None:
    kept, read = KeptImages(most_bytes=100), []

    def reading(value: int) -> tv_tensors.Image:
        read.append(value)
        return image(value)

    for _ in range(2):
        for index in range(3):
            found = kept.at(index, lambda index=index: reading(index))
            assert torch.equal(found, image(index))
            assert isinstance(found, tv_tensors.Image)
    assert read == [0, 1, 2, 2], "two images of 48 bytes fit into 100"


def test_what_is_done_to_an_image_stays_with_who_did_it() -> None:
    kept = KeptImages()
    for _ in range(3):
        kept.at(0, lambda: image(7)).zero_()
    assert torch.equal(kept.at(0, lambda: image(0)), image(7))


def test_a_copy_in_another_process_begins_without_images() -> None:
    kept = KeptImages(most_bytes=100)
    kept.at(0, lambda: image(1))
    copy = pickle.loads(pickle.dumps(kept))
    assert copy.left == 100
    assert torch.equal(copy.at(0, lambda: image(2)), image(2))


def test_a_folder_keeps_its_images(folder: Path) -> None:
    dataset = ImageFolder(folder)
    first = dataset[0][0]
    (folder / "cat/0.png").unlink()
    assert torch.equal(dataset[0][0], first)
    assert dataset[0][0] is not first


def test_an_image_that_cannot_be_read_is_not_kept(folder: Path) -> None:
    dataset = ImageFolder(folder)
    whole = (folder / "cat/0.png").read_bytes()
    (folder / "cat/0.png").write_bytes(whole[:30])
    for _ in range(2):
        with pytest.raises(BadSampleError, match=r"cat/0\.png"):
            dataset[0]
    (folder / "cat/0.png").write_bytes(whole)
    assert dataset[0][0].shape == (3, 8, 8)
