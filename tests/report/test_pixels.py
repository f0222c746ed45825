from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from limbeck.report.pixels import save_over, software_of
from limbeck.report.style import is_replaceable

DPI = 128


def figure_of(height: int, width: int) -> Figure:
    """A box with soft edges and a word, on axes whose corners are those of the pixels."""
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    axis.add_patch(Rectangle((3.3, 4.4), 20.7, 10.1, fill=False, edgecolor="red", snap=False))
    axis.text(9, 30, "cat", fontsize=7, bbox={"facecolor": "blue"})
    return figure


@pytest.mark.parametrize("size", [(40, 64), (97, 133), (41, 33)])
def test_a_figure_over_pixels_is_what_matplotlib_draws_over_an_image(
    size: tuple[int, int], tmp_path: Path
) -> None:
    height, width = size
    image = torch.rand(3, height, width) * 1.2 - 0.1
    save_over(image, figure_of(*size), tmp_path / "ours.png")
    slow = figure_of(*size)
    pixels = image.clamp(0, 1).permute(1, 2, 0).numpy()
    slow.axes[0].imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    slow.savefig(tmp_path / "theirs.png", dpi=DPI)
    ours, theirs = (PIL.Image.open(tmp_path / f"{name}.png") for name in ("ours", "theirs"))
    assert ours.mode == "RGB"
    assert np.array_equal(np.asarray(ours), np.asarray(theirs.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_the_file_says_which_program_it_is_from(suffix: str, tmp_path: Path) -> None:
    path, silent = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save_over(torch.rand(3, 32, 32), figure_of(32, 32), path, "limbeck predict")
    save_over(torch.rand(3, 32, 32), figure_of(32, 32), silent)
    with PIL.Image.open(path) as picture, PIL.Image.open(silent) as other:
        assert (picture.size, picture.format) == ((32, 32), other.format)
        assert (software_of(picture), software_of(other)) == ("limbeck predict", None)
    assert is_replaceable(path, "limbeck predict")
    assert not is_replaceable(path, "limbeck inspect")
    assert not is_replaceable(silent, "limbeck predict")


def test_a_jpeg_is_the_smooth_image_but_for_little(tmp_path: Path) -> None:
    shade = torch.linspace(0, 1, 200)[:, None] * torch.linspace(0, 1, 300)
    figure = Figure(figsize=(300 / DPI, 200 / DPI), dpi=DPI)
    save_over(torch.stack([shade, 1 - shade, shade]), figure, tmp_path / "a.jpg")
    save_over(torch.stack([shade, 1 - shade, shade]), figure, tmp_path / "a.png")
    jpeg, png = (
        np.asarray(PIL.Image.open(tmp_path / f"a.{s}")).astype(int) for s in ("jpg", "png")
    )
    assert np.abs(jpeg - png).max() < 8


def test_a_picture_stays_until_the_next_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "a.png"
    save_over(torch.rand(3, 32, 32), figure_of(32, 32), out)
    before = out.read_bytes()

    def cut_off(_: PIL.Image.Image, path: Path, *__: object, **___: object) -> None:
        path.write_bytes(b"\x89PNG")
        raise KeyboardInterrupt

    monkeypatch.setattr(PIL.Image.Image, "save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        save_over(torch.rand(3, 32, 32), figure_of(32, 32), out)
    assert out.read_bytes() == before
