"""darknet's files, which have neither names nor shapes."""

from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.checkpoints.libraries import darknet
from limbeck.models import GFL, SSD, Classifier, RetinaNet, ShuffleDet, YOLOv2, load_weights
from limbeck.models.darknet19 import Darknet19
from tests.checkpoints.libraries.darknet_files import NEW, OLD, header, numbers, scrambled, write

WIDTH, CLASSES = 0.0625, 3


def detector(**arguments) -> YOLOv2:
    return YOLOv2(WIDTH, CLASSES, **arguments)


def trained() -> YOLOv2:
    return scrambled(detector(passthrough="darknet"))


def same(first: nn.Module, second: nn.Module) -> bool:
    """Whether all values are equal, bit for bit, but the counters."""
    pairs = zip(first.state_dict().items(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for (name, a), b in pairs if a.is_floating_point())


@pytest.mark.parametrize("version", [NEW, OLD, (1, 0, 0)])
@pytest.mark.parametrize("said", ["", "darknet:"])
def test_a_whole_file(version, said: str, tmp_path: Path) -> None:
    theirs = trained()
    path = write(tmp_path / "yolov2-voc.weights", theirs, version=version)
    ours = detector(weights=f"{said}{path}")
    assert same(ours, theirs)
    assert ours.seen.item() == 77
    assert ours.backbone.passthrough == "darknet"
    assert (ours.transform.image_mean, ours.transform.image_std) == ([0.0] * 3, [1.0] * 3)
    images = [torch.rand(3, 64, 64)]
    assert torch.equal(ours.eval()(images)[0]["scores"], theirs.eval()(images)[0]["scores"])


def test_a_file_of_another_name_when_it_is_said(tmp_path: Path) -> None:
    theirs = trained()
    path = write(tmp_path / "backup.bin", theirs)
    assert same(detector(weights=f"darknet:{path}"), theirs)


@pytest.mark.parametrize("norm", ["frozen", "affine"])
def test_into_norms_that_do_not_move(norm, tmp_path: Path) -> None:
    theirs = trained()
    ours = detector(weights=write(tmp_path / "a.weights", theirs), norm=norm).eval()
    images = [torch.rand(3, 64, 64)]
    torch.testing.assert_close(ours(images)[0]["scores"], theirs.eval()(images)[0]["scores"])


@pytest.mark.parametrize("name", ["darknet19_448.conv.23", "darknet19.weights"])
def test_a_trunk_alone_and_a_whole_classifier(name: str, tmp_path: Path) -> None:
    """The classifier's last convolution is left out."""
    classifier = scrambled(Darknet19(1000, WIDTH))
    whole = name.endswith(".weights")
    path = write(tmp_path / name, classifier if whole else classifier.features)
    ours = detector(weights=path)
    assert same(ours.backbone.features, classifier.features)
    assert ours.seen.item() == 0  # these were not images of the detector
    assert not ours.head.weight.eq(1).any()


def test_a_classifier(tmp_path: Path) -> None:
    theirs = scrambled(Darknet19(1000, WIDTH))
    path = write(tmp_path / "darknet19.weights", theirs)
    given = {"arguments": {"width": WIDTH}, "weights": path}
    ours = Classifier("darknet19", 1000, **given)
    assert same(ours.network, theirs)
    assert ours.build.init_args["mean"] == [0.0, 0.0, 0.0]
    assert ours.build.init_args["std"] == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"mean is \(0.0, 0.0, 0.0\) in the weights"):
        Classifier("darknet19", 1000, mean=(0.5, 0.5, 0.5), **given)


@pytest.mark.parametrize("name", ["darknet19_448.conv.23", "darknet19.weights"])
def test_a_classifier_of_other_classes_keeps_its_own_head(name: str, tmp_path: Path) -> None:
    theirs = scrambled(Darknet19(1000, WIDTH))
    path = write(tmp_path / name, theirs if name.endswith(".weights") else theirs.features)
    ours = Classifier("darknet19", 7, arguments={"width": WIDTH}, weights=path)
    assert same(ours.network.features, theirs.features)
    assert ours.network.head.weight.shape == (7, theirs.head.in_channels, 1, 1)
    with pytest.raises(ValueError, match=r"takes \d+ for all of it, \d+ for its trunk"):
        Classifier("darknet19", 7, arguments={"width": 2 * WIDTH}, weights=path)


