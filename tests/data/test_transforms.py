import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from limbeck.data import (
    ClassificationAugmentation,
    DetectionAugmentation,
    ShuffleDetAugmentation,
)


@pytest.fixture
def sample():
    image = tv_tensors.Image(torch.randint(256, (3, 60, 80), dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes(
        torch.tensor([[10.0, 20, 30, 50]]), format="XYXY", canvas_size=(60, 80)
    )
    return image, {
        "boxes": boxes,
        "labels": torch.tensor([3]),
        "image_id": torch.tensor(9),
        "area": torch.tensor([600.0]),
        "iscrowd": torch.tensor([0]),
    }


def scaled(image):
    return F.to_dtype(image, torch.float32, scale=True)


def test_evaluation_of_detectors_changes_nothing(sample):
    image, target = DetectionAugmentation(short_sides=(32,), flip=1).evaluation()(*sample)
    assert torch.equal(image, sample[0])
    assert target["boxes"].tolist() == [[10, 20, 30, 50]]
    assert target["labels"].dtype == torch.int64


def test_flip(sample):
    image, target = DetectionAugmentation(flip=1.0).training()(*sample)
    assert torch.equal(image, sample[0].flip(-1))
    assert target["boxes"].tolist() == [[50, 20, 70, 50]]
    unchanged, _ = DetectionAugmentation(flip=0.0).training()(*sample)
    assert torch.equal(unchanged, sample[0])


def test_vertical_flip(sample):
    image, target = DetectionAugmentation(flip=0.0, vertical_flip=1.0).training()(*sample)
    assert torch.equal(image, sample[0].flip(-2))
    assert target["boxes"].tolist() == [[10, 10, 30, 40]]


def test_jitter_moves_nothing_and_keeps_the_order_of_channels(sample):
    image = tv_tensors.Image(torch.full((3, 60, 80), 100, dtype=torch.uint8))
    image[0] = 160
    jitter = DetectionAugmentation(flip=0, jitter=0.3).training()
    jittered = [jitter(image, sample[1]) for _ in range(5)]
    assert len({float(scaled(each).mean()) for each, _ in jittered}) == 5
    assert all((each[0] > each[1]).all() for each, _ in jittered)
    assert all(torch.equal(t["boxes"], sample[1]["boxes"]) for _, t in jittered)


def test_resizing_moves_boxes_and_areas(sample):
    image, target = DetectionAugmentation(short_sides=(30,), flip=0).training()(*sample)
    assert (image.shape, image.dtype) == ((3, 30, 40), torch.uint8)
    assert target["boxes"].tolist() == [[5, 10, 15, 25]]
    assert target["boxes"].canvas_size == (30, 40)
    assert target["area"].tolist() == [150]
    assert sample[1]["area"].tolist() == [600]


def test_the_long_side_wins(sample):
    augmentation = DetectionAugmentation(short_sides=(40,), long_side=40)
    assert augmentation.training()(*sample)[0].shape == (3, 30, 40)


def test_short_sides_are_drawn(sample):
    training = DetectionAugmentation(short_sides=(30, 45)).training()
    assert {training(*sample)[0].shape[1] for _ in range(20)} == {30, 45}


def test_short_sides_are_drawn_from_a_range(sample):
    training = DetectionAugmentation(short_side_range=(30, 32)).training()
    assert {training(*sample)[0].shape[1] for _ in range(30)} == {30, 31, 32}


def test_photometric_distortion_moves_nothing(sample):
    image, target = DetectionAugmentation(flip=0, photometric=1.0).training()(*sample)
    assert (scaled(image) - scaled(sample[0])).abs().mean() > 0.01
    assert image.dtype == torch.uint8
    assert target["boxes"].tolist() == [[10, 20, 30, 50]]


def test_one_size_for_every_image(sample):
    image, target = DetectionAugmentation(size=(30, 80), flip=0).training()(*sample)
    assert image.shape == (3, 30, 80)
    assert target["boxes"].tolist() == [[10, 10, 30, 25]]
    assert target["area"].tolist() == [300]


def test_zoom_out_moves_objects_on_a_grey_canvas(sample):
    zoom = DetectionAugmentation(zoom_out=1.0, flip=0).training()
    image, target = zoom(*sample)
    assert image[0].numel() > 60 * 80
    assert target["boxes"].canvas_size == tuple(image.shape[1:])
    left, top, right, bottom = (int(side) for side in target["boxes"][0])
    assert torch.equal(image[:, top:bottom, left:right], sample[0][:, 20:50, 10:30])
    assert (right - left, bottom - top, target["area"].tolist()) == (20, 30, [600])
    corners = image[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == GREY[:, None]).all(dim=0).any()


def test_a_crop_keeps_what_belongs_to_the_objects_in_it(sample):
    boxes = torch.tensor([[0.0, 0, 20, 20], [30, 20, 50, 40], [60, 40, 80, 60]])
    many = sample[1] | {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(60, 80)),
        "labels": torch.tensor([1, 2, 3]),
        "area": torch.tensor([400.0, 10.0, 400.0]),
        "iscrowd": torch.tensor([0, 0, 0]),
        "difficult": torch.tensor([False, True, False]),
    }
    crop = DetectionAugmentation(iou_crop=True, size=(60, 80), flip=0).training()
    found = [crop(sample[0], many) for _ in range(40)]
    assert {image.shape for image, _ in found} == {(3, 60, 80)}
    assert {len(target["labels"]) for _, target in found} == {1, 2, 3}
    for _, target in found:
        count = len(target["labels"])
        assert count == len(target["boxes"]) == len(target["area"]) == len(target["iscrowd"])
        assert target["difficult"].tolist() == [label == 2 for label in target["labels"]]
        sides = target["boxes"][:, 2:] - target["boxes"][:, :2]
        assert (sides > 0).all()
        assert (target["area"] <= sides.prod(dim=1) + 1e-3).all()


def test_a_crop_of_an_image_without_objects(sample):
    boxes = torch.zeros(0, 4)
    empty = sample[1] | {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(60, 80)),
        "labels": torch.zeros(0, dtype=torch.int64),
        "area": torch.zeros(0),
        "iscrowd": torch.zeros(0, dtype=torch.int64),
    }
    image, target = DetectionAugmentation(iou_crop=True, flip=0).training()(sample[0], empty)
    assert image.shape == (3, 60, 80)
    assert target["boxes"].shape == (0, 4)


