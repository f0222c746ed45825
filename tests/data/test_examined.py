"""What image files are like: damage, orientations, and copies of one image."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from limbeck.data.contents import Contents
from limbeck.data.examined import Examined, copies_of, examine
from limbeck.data.table import ImageTable, Objects


def picture(
    path: Path, seed: int = 0, orientation: int = 1, size: tuple[int, int] = (20, 10)
) -> Path:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    noise = torch.randint(256, (*size[::-1], 3), generator=torch.Generator().manual_seed(seed))
    PIL.Image.fromarray(noise.byte().numpy()).save(path, exif=exif)
    return path


def examined(
    *paths: Path, size: tuple[int, int] | None = None, decode: bool = False
) -> list[Examined]:
    count = len(paths)
    nothing = torch.zeros(0)
    objects = Objects(nothing.reshape(0, 4), nothing.long(), nothing, nothing.long())
    table = ImageTable.numbered(Path(), map(str, paths), [0] * count, objects, [size] * count)
    upright = torch.zeros(count, dtype=torch.bool)
    return list(examine(Contents("detection", ("cat",), table, upright), decode=decode))


def test_images_of_16_bits_or_other_sides_are_no_copies(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths[:2]):
        PIL.Image.fromarray(np.full((8, 8), 7000 + 9000 * number, np.uint16)).save(path)
    for size, path in zip(((10, 20), (20, 10)), paths[2:], strict=True):
        PIL.Image.new("RGB", size).save(path)
    hashes = {each.pixels for each in examined(*paths, decode=True)}
    assert len(hashes) == 4


def test_a_file_that_is_cut_off_is_found_by_decoding(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg", size=(64, 64))
    path.write_bytes(path.read_bytes()[:-400])
    assert not examined(path)[0].problem
    assert "not a readable image" in examined(path, decode=True)[0].problem


def test_an_image_of_another_size_than_annotated_is_told(tmp_path: Path) -> None:
    (found,) = examined(picture(tmp_path / "a.png"), size=(10, 21))
    assert "(10, 20), its annotation says (10, 21)" in found.problem


@pytest.mark.parametrize(
    ("size", "turned", "settled"),
    [((20, 10), True, True), ((10, 20), False, True), (None, False, False)],
)
def test_the_stated_size_says_which_way_up_boxes_are(
    tmp_path: Path, size: tuple[int, int] | None, turned: bool, settled: bool
) -> None:
    (found,) = examined(picture(tmp_path / "a.jpg", orientation=6), size=size)
    assert (found.size, found.seen, found.orientation) == ((10, 20), (20, 10), 6)
    assert (found.turned, found.settled) == (turned, settled)
    assert found.annotated == (size or (10, 20))


def test_copies_are_found_by_their_bytes_and_by_their_pixels(tmp_path: Path) -> None:
    first = picture(tmp_path / "a.png")
    again, other = tmp_path / "again.png", picture(tmp_path / "other.png", seed=1)
    again.write_bytes(first.read_bytes())
    PIL.Image.open(first).save(tmp_path / "same.bmp")
    files = {
        "train": examined(first, again, other, decode=True),
        "val": examined(tmp_path / "same.bmp", decode=True),
    }
    by_bytes, by_pixels = copies_of(files)
    assert (by_bytes.of, by_bytes.files) == ("bytes", {"train": [str(first), str(again)]})
    assert by_pixels.of == "pixels"
    assert by_pixels.files == {"train": [str(first)], "val": [str(tmp_path / "same.bmp")]}
