from pathlib import Path

import PIL.Image
import pytest
import torch
from matplotlib.image import imread

from limbeck.report import (
    Example,
    detection_grid,
    detection_picture,
    image_grid,
    overlay_grid,
)
from tests.report.test_curves import texts

CLASSES = ["circle", "square"]


def boxes(*labels: int, scores: list[float] | None = None) -> dict[str, torch.Tensor]:
    item = {
        "boxes": torch.tensor([[8.0, 8, 24, 24]] * len(labels)).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }
    return item if scores is None else {**item, "scores": torch.tensor(scores)}


def test_boxes_below_the_threshold_are_not_drawn(tmp_path):
    images = [torch.zeros(3, 32, 32)]
    for score in (0.4, 0.399):
        columns = {"student": [boxes(1, scores=[score])]}
        detection_grid(images, columns, CLASSES, tmp_path / "new" / f"{score}.png")
    above, below = (imread(tmp_path / "new" / f"{score}.png")[..., 2] for score in (0.4, 0.399))
    assert (above != below).any()
    columns["student"] = [boxes(scores=[])]
    detection_grid(images, columns, CLASSES, tmp_path / "none.png")
    assert (imread(tmp_path / "none.png")[..., 2] == below).all()


def test_boxes_frame_their_pixels(tmp_path):
    """A box drawn over a black square of the same place covers its rim and nothing else."""
    image = torch.ones(3, 32, 32)
    image[:, 8:24, 8:24] = 0
    detection_grid([image], {"": [boxes(1)]}, CLASSES, tmp_path / "a.png")
    detection_grid([image], {"": [boxes()]}, CLASSES, tmp_path / "b.png")
    framed, bare = (imread(tmp_path / name)[..., :3] for name in ("a.png", "b.png"))
    black = (bare.sum(axis=2) == 0).nonzero()
    top, left, bottom, right = (*map(min, black), *map(max, black))
    blue = (framed[..., 2] > 0.6) & (framed[..., 0] < 0.1)
    rows, columns = (
        blue[(top + bottom) // 2].nonzero()[0],
        blue[:, (left + right) // 2].nonzero()[0],
    )
    assert (rows.min(), rows.max()) == pytest.approx((left, right), abs=4)
    assert columns.max() == pytest.approx(bottom, abs=4)
    assert framed[(top + bottom) // 2, (left + right) // 2].sum() == 0


def test_small_and_wide_images_are_drawn_as_wide(tmp_path):
    out = tmp_path / "grid.png"
    images = [torch.rand(3, 16, 32), torch.rand(3, 200, 100)]
    detection_grid(images, {"truth": [boxes(), boxes()]}, CLASSES, out)
    height, width = imread(out).shape[:2]
    assert width == 390
    assert height == pytest.approx(390 * 1.5, rel=0.15)


def pixels(path):
    return torch.from_numpy(imread(path)[..., :3]).mul(255).round().byte().permute(2, 0, 1)


@pytest.mark.parametrize("size", [(32, 32), (97, 133), (333, 501)])
def test_a_picture_of_one_image_has_its_pixels(tmp_path, size):
    image = torch.randint(256, (3, *size), dtype=torch.uint8)
    detection_picture(image / 255, boxes(scores=[]), CLASSES, tmp_path / "bare.png")
    assert torch.equal(pixels(tmp_path / "bare.png"), image)
    detection_picture(image / 255, boxes(2, scores=[0.9]), CLASSES, tmp_path / "framed.png")
    same = (pixels(tmp_path / "framed.png") == image).all(0)
    assert same[44:].all()
    assert not same[8:24, 7].any()  # the frame stands around the pixels of the box


def test_very_large_images_are_drawn_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr("limbeck.report.pictures.MOST_DRAWN", 64 * 32)
    image = torch.zeros(3, 128, 64)
    found = boxes(2, scores=[0.9])
    found["boxes"] = found["boxes"] * 2
    detection_picture(image, found, CLASSES, tmp_path / "large.png")
    drawn = pixels(tmp_path / "large.png")
    assert drawn.shape == (3, 64, 32)
    assert drawn[:, 16, 7].any()  # the left side of the box, at half its place
    assert not drawn[:, 40:].any()
    assert found["boxes"].max() == 48  # which stays as it was


@pytest.mark.parametrize(
    ("images", "columns", "message"),
    [
        ([], {"truth": []}, "0 images"),
        ([torch.rand(3, 8, 8)], {}, "0 columns"),
        ([torch.rand(3, 8, 8)], {"student": []}, "column 'student' has boxes for 0 images"),
    ],
)
def test_what_cannot_be_drawn_is_refused(tmp_path, images, columns, message):
    with pytest.raises(ValueError, match=message):
        detection_grid(images, columns, CLASSES, tmp_path / "grid.png")


def test_overlays_colour_what_they_cover_and_nothing_else(tmp_path):
    images = [torch.zeros(3, 32, 32)] * 2
    marked = torch.zeros(32, 32)
    marked[:16] = 1
    truth, overlays = [boxes(1), boxes()], {"P3": [marked, torch.zeros(32, 32)]}
    overlay_grid(images, truth, overlays, CLASSES, tmp_path / "a.svg")
    assert sorted(texts(tmp_path / "a.svg")) == ["P3", "objects"]
    overlay_grid(images[1:], truth[1:], {"P3": [marked]}, CLASSES, tmp_path / "b.png")
    picture = imread(tmp_path / "b.png")[..., :3]
    yellow = (picture[..., 0] > 0.3) & (picture[..., 0] < 0.7) & (picture[..., 2] < 0.3)
    rows, columns = yellow.nonzero()
    assert columns.min() > picture.shape[1] / 2  # the second column alone
    assert yellow.sum() == pytest.approx((rows.max() - rows.min() + 1) ** 2 * 2, rel=0.1)
    with pytest.raises(ValueError, match="column 'P3' has boxes for 1 images; expected 2"):
        overlay_grid(images, truth, {"P3": [marked]}, CLASSES, tmp_path / "c.png")


def test_boxes_over_images_are_those_of_objects_and_of_the_background(tmp_path):
    background = {"boxes": torch.tensor([[4.0, 4, 28, 28]]), "labels": torch.tensor([0])}
    overlays = {"objects' regions": [boxes(1)], "others": [background], "none": [boxes()]}
    overlay_grid([torch.zeros(3, 32, 32)], [boxes(1)], overlays, CLASSES, tmp_path / "a.png")
    picture = imread(tmp_path / "a.png")[..., :3]
    yellow = (picture[..., 0] > 0.3) & (picture[..., 1] > 0.3) & (picture[..., 2] < 0.25)
    _, columns = yellow.nonzero()
    quarter = picture.shape[1] / 4
    assert 2 * quarter < columns.min() <= columns.max() < 3 * quarter  # the third column alone


@pytest.mark.parametrize(
    "name", ["$x$", r"$\frac$", "a\nb\x1b", "x" * 5000, "[/red]", "\ud800", r"\$", "_x"]
)
def test_any_name_is_drawn_as_text(name, tmp_path):
    found = {"boxes": torch.tensor([[1.0, 2.0, 30.0, 40.0]]), "labels": torch.tensor([1])}
    image = torch.rand(3, 48, 64)
    detection_picture(image, found, [name], tmp_path / "a.png")
    detection_grid([image], {name: [found]}, [name], tmp_path / "b.png")
    assert imread(tmp_path / "a.png").shape[:2] == (48, 64)


@pytest.mark.parametrize("label", [0, 1])
def test_regions_beyond_the_image_leave_it_in_its_place(tmp_path, label):
    image, drawn = torch.rand(3, 32, 32), []
    for sides in (20.0, 90.0):
        of_method = {"boxes": torch.tensor([[16.0, 16, sides, sides]])}
        overlays = {"P3": [of_method | {"labels": torch.tensor([label])}]}
        overlay_grid([image], [boxes()], overlays, CLASSES, tmp_path / "a.png")
        drawn.append(pixels(tmp_path / "a.png"))
    _, height, width = drawn[0].shape
    upper = [each[:, : height // 2, : width * 7 // 10] for each in drawn]
    assert torch.equal(*upper)


def test_a_grid_of_images_has_a_cell_for_each(tmp_path: Path) -> None:
    images = [torch.rand(3, 32, 48), torch.rand(3, 48, 32), torch.rand(3, 32, 32)]
    crowded = {"boxes": torch.tensor([[1.0, 1.0, 9.0, 9.0]] * 50), "labels": torch.ones(50).long()}
    examples = [
        Example(images[0], "train", boxes(1), CLASSES),
        Example(images[1], "val", crowded, CLASSES),
        Example(images[2], "val: a class"),
    ]
    image_grid(examples, tmp_path / "a.png", "a program", columns=2)
    with PIL.Image.open(tmp_path / "a.png") as picture:
        assert picture.info["Software"] == "a program"
        assert picture.width < picture.height * 1.5
    with pytest.raises(ValueError, match="no image to draw"):
        image_grid([], tmp_path / "b.png")