def test_an_image_of_a_few_pixels_is_not_cropped(sample):
    """v2.RandomIoUCrop divides by the height that is left of it, which may be none."""
    crop = DetectionAugmentation(iou_crop=True, size=(64, 64), flip=0).training()
    boxes = torch.tensor([[1.0, 0.0, 30.0, 3.0]])
    narrow = sample[1] | {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(3, 80))
    }
    found = [crop(sample[0][:, :3], narrow) for _ in range(40)]
    assert all(len(target["boxes"]) == 1 for _, target in found)


@pytest.mark.parametrize("wrong", [{"size": (30, 0)}, {"size": (30, 40), "short_sides": (30,)}])
def test_sizes_that_do_not_suit_are_refused(wrong):
    with pytest.raises(ValueError, match=r"size is [\[(]30"):
        DetectionAugmentation(**wrong)


def test_one_size_for_every_image_of_a_batch(sample):
    lower = (sample[0][:, :30], sample[1] | {"boxes": F.crop(sample[1]["boxes"], 0, 0, 30, 80)})
    augmentation = DetectionAugmentation(sizes=((30, 80), (120, 40)), flip=0)
    one = augmentation.training_batch()
    found = {}
    for _ in range(20):
        batch = one([sample, lower])
        (size,) = {tuple(image.shape[1:]) for image, _ in batch}
        found[size] = [(t["boxes"].tolist(), t["area"].tolist()) for _, t in batch]
    assert found.keys() == {(30, 80), (120, 40)}
    assert found[30, 80] == [([[10, 10, 30, 25]], [300]), ([[10, 20, 30, 30]], [600])]
    assert torch.equal(augmentation.training()(*sample)[0], scaled(sample[0]))  # not rounded twice
    assert DetectionAugmentation().training_batch() is None


