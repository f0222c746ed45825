import numpy as np
import PIL.Image
import pytest
import torch

from limbeck.data.base import open_image, to_rgb


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGB", (10, 20, 30), (10, 20, 30)),
        ("L", 77, (77, 77, 77)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (10, 20, 30, 128), (10, 20, 30)),
        ("CMYK", (255, 0, 0, 0), (0, 255, 255)),
    ],
)
def test_every_mode_becomes_rgb(mode, colour, expected):
    image = to_rgb(PIL.Image.new(mode, (3, 2), colour))
    assert image.dtype == torch.uint8
    assert image.shape == (3, 2, 3)  # channels, height, width
    assert image[:, 1, 2].tolist() == list(expected)


def test_a_palette_is_looked_up():
    image = PIL.Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 40, 50, 60])
    image.putpixel((1, 0), 1)
    assert to_rgb(image).flatten(1).T.tolist() == [[1, 2, 3], [40, 50, 60]]


def test_a_damaged_image_is_named(tmp_path):
    path = tmp_path / "half.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with (
        pytest.raises(OSError, match=r"half\.jpg: not a readable image .*truncated"),
        open_image(path) as image,
    ):
        to_rgb(image)


def test_what_is_no_image_is_named(tmp_path):
    path = tmp_path / "page.jpg"
    path.write_text("<html>404</html>")
    with pytest.raises(OSError, match=r"page\.jpg: not a readable image"), open_image(path):
        pass


def test_a_missing_image_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"), open_image(tmp_path / "none.jpg"):
        pass