def test_a_trunk_says_nothing_of_the_passthrough(tmp_path: Path) -> None:
    path = write(tmp_path / "a.conv.23", Darknet19(2, WIDTH).features)
    assert detector(weights=path, passthrough="space_to_depth").seen.item() == 0


def test_the_way_of_the_passthrough_is_the_files(tmp_path: Path) -> None:
    path = write(tmp_path / "a.weights", trained())
    with pytest.raises(ValueError, match="passthrough is darknet in the weights, space_to_depth"):
        detector(weights=path, passthrough="space_to_depth")


@pytest.mark.parametrize(
    ("classes", "anchors", "said"),
    [(20, 5, "num_classes=20 with 5 anchors"), (1, 9, "num_classes=1 with 9 anchors")],
)
def test_another_number_of_classes(classes, anchors, said: str, tmp_path: Path) -> None:
    shapes = [(8.0 + i, 8.0) for i in range(anchors)]
    theirs = YOLOv2(WIDTH, classes, anchor_shapes=shapes, passthrough="darknet")
    path = write(tmp_path / "a.weights", theirs)
    found = len(numbers(theirs)) // 4
    here = len(numbers(detector())) // 4
    with pytest.raises(ValueError, match=f"has {found} numbers, this model takes {here}") as error:
        detector(weights=path)
    assert f"{path}" in str(error.value)
    assert f"would have {anchors * (5 + classes)} channels, this one 40: " in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize("more", [-4, 4, -400_000])
def test_a_number_too_many_or_too_few(more: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.weights", trained())
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(more) if more > 0 else whole[:more])
    with pytest.raises(ValueError, match="fits no number of classes: it is of another width"):
        detector(weights=path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.weights is empty \(0 bytes\)"),
        (b"\0" * 7, "has 7 bytes"),
        (header(), "has 20 bytes .*cut off"),
        (header(OLD), "has 16 bytes .*cut off"),
        (header() + b"\0" * 41, "has 61 bytes .*version 0.2.*4 for each number"),
        (header() + b"\0\0\xc0\x7f" * 9, r"a\.weights holds NaN or infinity"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of git-lfs"),
        (b"<!DOCTYPE html><html>", "is a web page"),
    ],
)
def test_files_that_cannot_be_read(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        detector(weights=path)


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file.*\.weights"):
        detector(weights=tmp_path / "a.weights")


def test_other_models_say_whose_files_these_are(tmp_path: Path) -> None:
    path = write(tmp_path / "a.weights", trained())
    for model in (
        RetinaNet("resnet18", 2, fpn_channels=8),
        GFL("resnet18", 2, fpn_channels=32),  # whose head has group norms
        ShuffleDet(0.25, 2),  # whose backbone has features, too
        SSD("vgg16", 2),
    ):
        said = f"{type(model).__name__}: .*Such files fill a YOLOv2"
        with pytest.raises(ValueError, match=said):
            load_weights(model, path)


def test_lengths_of_published_networks() -> None:
    """The constants are those of the networks of width 1."""
    with torch.device("meta"):
        classifier, whole = Darknet19(1000), YOLOv2(1.0, 20)

    def described(module: nn.Module) -> str:
        state = module.state_dict().values()
        values = torch.empty(sum(v.numel() for v in state if v.is_floating_point()))
        return f"{darknet.kind_of(values)}: {darknet.described(values)}"

    assert described(classifier.features).startswith("trunk: the trunk of Darknet-19")
    assert described(classifier) == "trunk: Darknet-19 of width 1, a classifier of 1000 classes"
    assert described(whole).startswith(
        "YOLOv2: YOLOv2 of width 1, with 125 channels at its end: num_classes=20 with 5 anchors"
    )
    assert described(whole.backbone) == (
        "YOLOv2: none of width 1: build the model, and see whether it takes these weights"
    )