GREY = torch.tensor([124, 116, 104], dtype=torch.uint8)
PLAIN = {"brightness": 0, "contrast": (1, 1), "saturation": (1, 1), "drift": (0, 0), "flip": 0}


def shuffledet(sample, **options):
    return ShuffleDetAugmentation(**{"size": (60, 80)} | PLAIN | options).training()(*sample)


def test_shuffledet_as_published(sample):
    augmentation = ShuffleDetAugmentation()
    image, target = augmentation.training()(*sample)
    assert (image.shape, image.dtype) == ((3, 384, 1248), torch.uint8)
    assert target["boxes"].canvas_size == (384, 1248)
    assert torch.equal(augmentation.evaluation()(*sample)[0], sample[0])


def test_shuffledet_changes_brightness_by_an_integer(sample):
    drawn = set()
    for _ in range(100):
        image, target = shuffledet(sample, brightness=2)
        change = image.short() - sample[0].short()
        inside = (sample[0] >= 2) & (sample[0] <= 253)
        (by,) = change[inside].unique().tolist()
        drawn.add(by)
        assert torch.equal(image, (sample[0].short() + by).clamp(0, 255).to(torch.uint8))
        assert torch.equal(target["boxes"], sample[1]["boxes"])
    assert drawn == {-2, -1, 0, 1, 2}


def test_shuffledet_changes_contrast_by_a_factor(sample):
    image, _ = shuffledet(sample, contrast=(0.5, 0.5))
    assert torch.equal(image, sample[0] // 2)


def test_shuffledet_blends_with_the_grey_image(sample):
    image, _ = shuffledet(sample, saturation=(1.5, 1.5))
    assert torch.equal(image, F.adjust_saturation(sample[0], 1.5))
    grey, _ = shuffledet(sample, saturation=(0, 0))
    assert torch.equal(grey[0], grey[1])


def drift(sample, count, most):
    """Images before they are resized, by how far along x and y they drifted."""
    found = {}
    drifting = ShuffleDetAugmentation(**PLAIN | {"drift": most}).training().transforms[3]
    for _ in range(count):
        image, target = drifting(*sample)
        found[80 - image.shape[2], 60 - image.shape[1]] = image, target
    return found


def test_drift_cuts_or_pads_left_and_top(sample):
    found = drift(sample, 200, (3, 2))
    assert found.keys() == {(x, y) for x in range(-3, 4) for y in range(-2, 3)}
    for (x, y), (image, target) in found.items():
        assert target["boxes"].tolist() == [[10 - x, 20 - y, 30 - x, 50 - y]]
        assert target["boxes"].canvas_size == (60 - y, 80 - x) == tuple(image.shape[1:])
        assert target["area"].tolist() == [600]
        kept = sample[0][:, max(y, 0) :, max(x, 0) :]
        assert torch.equal(image[:, max(-y, 0) :, max(-x, 0) :], kept)
        assert (image[:, : max(-y, 0)] == GREY[:, None, None]).all()
        assert (image[:, :, : max(-x, 0)] == GREY[:, None, None]).all()


def test_drift_touches_no_object(sample):
    x, y = zip(*drift(sample, 400, (14, 24)), strict=True)
    assert (min(x), max(x), min(y), max(y)) == (-14, 9, -24, 19)
    corner = tv_tensors.BoundingBoxes(
        torch.tensor([[0.5, 0, 9, 9]]), format="XYXY", canvas_size=(60, 80)
    )
    x, y = zip(*drift((sample[0], sample[1] | {"boxes": corner}), 100, (2, 2)), strict=True)
    assert (set(x), set(y)) == ({-2, -1, 0}, {-2, -1})


def test_drift_without_objects_leaves_some_of_the_image(sample):
    none = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(60, 80))
    empty = (sample[0], sample[1] | {"boxes": none, "area": torch.zeros(0)})
    found = drift(empty, 1000, (150, 100))
    x, y = zip(*found, strict=True)
    assert (max(x), max(y)) == (79, 59)
    assert -150 <= min(x) < -140
    assert all(target["boxes"].shape == (0, 4) for _, target in found.values())


