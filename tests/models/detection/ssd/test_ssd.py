"""SSD: torchvision's outputs and losses with the same weights, and light students of it."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import detection

from limbeck import Taps
from limbeck.frame import network_frame
from limbeck.models import SSD, BasicBlocks, load_student, save_student
from tests.batches import nothing, photographs, targets
from tests.models.comparisons import assert_learns_one_image, same_detections
from tests.models.lively_weights import scramble

TINY = BasicBlocks((1, 1, 1, 1), (8, 8, 16, 16))
BUILDERS = {
    "vgg16": (detection.ssd300_vgg16, 300),
    "mobilenet_v3_large": (detection.ssdlite320_mobilenet_v3_large, 320),
}


def tiny(**arguments) -> SSD:
    """Of two classes, for images of 64 pixels: 8, 4, 2 and 1 cells."""
    given = {"image_size": (64, 64), "levels": (3, 6), "extra_channels": (16,), "norm": "trained"}
    return SSD(TINY, 2, **given | arguments)


def lively(model: SSD) -> SSD:
    """Weights that let the input through to detections of many classes."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    scramble(model)
    return model


@pytest.fixture(scope="module", params=list(BUILDERS))
def pair(request: pytest.FixtureRequest) -> tuple[SSD, nn.Module]:
    """Ours and torchvision's, which share their weights."""
    builder, _ = BUILDERS[request.param]
    with torch.device("meta"):  # torchvision's builder fills a classifier that it throws away
        stock = builder(weights=None, weights_backbone=None, num_classes=4)
    ours = lively(SSD(request.param, 3, norm="trained"))
    if request.param == "vgg16":  # its input is not scaled, and nothing normalises on the way
        for weight in ours.head.parameters():
            weight.data *= 0.01
    stock.load_state_dict(ours.state_dict(), assign=True)
    return ours, stock


def test_is_torchvisions_ssd(pair: tuple[SSD, nn.Module]) -> None:
    ours, stock = pair
    assert isinstance(ours, detection.ssd.SSD)
    assert str(ours.transform).partition("(")[2] == str(stock.transform).partition("(")[2]
    assert ours.transform.fixed_size == stock.transform.fixed_size
    with torch.no_grad():
        scores = stock.eval()(photographs((60, 90)))[0]["scores"]
    assert len(scores.unique()) > 50
    assert same_detections(ours, stock, photographs((60, 90))) > 100


def test_training_losses_are_torchvisions(pair: tuple[SSD, nn.Module]) -> None:
    ours, stock = pair
    side = ours.build.init_args["image_size"][0]
    # VGG has no norms, and is slow; MobileNetV3 normalises its last map over two images.
    images = photographs(*[(side, side)] * (1 if side == 300 else 2))
    with torch.no_grad():
        expected = stock.train()(images, targets(len(images)))
        losses = ours.train()(images, targets(len(images)))
    assert losses.keys() == expected.keys() == {"bbox_regression", "classification"}
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name])


@pytest.mark.parametrize(
    ("size", "levels", "grids"),
    [
        ((300, 300), (3, 8), [(38, 38), (19, 19), (10, 10), (5, 5), (3, 3), (1, 1)]),  # SSD300
        ((320, 320), (4, 9), [(20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1)]),  # SSDLite
        ((256, 320), (3, 8), [(32, 40), (16, 20), (8, 10), (4, 5), (2, 3), (1, 1)]),
        ((96, 64), (2, 4), [(24, 16), (12, 8), (6, 4)]),
    ],
)
@pytest.mark.parametrize("lite", [False, True])
def test_anchors_lie_on_their_maps(size, levels, grids, lite) -> None:
    model = tiny(image_size=size, levels=levels, lite=lite).eval()
    with torch.no_grad(), network_frame(model), Taps(model, ["maps", "anchors"]) as seen:
        model(photographs(size, size))
    assert [tuple(m.shape[-2:]) for m in seen["maps"]] == grids
    assert len(seen["anchors"]) == 2
    height, width = size
    for anchors, (rows, columns) in zip(seen["anchors"][1], grids, strict=True):
        cells = anchors.view(rows, columns, 6, 4)
        centres = (cells[..., :2] + cells[..., 2:]) / 2
        across = (torch.arange(columns) + 0.5) * width / columns
        down = (torch.arange(rows) + 0.5) * height / rows
        torch.testing.assert_close(centres[..., 0], across[None, :, None].expand(rows, -1, 6))
        torch.testing.assert_close(centres[..., 1], down[:, None, None].expand(-1, columns, 6))


