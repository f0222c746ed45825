from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import ImageDraw

from limbeck.report.drawing import contrast, drawn, letters_of, readable_on
from limbeck.report.style import COLOURS

CLASSES = ["circle", "square"]
Written = list[tuple[str, tuple[float, float, float, float]]]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Written:
    """The texts that are drawn, each with the rectangle that its letters fill."""
    found: Written = []
    draw = ImageDraw.ImageDraw.text

    def note(self: ImageDraw.ImageDraw, at: tuple[int, int], text: str, **options: object) -> None:
        found.append((text, self.textbbox(at, text, font=options["font"])))
        draw(self, at, text, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", note)
    return found


def found(corners: Sequence[Sequence[float]], *labels: int, scores: Sequence[float] = ()):
    item = {"boxes": torch.tensor(corners), "labels": torch.tensor(labels)}
    return {**item, "scores": torch.tensor(scores)} if scores else item


def test_names_and_scores_are_written_and_the_background_has_none(written: Written) -> None:
    corners = [[20.0, 40, 60, 80], [120.0, 40, 180, 80], [20.0, 120, 60, 180]]
    image = torch.zeros(3, 200, 200)
    drawn(image, found(corners, 1, 2, 0, scores=[0.399, 0.912, 0.8]), CLASSES)
    assert [text for text, _ in written] == ["square 0.91", "circle 0.40"]
    written.clear()
    drawn(image, found(corners, 1, 2, 0), CLASSES)
    assert [text for text, _ in written] == ["circle", "square"]
    written.clear()
    drawn(image, found(corners[:1], 7, scores=[0.25]), [])
    drawn(image, found(corners[:1], 7, scores=[0.25]), [], named=False)
    assert [text for text, _ in written] == ["7 0.25"]


@pytest.mark.parametrize("corner", [(0, 0), (180, 0), (0, 180), (180, 180), (90, 90)])
@pytest.mark.parametrize("name", ["circle", "a name that is wider than the whole image is " * 2])
def test_names_stay_within_the_picture(
    corner: tuple[int, int], name: str, written: Written
) -> None:
    x, y = corner
    item = found([[x, y, x + 20.0, y + 20]], 1, scores=[0.5])
    drawn(torch.zeros(3, 200, 200), item, [name])
    ((_, (x1, y1, x2, y2)),) = written
    assert x1 >= 0 <= y1
    assert x2 <= 200 >= y2


def test_letters_grow_with_the_image() -> None:
    sizes = [letters_of((side * 2, side)) for side in (50, 200, 450, 1080, 3000)]
    assert sizes == [10, 13, 13, 27, 75]


@pytest.mark.parametrize("colour", [*COLOURS, "#000000", "#ffffff", "#777777"])
def test_letters_have_the_contrast_that_wcag_asks_for(colour: str) -> None:
    assert contrast(colour, readable_on(colour)) >= 4.5


def test_contrasts_are_those_of_wcag() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_names_cover_neither_each_other_nor_half_of_a_box(written: Written) -> None:
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 270, (150, 2)).astype(np.float32)
    boxes = np.concatenate([starts, starts + 20], axis=1)
    scores = np.linspace(0.9, 0.4, 150).tolist()
    drawn(torch.zeros(3, 300, 300), found(boxes.tolist(), *[1] * 150, scores=scores), CLASSES)
    places = np.array([place for _, place in written])
    assert 5 < len(places) < 150
    for number, place in enumerate(places):
        for others, most in ((boxes, 0.5 * 400), (np.delete(places, number, axis=0), 0)):
            ends = np.minimum(others[:, 2:], place[2:]) - np.maximum(others[:, :2], place[:2])
            assert ends.clip(0).prod(axis=1).max() <= most


def test_frames_stand_around_the_pixels_and_leave_the_others() -> None:
    image = torch.rand(3, 60, 60)
    before = image.mul(255).byte().permute(1, 2, 0).numpy()
    same = np.asarray(drawn(image, found([[20.0, 20, 40, 40]], 1), [], named=False)) == before
    changed = np.argwhere(~same.all(axis=2))
    assert changed.min() >= 18
    assert changed.max() <= 41
    assert same[22:38, 22:38].all()
    background = np.asarray(drawn(image, found([[20.0, 20, 40, 40]], 0), CLASSES))
    assert (background[20, 20:40] == (0xF0, 0xE4, 0x42)).all()