@settings(max_examples=30)
@given(
    seed=st.integers(0, 999),
    width=st.integers(2, 70),
    height=st.integers(2, 50),
    x=st.integers(0, 9),
    y=st.integers(0, 9),
)
def test_shuffledet_moves_boxes_with_their_pixels(seed, width, height, x, y):
    """A box around what is white is around it still."""
    image = torch.zeros(3, 60, 80, dtype=torch.uint8)
    image[:, y : y + height, x : x + width] = 255
    box = torch.tensor([[x, y, x + width, y + height]]).float()
    target = {
        "boxes": tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(60, 80)),
        "area": box[:, 2:].sub(box[:, :2]).prod(dim=1),
    }
    torch.manual_seed(seed)
    geometry = {"flip": 0.5, "drift": (20, 20), "size": (180, 240)}
    moved, target = shuffledet((tv_tensors.Image(image), target), **geometry)
    white = (moved[0] > 0.75 * 255).nonzero()
    (left, top, right, bottom), area = target["boxes"][0].tolist(), target["area"].item()
    expected = pytest.approx([left, top, right, bottom], abs=2)
    assert [*white.amin(0).flip(0).tolist(), *(white.amax(0).flip(0) + 1).tolist()] == expected
    assert area == pytest.approx((right - left) * (bottom - top), rel=1e-3)


def test_training_of_classifiers(sample):
    training = ClassificationAugmentation(size=32).training()
    image, label = training(sample[0], torch.tensor(4))
    assert (image.shape, image.dtype) == ((3, 32, 32), torch.uint8)
    assert label.item() == 4
    assert not torch.equal(image, training(sample[0], torch.tensor(4))[0])


def test_training_of_classifiers_without_randomness(sample):
    augmentation = ClassificationAugmentation(size=60, scale=(1.0, 1.0), flip=1.0)
    square = tv_tensors.Image(sample[0][..., :60])
    image, _ = augmentation.training()(square, torch.tensor(0))
    assert torch.equal(image, square.flip(-1))


def test_crops_out_of_a_padded_image_are_not_resized():
    image = tv_tensors.Image(torch.full((3, 32, 32), 200, dtype=torch.uint8))
    training = ClassificationAugmentation(size=32, padding=4, resize=32).training()
    crops = [training(image, torch.tensor(0))[0] for _ in range(20)]
    assert {tuple(crop.shape) for crop in crops} == {(3, 32, 32)}
    seen = {value for crop in crops for value in crop.unique().tolist()}
    assert seen == {0, 200}
    black = torch.stack([(crop == 0).float().mean() for crop in crops])
    assert black.unique().numel() > 3
    assert black.max() <= 1 - (28 / 32) ** 2


def test_an_image_that_is_too_small_for_the_crop_is_padded_more():
    image = tv_tensors.Image(torch.full((3, 16, 16), 200, dtype=torch.uint8))
    training = ClassificationAugmentation(size=32, padding=4, resize=32).training()
    assert training(image, torch.tensor(0))[0].shape == (3, 32, 32)


def test_jitter_changes_colours(sample):
    square = tv_tensors.Image(sample[0][..., :60])
    plain = ClassificationAugmentation(size=60, scale=(1.0, 1.0), flip=0, jitter=0.5)
    image, _ = plain.training()(square, torch.tensor(0))
    assert (scaled(image).mean((1, 2)) - scaled(square).mean((1, 2))).abs().max() > 0.01


