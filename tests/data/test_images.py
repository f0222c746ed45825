import logging
from pathlib import Path

import PIL.Image
import pytest
import torch

from limbeck.data import Images
from limbeck.data.base import BadSampleError


def draw(path: Path, size: tuple[int, int] = (6, 4), colour: int = 0, **options: object) -> None:
    """An image of (width, height) and one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (colour, 0, 0)).save(path, **options)


def test_a_folder_with_all_folders_inside_it_in_alphabetical_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number, name in enumerate(["b.png", "a/2.PNG", "a/1.png", "a/deep/3.png"]):
        draw(tmp_path / name, colour=number)
    for hidden in (".cache/x.png", "a/._1.png", "__MACOSX/b.png"):
        draw(tmp_path / hidden)
    (tmp_path / "readme.txt").write_text("photographs")
    with caplog.at_level(logging.WARNING):
        images = Images(tmp_path)
    found = [Path(path).relative_to(tmp_path).as_posix() for path in images.paths]
    assert found == ["b.png", "a/1.png", "a/2.PNG", "a/deep/3.png"]
    assert [int(image[0, 0, 0]) for image in (images[i] for i in range(4))] == [0, 2, 1, 3]
    assert "left out 3 files or folders that are hidden" in caplog.text
    assert "left out 1 files or folders that are no images" in caplog.text


def test_a_list_of_files_in_its_own_order(tmp_path: Path) -> None:
    draw(tmp_path / "photos" / "x.jpg")
    draw(tmp_path / "lists" / "y.png")
    listed = tmp_path / "lists" / "unlabelled.txt"
    listed.write_text(f"y.png\n\n../photos/x.jpg\n{tmp_path}/lists/y.png\n")
    images = Images(listed)
    assert [Path(path).name for path in images.paths] == ["y.png", "x.jpg", "y.png"]
    assert images[1].shape == (3, 4, 6)
    assert images[1].dtype is torch.uint8


def test_a_list_may_name_images_below_a_hidden_folder(tmp_path: Path) -> None:
    hidden = tmp_path / ".cache/x.png"
    hidden.parent.mkdir()
    draw(hidden)
    listed = tmp_path / "lists/train.txt"
    listed.parent.mkdir()
    listed.write_text(f"{hidden}\n")
    assert len(Images(listed)) == 1


def test_photographs_are_seen_upright(tmp_path: Path) -> None:
    sideways = PIL.Image.Exif()
    sideways[0x0112] = 6
    draw(tmp_path / "x.jpg", size=(6, 4), exif=sideways)
    images = Images(tmp_path)
    assert images[0].shape == (3, 6, 4)
    assert images.image_size(0) == (6, 4)


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda place: None, "does not exist; expected a folder of images, or a text file"),
        (lambda place: place.mkdir(), "holds no image; expected image files"),
        (lambda place: place.write_text("notes.txt\n"), "names no image; expected image files"),
        (lambda place: place.write_text("a.png\nb.png\n"), "2 of the 2 images do not exist.*a.png"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, prepare: object, message: str) -> None:
    prepare(tmp_path / "place")  # type: ignore[operator]
    with pytest.raises(FileNotFoundError, match=message):
        Images(tmp_path / "place")


def test_a_damaged_image_is_a_bad_sample(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(BadSampleError, match=r"x\.png"):
        Images(tmp_path)[0]
