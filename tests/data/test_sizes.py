from pathlib import Path

import PIL.Image

from limbeck.data import YOLO
from limbeck.data.sizes import image_sizes
from tests.commands.starting.folders import SIZE, yolo


def test_what_cannot_be_read_has_no_size_and_its_error_is_told(tmp_path: Path) -> None:
    yolo(tmp_path)
    (tmp_path / "train/images/1.jpg").write_text("not an image")
    PIL.Image.new("RGB", (40, 30)).save(tmp_path / "train/images/2.jpg")
    sizes, unreadable = image_sizes(YOLO(tmp_path, "train"), [2, 1, 0])
    assert sizes.tolist() == [[30, 40], [0, 0], [SIZE[1], SIZE[0]]]
    assert [str(error).partition(": not a readable")[0] for error in unreadable] == [
        str(tmp_path / "train/images/1.jpg")
    ]


def test_of_no_images_there_are_no_sizes(tmp_path: Path) -> None:
    yolo(tmp_path)
    sizes, unreadable = image_sizes(YOLO(tmp_path, "train"), [])
    assert sizes.shape == (0, 2)
    assert not unreadable
