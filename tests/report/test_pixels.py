from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from limbeck.report.pixels import software_of, write_picture
from limbeck.report.style import is_replaceable


def picture(height: int = 32, width: int = 32) -> PIL.Image.Image:
    """A smooth one, with as many colours as there are pixels."""
    shade = np.linspace(0, 1, height)[:, None] * np.linspace(0, 255, width)
    return PIL.Image.fromarray(np.stack([shade, 255 - shade, shade], axis=2).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_the_file_says_which_program_it_is_from(suffix: str, tmp_path: Path) -> None:
    path, silent = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write_picture(picture(), path, "limbeck predict")
    write_picture(picture(), silent)
    with PIL.Image.open(path) as opened, PIL.Image.open(silent) as other:
        assert (opened.size, opened.format) == ((32, 32), other.format)
        assert (software_of(opened), software_of(other)) == ("limbeck predict", None)
    assert is_replaceable(path, "limbeck predict")
    assert not is_replaceable(path, "limbeck inspect")
    assert not is_replaceable(silent, "limbeck predict")


def test_a_jpeg_is_the_smooth_image_but_for_little(tmp_path: Path) -> None:
    write_picture(picture(200, 300), tmp_path / "a.jpg")
    write_picture(picture(200, 300), tmp_path / "a.png")
    jpeg, png = (
        np.asarray(PIL.Image.open(tmp_path / f"a.{s}")).astype(int) for s in ("jpg", "png")
    )
    assert np.array_equal(png, np.asarray(picture(200, 300)))
    assert np.abs(jpeg - png).max() < 8


def test_a_picture_stays_until_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.png"
    write_picture(picture(), out)
    before = out.read_bytes()

    def cut_off(_: PIL.Image.Image, path: Path, *__: object, **___: object) -> None:
        path.write_bytes(b"\x89PNG")
        raise KeyboardInterrupt

    monkeypatch.setattr(PIL.Image.Image, "save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_picture(picture(), out)
    assert out.read_bytes() == before