@pytest.mark.parametrize("lite", [False, True])
@pytest.mark.parametrize("count", [1, 3])
def test_images_without_boxes(lite: bool, count: int) -> None:
    model = tiny(lite=lite).train()
    losses = model(photographs(*[(64, 64)] * count), [nothing() for _ in range(count)])
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_every_parameter_learns_beside_an_image_without_boxes() -> None:
    model = tiny().train()
    sum(model(photographs((64, 64), (64, 64)), [*targets(1), nothing()]).values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert sum(p.grad.abs().sum() > 0 for p in model.backbone.parameters()) > 20


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_boxes_and_losses_are_in_full_precision(dtype: torch.dtype) -> None:
    model = tiny(lite=True)
    images = photographs((64, 64), (64, 64))
    with torch.autocast("cpu", dtype), Taps(model, ["anchors", "maps"]) as seen:
        losses = model.train()(images, targets(2))
        found = model.eval()(images)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert {value.dtype for value in (found[0]["boxes"], found[0]["scores"])} == {torch.float32}
    assert seen["maps"][-1].dtype == dtype
    assert {level.dtype for level in seen["anchors"][0]} == {torch.float32}


def test_training_takes_images_as_they_come_and_evaluation_resizes() -> None:
    model, seen = tiny(), []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-2:]))
    model.train()(photographs((96, 128)), targets(1))
    model.eval()(photographs((96, 128)))
    assert seen == [(96, 128), (64, 64)]


def test_a_student_learns_one_image_and_labels_it_from_one() -> None:
    assert_learns_one_image(tiny(lite=True))


def test_a_student_comes_back_and_gives_its_weights(tmp_path: Path) -> None:
    student = lively(tiny(image_size=(64, 96), scales=(0.1, 0.2, 0.4, 0.6, 0.8), lite=True))
    save_student(student, tmp_path, classes=("cat", "dog"))
    loaded = load_student(tmp_path)
    assert same_detections(loaded, student, photographs((50, 64))) > 10
    assert loaded.classes == ("cat", "dog")
    assert student.without_limbeck() is None  # no library but limbeck has this network
    further = tiny(weights=tmp_path, image_size=None, lite=True)
    assert further.build.init_args["image_size"] == [64, 96]
    assert same_detections(further, student, photographs((50, 64))) > 10
    larger = tiny(weights=tmp_path, image_size=(96, 128), lite=True)
    assert larger.transform.fixed_size == (128, 96)  # width first
    with pytest.raises(ValueError, match=r"scales is .* in the weights"):
        tiny(weights=tmp_path, scales=(0.1, 0.2, 0.4, 0.6, 0.9), lite=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": (1, 6)}, r"levels=\(1, 6\).*Begin at 2 to 5"),
        ({"levels": (6, 7)}, "has C2 to C5"),
        ({"extra_channels": ()}, "expected one number or more"),
        ({"levels": (3, 7)}, "end no later than where one cell is left"),
        ({"scales": (0.1, 0.2)}, "scales=.*expected 5, one for each of the 4 levels and one more"),
        ({"aspect_ratios": ((2,),)}, "aspect_ratios=.*expected 4"),
        ({"steps": (8, 16)}, r"steps=\[8, 16\]: expected 4"),
        ({"frozen_stages": 6}, "frozen_stages=6: expected 0 to 5"),
    ],
)
def test_arguments_that_do_not_suit_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**arguments)


def test_levels_that_no_image_has_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"levels is \[3, 1000000\]; expected numbers, each 0"):
        SSD("resnet18", 3, levels=(3, 10**6))