@pytest.mark.parametrize(("resize", "shorter"), [(None, 37), (32, 32)])
def test_evaluation_of_classifiers(sample, resize, shorter):
    augmentation = ClassificationAugmentation(size=32, resize=resize)
    image, _ = augmentation.evaluation()(sample[0], torch.tensor(0))
    expected = F.center_crop(F.resize(sample[0], [shorter]), [32])
    assert torch.equal(image, expected)


def test_imagenet_evaluation_is_256_and_224():
    image = tv_tensors.Image(torch.zeros(3, 256, 300, dtype=torch.uint8))
    image[:, 16:240] = 255  # what a central crop of 224 sees
    result, _ = ClassificationAugmentation().evaluation()(image, torch.tensor(0))
    assert result.shape == (3, 224, 224)
    assert result.min() == 255


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DetectionAugmentation(long_side=500), "long_side is 500, but short_sides"),
        (lambda: DetectionAugmentation(short_side_range=(800, 640)), r"range is \(800, 640\)"),
        (
            lambda: DetectionAugmentation(short_sides=(5,), short_side_range=(5, 6)),
            "expected one of them",
        ),
        (
            lambda: DetectionAugmentation(sizes=((5, 5),), size=(5, 5)),
            r"sizes is \(\(5, 5\),\), size",
        ),
        (lambda: DetectionAugmentation(sizes=((5, 5),), short_sides=(5,)), "expected one of them"),
        (lambda: DetectionAugmentation(sizes=()), r"sizes is \(\), size None"),
        (lambda: DetectionAugmentation(sizes=((5, 0),)), r"sizes is \[\[5, 0\]\]; expected"),
        (lambda: ShuffleDetAugmentation(size=(0, 5)), r"size is \[0, 5\]; expected"),
        (lambda: ShuffleDetAugmentation(drift=(5, -1)), r"drift is \[5, -1\]; expected"),
        (lambda: ShuffleDetAugmentation(contrast=(2, 1)), r"contrast is \(2, 1\); expected 0 <="),
        (lambda: ShuffleDetAugmentation(saturation=(-1, 1)), r"saturation is \[-1, 1\]"),
        (lambda: ShuffleDetAugmentation(flip=1.5), "flip is 1.5"),
        (lambda: DetectionAugmentation(flip=1.5), "flip is 1.5"),
        (lambda: DetectionAugmentation(photometric=-0.1), "photometric is -0.1"),
        (lambda: ClassificationAugmentation(flip=2), "flip is 2"),
        (lambda: DetectionAugmentation(short_sides=(-240,), long_side=320), r"short_sides is"),
        (lambda: DetectionAugmentation(short_sides=(640,), long_side=320), "long_side is 320"),
        (lambda: DetectionAugmentation(short_sides=(10**6,)), "short_sides is"),
        (lambda: DetectionAugmentation(jitter=-0.2), "jitter is -0.2"),
        (lambda: ClassificationAugmentation(size=-48), "size is -48"),
        (lambda: ClassificationAugmentation(resize=0), "resize is 0"),
        (lambda: ClassificationAugmentation(jitter=float("nan")), "jitter is nan"),
        (lambda: ClassificationAugmentation(scale=(0.5, 0.1)), r"scale is \(0.5, 0.1\)"),
        (lambda: ClassificationAugmentation(padding=-1), "padding is -1"),
        (
            lambda: ClassificationAugmentation(padding=4, scale=(0.5, 1.0)),
            r"padding is 4 and scale \(0.5, 1.0\)",
        ),
    ],
)
def test_bad_fields(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("size", [(1, 199), (199, 1), (1, 40)])
def test_an_image_of_which_the_long_side_leaves_nothing_is_refused(size) -> None:
    image = tv_tensors.Image(torch.zeros(3, *size, dtype=torch.uint8))
    target = {"boxes": torch.zeros(0, 4), "area": torch.zeros(0)}
    transform = DetectionAugmentation(short_sides=(20,), long_side=40).training()
    with pytest.raises(ValueError, match=r"of which a long_side of 40 leaves no pixel"):
        transform(image, target)
    resized, _ = transform(image[:, :1, :39], target)
    assert min(resized.shape) >= 1
