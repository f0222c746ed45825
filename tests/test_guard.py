"""What the documentation does not allow is refused, by every model, with one sentence."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck import Distillation, models
from limbeck.guard import refuse_bad_indices, refuse_bad_targets, refuse_malformed
from tests import batches, small_models, tiny_models

NAN, INFINITE = float("nan"), float("inf")
CLASSES = 3


def shuffledet() -> nn.Module:
    shapes = [[14, 14], [30, 30]]
    return models.ShuffleDet(0.25, CLASSES, image_size=(64, 64), anchor_shapes=shapes)


DETECTORS = {
    "limbeck's RetinaNet": lambda: models.RetinaNet(
        **tiny_models.DETECTOR
        | {"backbone": models.BasicBlocks(**tiny_models.BLOCKS), "num_classes": CLASSES}
    ),
    "FCOS": lambda: models.FCOS(
        models.BasicBlocks(**tiny_models.BLOCKS), CLASSES, levels=(3, 4), fpn_channels=32
    ),
    "GFL": lambda: models.GFL(
        models.BasicBlocks(**tiny_models.BLOCKS), CLASSES, levels=(2, 4), fpn_channels=32
    ),
    "ShuffleDet": shuffledet,
    "torchvision's FCOS": lambda: small_models.fcos(),
}


def batch(**changes: Any) -> tuple[list[Tensor], Any]:
    """Two images, of which the second or its target is changed."""
    image = changes.pop("image", torch.rand(3, 64, 64))
    sound = {"boxes": torch.tensor([[12.0, 8, 40, 44]]), "labels": torch.tensor([2])}
    target = {"boxes": torch.tensor([[10.0, 10, 30, 34]]), "labels": torch.tensor([1])} | changes
    return [torch.rand(3, 64, 64), image], [sound, target]


def box(*corners: float) -> dict[str, Tensor]:
    return {"boxes": torch.tensor([corners], dtype=torch.float32)}


def labels(values: Any) -> dict[str, Tensor]:
    return {"labels": torch.tensor(values)}


BAD = [
    (labels([0]), r"targets\[1\]: targets have the label 0; expected 1 to"),
    (labels([-1]), "the label -1; expected 1 to"),
    (labels([small_models.CLASSES + 1]), "the label 5; expected 1 to"),
    (labels([1.0]), r"\['labels'\] is float32 of the shape \(1,\); expected int64"),
    (labels([True]), r"\['labels'\] is bool"),
    (labels([[1]]), r"\['labels'\] is int64 of the shape \(1, 1\)"),
    (labels([1, 2]), "1 boxes and 2 labels; expected one label a box"),
    (box(10, 10, 10, 30), r"sides \[0.0, 20.0\].*Leave such boxes out"),
    (box(30, 34, 10, 10), "Convert boxes that are x y width height"),
    (box(10, 10, NAN, 30), "expected finite numbers"),
    (box(10, 10, INFINITE, 30), "expected finite numbers"),
    (box(10, 10, 30, 30, 1), r"\['boxes'\] is float32 of the shape \(1, 5\)"),
    ({"boxes": torch.tensor([10.0, 10, 30, 30])}, r"of the shape \(4,\)"),
    ({"boxes": torch.tensor([[10, 10, 30, 30]])}, r"\['boxes'\] is int64"),
    (box(0.1, 0.1, 0.4, 0.5), "relative to the image"),
    (box(200, 200, 300, 300), "lies outside of its image"),
    ({"boxes": [[10.0, 10, 30, 30]]}, "is a list; expected a tensor"),
    ({"image": torch.rand(3, 64, 64) * 255}, r"images\[1\] holds values of .* Divide by 255"),
    ({"image": torch.rand(3, 64, 64) * 4 - 2}, r"images\[1\] holds values.* models normalise"),
    ({"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}, r"images\[1\] is uint8.*Divide by 255"),
    ({"image": torch.full((3, 64, 64), NAN)}, r"images\[1\] holds values of NaN"),
    ({"image": torch.rand(1, 64, 64)}, r"images\[1\] is \(1, 64, 64\); expected RGB images"),
    ({"image": torch.rand(64, 64, 3)}, "permute images whose channels come last"),
]


@pytest.mark.parametrize("make", DETECTORS.values(), ids=DETECTORS)
def test_every_detector_refuses_the_same(make) -> None:
    pair = Distillation(make())
    optimizer = torch.optim.SGD(pair.trainable_parameters(), lr=0.01)
    pair.check(*batch(), optimizer)
    for changes, message in BAD:
        with pytest.raises(ValueError, match=message):
            pair.check(*batch(**changes), optimizer)
    images, targets = batch()
    for wrong, message in [
        ((images, targets[:1]), "2 images and 1 targets"),
        (([], []), "images is empty"),
        ((images, None), "targets is None in training mode"),
        ((images, tuple(targets)), r"targets is a tuple; expected a list .*Call list\(\)"),
        ((images, [{"boxes": torch.zeros(0, 4)}] * 2), r"targets\[0\] is \['boxes'\]; expected"),
    ]:
        with pytest.raises(ValueError, match=message):
            pair.check(*wrong, optimizer)


def test_an_image_without_objects_is_sound() -> None:
    pair = Distillation(tiny_models.detector())
    pair.check(list(batches.pictures()), [batches.targets(1)[0], batches.nothing()])
    refuse_bad_targets([batches.nothing()], 3)


def test_labels_are_refused_in_every_step_where_that_needs_no_wait() -> None:
    pair = Distillation(tiny_models.detector())
    with pytest.raises(ValueError, match="the label 9; expected 1 to 5"):
        pair(*batch(**labels([9])))


@pytest.mark.parametrize("kind", ["torchvision", "limbeck"])
def test_classifiers_refuse_the_same(kind: str) -> None:
    student = small_models.resnet() if kind == "torchvision" else tiny_models.classifier(classes=4)
    pair = Distillation(student)
    images, classes = batches.pictures(), batches.labels()
    pair.check(images, classes)
    for wrong, message in [
        ((images, torch.tensor([0, 4])), "the class index 4; expected 0 to 3"),
        ((images, torch.tensor([0, -100])), "the class index -100; expected 0 to 3"),
        ((images, classes.float()), "targets are float32.*class indices, int64"),
        ((images, classes[:1]), r"of the shape \(1,\) for 2 images"),
        ((images * 255, classes), "Divide by 255"),
        (((images * 255).byte(), classes), "images is uint8"),
        ((images * NAN, classes), "NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            pair.check(*wrong)
    if kind == "limbeck":
        with pytest.raises(ValueError, match=r"images is \(2, 1, 64, 64\); expected RGB"):
            pair.check(images[:, :1], classes)


def test_models_that_do_not_normalise_may_get_images_that_are_normalised() -> None:
    """torchvision's own classifiers expect them so, and of other input nothing is known."""
    Distillation(small_models.resnet()).check(batches.pictures() * 4 - 2, batches.labels())
    with pytest.raises(ValueError, match="The models normalise them"):
        Distillation(tiny_models.classifier()).check(batches.pictures() * 4 - 2, batches.labels())
    refuse_malformed(torch.tensor([[1, 2], [3, 4]]), None, detects=False, raw=False)


