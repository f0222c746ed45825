import errno
import io
import os
import struct
import subprocess
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.data.base import BadSampleError, open_image, to_rgb


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("LA", (77, 0), (77, 77, 77)),
        ("RGBA", (10, 20, 30, 0), (10, 20, 30)),
        ("RGBX", (10, 20, 30, 0), (10, 20, 30)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
        ("YCbCr", (90, 128, 128), (90, 90, 90)),
        ("I;16", 257 * 33, (33, 33, 33)),
        ("I;16B", 257 * 33, (33, 33, 33)),
        ("I", 65535, (255, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(mode, colour, expected):
    image = to_rgb(PIL.Image.new(mode, (3, 2), colour))
    assert image.dtype == torch.uint8
    assert image.shape == (3, 2, 3)  # channels, height, width
    assert image[:, 1, 2].tolist() == list(expected)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix):
    ramp = np.linspace(0, 65535, 24).round().astype(np.uint16).reshape(4, 6)
    path = tmp_path / f"x-ray.{suffix}"
    PIL.Image.fromarray(ramp).save(path)
    with open_image(path) as file:
        image = to_rgb(file)
    assert image.shape == (3, 4, 6)
    assert image[0].tolist() == (ramp / 257).round().astype(int).tolist()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([[0, 70000]], np.int32), r"range from 0 to 70000; expected 8 or 16 bits"),
        (np.array([[-1, 5]], np.int32), r"range from -1 to 5"),
        (np.array([[0.5]], np.float32), r"pixels are floats; expected 8 or 16 bits"),
    ],
)
def test_pixels_of_an_unknown_range_are_refused(tmp_path, pixels, message):
    path = tmp_path / "depth.tif"
    PIL.Image.fromarray(pixels).save(path)
    with (
        pytest.raises(BadSampleError, match=rf"depth\.tif: .*{message}"),
        open_image(path) as file,
    ):
        to_rgb(file)


