"""Which pixels boxes are of where an image has an EXIF orientation."""

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import torch

from limbeck.data.annotated import AnnotatedImages
from limbeck.data.orientation import BoxesOf, is_unsettled, upright
from limbeck.data.table import AnnotatedImage, Objects

ORIENTATIONS = range(1, 9)
SUFFIXES = ("jpg", "png", "webp", "tif")


def write(folder: Path, orientation: int, size: tuple[int, int], suffix: str = "png") -> Path:
    """An image of this (height, width) as it is stored, no two pixels of which are alike."""
    height, width = size
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    pixels = np.arange(height * width, dtype=np.uint16).astype(np.uint8).reshape(size)
    path = folder / f"{orientation}.{suffix}"
    PIL.Image.fromarray(pixels).convert("RGB").save(path, exif=exif)
    return path


def dataset(
    path: Path, size: tuple[int, int] | None, boxes_of: BoxesOf | None = None
) -> AnnotatedImages:
    one = torch.ones(1, dtype=torch.int64)
    objects = Objects(torch.tensor([[1.0, 2.0, 5.0, 6.0]]), one, torch.tensor([16.0]), 0 * one)
    return AnnotatedImages(
        ["cat"], [AnnotatedImage(path, 0, size, objects)], source=path.parent, boxes_of=boxes_of
    )


def seen(data: AnnotatedImages) -> str:
    """Which of the two the pixels are; where both are the same, stored."""
    file = PIL.Image.open(data.images[0].path)
    upright = PIL.ImageOps.exif_transpose(file)
    image = data[0][0]
    assert data.image_size(0) == image.shape[-2:]
    pixels = image.permute(1, 2, 0).tolist()
    return {str(np.asarray(upright).tolist()): "upright", str(np.asarray(file).tolist()): "stored"}[
        str(pixels)
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_images_are_turned_as_pillow_turns_them(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    path = write(tmp_path, orientation, (20, 30), suffix)
    expected = PIL.ImageOps.exif_transpose(PIL.Image.open(path))
    assert np.array_equal(upright(PIL.Image.open(path)), expected)


def test_what_is_upright_is_not_copied(tmp_path: Path) -> None:
    with PIL.Image.open(write(tmp_path, 1, (20, 30), "jpg")) as file:
        assert upright(file) is file


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(("size", "stated"), [((20, 20), True), ((20, 30), False)])
def test_where_no_size_decides_the_argument_does(
    tmp_path: Path, orientation: int, size: tuple[int, int], stated: bool
) -> None:
    path = write(tmp_path, orientation, size)
    said = size if stated else None
    assert seen(dataset(path, said)) == "stored"
    assert seen(dataset(path, said, "stored")) == "stored"
    assert seen(dataset(path, said, "upright")) == "upright"


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_half_turns_and_mirrored_images_have_one_size(tmp_path: Path, orientation: int) -> None:
    path = write(tmp_path, orientation, (20, 30))
    assert seen(dataset(path, (20, 30), "stored")) == "stored"
    assert seen(dataset(path, (20, 30), "upright")) == "upright"


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("boxes_of", [None, "stored", "upright"])
def test_where_a_size_decides_the_argument_does_not(
    tmp_path: Path, orientation: int, boxes_of: BoxesOf | None
) -> None:
    path = write(tmp_path, orientation, (20, 30))
    assert seen(dataset(path, (20, 30), boxes_of)) == "stored"
    assert seen(dataset(path, (30, 20), boxes_of)) == "upright"


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_images_whose_size_does_not_settle_it_are_known_without_decoding(
    tmp_path: Path, orientation: int, suffix: str
) -> None:
    path = write(tmp_path, orientation, (20, 30), suffix)
    assert is_unsettled(path, None) == (orientation > 1)
    assert is_unsettled(path, (30, 30)) == (orientation > 1)
    assert is_unsettled(path, (20, 30)) == (orientation in (2, 3, 4))
    assert is_unsettled(path, (30, 20)) == (orientation in (2, 3, 4))


def test_exif_at_the_end_of_a_png_counts(tmp_path: Path) -> None:
    path = write(tmp_path, 3, (20, 30))
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    last = content.index(b"IEND") - 4
    path.write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    assert is_unsettled(path, None)
    assert seen(dataset(path, None, "upright")) == "upright"


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content


@pytest.mark.parametrize("before", [b"", b"x" * 1000, b"x" * 40_000])
def test_exif_behind_other_segments_of_a_jpeg_counts(tmp_path: Path, before: bytes) -> None:
    path = write(tmp_path, 3, (20, 30), "jpg")
    content = path.read_bytes()
    path.write_bytes(content[:2] + segment(0xE2, before) + segment(0xED, before) + content[2:])
    assert is_unsettled(path, None)


@pytest.mark.parametrize("before", [b"", b"Exif", b"x" * 40_000 + b"Exif"])
def test_a_jpeg_that_speaks_of_exif_elsewhere_has_none(tmp_path: Path, before: bytes) -> None:
    path = tmp_path / "a.jpg"
    PIL.Image.new("RGB", (30, 20)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[:2] + segment(0xE2, before) + content[2:] + b"Exif")
    assert not is_unsettled(path, None)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_segment_that_is_too_short_is_read_as_pillow_does(tmp_path: Path, length: int) -> None:
    path = write(tmp_path, 3, (20, 30), "jpg")
    content = path.read_bytes()
    path.write_bytes(content[:2] + bytes([0xFF, 0xE2, 0, length]) + content[2:])
    assert is_unsettled(path, None)


def test_exif_behind_the_pixels_of_a_large_png_counts(tmp_path: Path) -> None:
    path = write(tmp_path, 3, (400, 600))
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    exif = PIL.Image.open(path).getexif()
    PIL.Image.fromarray(noise).save(path, exif=exif)
    content = path.read_bytes()
    start, last = content.index(b"eXIf") - 4, content.rindex(b"IEND") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    path.write_bytes(content[:start] + content[end:last] + content[start:end] + content[last:])
    assert path.stat().st_size > 2**19
    assert is_unsettled(path, None)


def test_they_are_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, 3, (20, 30))
    dataset(path, (20, 30), "stored")
    dataset(path, (20, 30), "upright")
    assert not caplog.messages
    dataset(path, (20, 30))
    (message,) = caplog.messages
    assert "1 of 1 images have an EXIF orientation that their size does not settle" in message
    assert "3.png" in message
    assert "boxes_of: upright" in message


def test_missing_and_broken_files_are_for_others_to_say(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 Exif")
    assert not is_unsettled(tmp_path / "broken.jpg", None)
    assert not is_unsettled(tmp_path / "missing.jpg", None)


def test_any_other_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="boxes_of is 'up'; expected 'stored', 'upright' or None"):
        dataset(write(tmp_path, 1, (20, 30)), None, "up")  # type: ignore[arg-type]