def test_probabilities_of_classes_are_targets() -> None:
    refuse_bad_indices(torch.rand(2, 3), (2, 3))
    pair = Distillation(small_models.resnet())
    pair.check(batches.pictures(), torch.softmax(torch.randn(2, small_models.CLASSES), 1))


def test_an_evaluator_takes_boxes_without_area() -> None:
    flat = [{"boxes": torch.tensor([[1.0, 2, 1, 5]]), "labels": torch.tensor([1])}]
    refuse_bad_targets(flat, 3, training=False)
    turned = [{"boxes": torch.tensor([[4.0, 2, 1, 5]]), "labels": torch.tensor([1])}]
    with pytest.raises(ValueError, match="sides"):
        refuse_bad_targets(turned, 3, training=False)


def test_the_image_is_named() -> None:
    said = re.escape("targets[1] (image_id 7): targets have the")
    for number in (torch.tensor(7), 7, "7"):  # the last ones in a dataset of somebody's own
        _, targets = batch(**labels([0]), image_id=number)
        with pytest.raises(ValueError, match=said):
            refuse_bad_targets(targets, 3)


def test_a_loader_may_give_bytes_that_are_scaled_later() -> None:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    refuse_malformed([image, image / 255], None, detects=False, raw=True, scaled=False)
    for wrong, message in ((image.long(), "is int64"), (image[:, :0], "without a pixel")):
        with pytest.raises(ValueError, match=message):
            refuse_malformed([wrong], None, detects=False, raw=False, scaled=False)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (0, 0)])
def test_images_without_a_pixel_are_refused(height: int, width: int) -> None:
    image = torch.rand(3, height, width)
    message = r"is \((2, )?3, \d, \d\), without a pixel; expected .* Leave it out\.$"
    with pytest.raises(ValueError, match=rf"^images\[1\] {message}"):
        refuse_malformed([torch.rand(3, 4, 4), image], None, detects=False, raw=True)
    with pytest.raises(ValueError, match=rf"^images {message}"):
        refuse_malformed(torch.stack([image, image]), None, detects=False, raw=False)
    with pytest.raises(ValueError, match=r"without a pixel; expected \(B, 3, H, W\)"):
        models.Classifier(models.BasicBlocks(**tiny_models.BLOCKS), 3).eval()(image[None])