@pytest.mark.parametrize("transparency", [None, 0, b"\x00\xff"])
def test_a_palette_is_looked_up(tmp_path, transparency):
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 40, 50, 60])
    image.putpixel((1, 0), 1)
    path = tmp_path / "palette.png"
    image.save(path, **({} if transparency is None else {"transparency": transparency}))
    with warnings.catch_warnings(action="error"), open_image(path) as file:
        assert file.mode == "P"
        assert to_rgb(file).flatten(1).T.tolist() == [[1, 2, 3], [40, 50, 60]]


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "ppm", "tif", "webp"])
def test_damaged_files_are_named(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"photo.{suffix}"
    PIL.Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for kept in (0, 1, 8, 30, len(whole) // 2):
        path.write_bytes(whole[:kept])
        with (
            pytest.raises(BadSampleError, match=rf"photo\.{suffix}: not a readable image \(.*"),
            open_image(path) as file,
        ):
            to_rgb(file)


def test_trouble_of_the_machine_is_no_fault_of_the_image(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (4, 4)).save(path)

    def full(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(PIL.Image, "open", full)
    said = r"a\.png could not be opened .*no fault of the image"
    with pytest.raises(OSError, match=said) as found, open_image(path):
        pass
    assert not isinstance(found.value, BadSampleError)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    (tmp_path / "folder.jpg").mkdir()
    for name, found in (
        ("page", "UnidentifiedImageError"),
        ("folder", "IsADirectory"),
        ("none", "FileNotFound"),
    ):
        with (
            pytest.raises(BadSampleError, match=rf"{name}\.jpg: not a readable image \({found}"),
            open_image(tmp_path / f"{name}.jpg"),
        ):
            pass


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    PIL.Image.new("L", (100, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 4999)
    with pytest.raises(BadSampleError, match=r"bomb\.png: .*10000 pixels.* exceeds limit of 9998"):
        open_image(tmp_path / "bomb.png").__enter__()


def encoded(suffix):
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(stream, suffix)
    return stream.getvalue()


ENCODED = {suffix: encoded(suffix) for suffix in ("png", "jpeg", "gif", "tiff", "bmp", "webp")}


@contextmanager
def small_limit():
    """Of the pixels that a changed header may claim."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10_000)
        yield


@pytest.mark.filterwarnings("ignore")  # of Pillow, about what it could still make sense of
@settings(max_examples=300, derandomize=True)
@given(
    data=st.sampled_from(sorted(ENCODED)),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=8),
    end=st.floats(0, 1),
)
def test_damage_is_a_bad_sample_or_none(tmp_path_factory, data, changes, end):
    content = bytearray(ENCODED[data])
    for where, value in changes:
        content[int(where * (len(content) - 1))] = value
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content[: int(end * len(content)) + 1])
    try:
        with small_limit(), open_image(path) as file:
            assert to_rgb(file).shape[0] == 3
    except BadSampleError as error:
        assert str(path) in str(error)  # noqa: PT017 - damage may go unnoticed


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1), (3, 601)])
def test_an_image_of_extreme_sides_is_refused_by_name(
    size: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "sliver.png"
    PIL.Image.new("L", size).save(path)
    expected = rf"sliver\.png: .*it is {size[1]} x {size[0]} px .*at most 200 : 1\); replace it"
    with pytest.raises(BadSampleError, match=expected), open_image(path) as file:
        to_rgb(file)


def test_a_long_image_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    PIL.Image.new("L", (600, 3)).save(path)
    with open_image(path) as file:
        assert to_rgb(file).shape == (3, 3, 600)


def claiming(path, width, height):
    """A PNG whose header claims a size that its pixels have not."""
    PIL.Image.new("L", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return path


def test_very_large_images_are_refused_by_their_headers(tmp_path, monkeypatch):
    path = claiming(tmp_path / "large.png", 8193, 6144)
    with (
        pytest.raises(BadSampleError, match=r"large\.png has .*8193\), more than 50,331,648"),
        open_image(path),
    ):
        pass
    monkeypatch.setenv("LIMBECK_MOST_PIXELS", str(8193 * 6144))
    with open_image(path) as file:
        assert file.size == (8193, 6144)
    monkeypatch.setenv("LIMBECK_MOST_PIXELS", "many")
    with pytest.raises(BadSampleError, match="LIMBECK_MOST_PIXELS is 'many'"), open_image(path):
        pass


def test_another_size_than_annotated_is_seen_before_it_is_decoded(tmp_path):
    path = claiming(tmp_path / "large.png", 64, 6000)
    with (
        pytest.raises(BadSampleError, match=r"\(6000, 64\), its annotation says \(48, 64\)"),
        open_image(path, (48, 64)),
    ):
        pass
    for annotated in ((6000, 64), (64, 6000), None):  # it may lie on its side
        with open_image(path, annotated) as file:
            assert file.size == (64, 6000)


POSTSCRIPT = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
OTHER_FORMATS = {
    "PostScript": POSTSCRIPT.encode(),
    "XPM": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #000",\n"a"};',
    "GBR": struct.pack(">5I", 28, 2, 1, 1, 4) + b"GIMP" + b"\0" * 16,
    "PPM": b"P6\n1 1\n255\nabc",
}


@pytest.mark.parametrize("kind", OTHER_FORMATS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif"])
def test_other_formats_are_not_opened_and_start_nothing(tmp_path, monkeypatch, kind, suffix):
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program is started"))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(OTHER_FORMATS[kind])
    with (
        pytest.raises(BadSampleError, match=r"not a readable image \(UnidentifiedImageError"),
        open_image(path) as file,
    ):
        to_rgb(file)


def test_a_ppm_goes_by_its_suffix(tmp_path):
    (tmp_path / "a.ppm").write_bytes(OTHER_FORMATS["PPM"])
    with open_image(tmp_path / "a.ppm") as file:
        assert to_rgb(file).flatten().tolist() == list(b"abc")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with (
        pytest.raises(BadSampleError, match=r"a\.png is a pipe or a device"),
        open_image(tmp_path / "a.png"),
    ):
        pass
