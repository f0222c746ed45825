import logging
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torchvision.models import detection

from limbeck.models import (
    BasicBlocks,
    Classifier,
    FasterRCNN,
    RetinaNet,
    load_weights,
    save_student,
)
from tests.models.scramble import photographs, same_detections, scramble

BLOCKS = BasicBlocks((1, 1, 1), (4, 8, 8))


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch):
    """Stand in for torchvision's downloads: ``published[repr(member)] = state dict``."""
    files: dict[str, dict] = {}

    def get_state_dict(member, progress: bool, check_hash: bool) -> dict:
        assert check_hash
        return files[repr(member)]

    monkeypatch.setattr(torchvision.models.WeightsEnum, "get_state_dict", get_state_dict)
    return files


def test_a_real_classifier_under_a_detector(shared: Path, caplog) -> None:
    file = shared / "data/weights/mobilenet_v2_imagenet.pth"
    with caplog.at_level(logging.INFO):
        model = RetinaNet("mobilenet_v2", 3, weights=file, levels=(3, 4), fpn_channels=16)
    tensors = torch.load(file, weights_only=True)
    body = model.backbone.body.state_dict()
    assert all(torch.equal(value, tensors[f"features.{name}"]) for name, value in body.items())
    assert "The weights are a classifier's" in caplog.text
    assert "weights" not in model.build.init_args


def test_a_real_classifier_as_a_classifier(shared: Path, caplog) -> None:
    file = shared / "data/weights/mobilenet_v2_imagenet.pth"
    tensors = torch.load(file, weights_only=True)
    whole = Classifier("mobilenet_v2", 1000, weights=file)
    assert torch.equal(whole.network.classifier[1].weight, tensors["classifier.1.weight"])
    with caplog.at_level(logging.INFO):
        ten = Classifier("mobilenet_v2", 10, weights=str(file), norm="frozen")
    assert "1000 classes given, 10 here" in caplog.text
    assert torch.equal(ten.network.features[18][0].weight, tensors["features.18.0.weight"])
    assert ten.network.classifier[1].weight.shape == (10, 1280)


def test_torchvisions_imagenet_weights(published) -> None:
    first = scramble(torchvision.models.resnet18(), seed=1).state_dict()
    published["ResNet18_Weights.IMAGENET1K_V1"] = first
    for source in (
        "torchvision:backbone",
        "torchvision:IMAGENET1K_V1",
        "torchvision:ResNet18_Weights.IMAGENET1K_V1",
    ):
        detector = RetinaNet("resnet18", 2, weights=source, fpn_channels=8)
        deepest = detector.backbone.body["layer4"][1].bn2.running_var
        assert torch.equal(deepest, first["layer4.1.bn2.running_var"])
        classifier = Classifier("resnet18", 5, weights=source)
        assert torch.equal(classifier.network.conv1.weight, first["conv1.weight"])


def test_backbone_means_torchvisions_default(published) -> None:
    published["MobileNet_V2_Weights.IMAGENET1K_V2"] = torchvision.models.mobilenet_v2().state_dict()
    RetinaNet("mobilenet_v2", 2, weights="torchvision:backbone", fpn_channels=8)


@pytest.mark.parametrize(
    ("kind", "stock"),
    [
        (RetinaNet, detection.retinanet_resnet50_fpn),
        (FasterRCNN, detection.fasterrcnn_resnet50_fpn),
    ],
)
def test_torchvisions_coco_weights_run_as_in_torchvision(published, kind, stock) -> None:
    size = {"min_size": 64, "max_size": 96}
    enum = torchvision.models.get_model_weights(stock)
    trained = scramble(stock(weights=None, weights_backbone=None, num_classes=91))
    # A channel that never fires: its variance is next to nothing, and its weight too.
    trained.backbone.body.bn1.running_var[0], trained.backbone.body.bn1.weight.data[0] = 5e-15, 2e-8
    published[repr(enum.COCO_V1)] = trained.state_dict()
    reference = stock(weights=enum.COCO_V1, **size)  # sets eps to 0
    ours = kind("resnet50", 90, weights="torchvision:COCO_V1", **size)
    assert same_detections(ours, reference, photographs((64, 96))) > 20


def test_coco_weights_of_a_detector_that_torchvision_has_not(published) -> None:
    with pytest.raises(ValueError, match=r"'torchvision:COCO_V1'.*There are: .*IMAGENET1K_V1"):
        RetinaNet("resnet18", 90, weights="torchvision:COCO_V1")
    with pytest.raises(ValueError, match=r"this RetinaNet. There are: none"):
        RetinaNet(BLOCKS, 90, levels=(3, 4), weights="torchvision:backbone")


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("timm:backbone", "test_resnet"),
        ("timm:r160_in1k", "test_resnet.r160_in1k"),
        ("timm:test_resnet.other", "test_resnet.other"),
    ],
)
def test_timms_weights(monkeypatch: pytest.MonkeyPatch, source: str, asked: str) -> None:
    trained = timm.create_model("test_resnet")
    model = Classifier("timm:test_resnet", 3)
    calls = []
    monkeypatch.setattr(
        timm, "create_model", lambda name, pretrained: calls.append((name, pretrained)) or trained
    )
    load_weights(model, source)
    assert calls == [(asked, True)]
    assert torch.equal(model.network.layer1[0].conv1.weight, trained.layer1[0].conv1.weight)


def test_timms_resnet_is_a_trunk_of_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = timm.create_model("resnet18")
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: trained)
    model = RetinaNet("resnet18", 2, weights="timm:resnet18.a1_in1k", fpn_channels=8)
    assert torch.equal(model.backbone.body["conv1"].weight, trained.conv1.weight)
    with pytest.raises(ValueError, match="timm has no model of that name"):
        load_weights(model, "timm:a1_in1k")


def test_a_whole_detector_from_a_file(tmp_path: Path) -> None:
    arguments = {"levels": (3, 4), "fpn_channels": 8, "min_size": 64, "max_size": 64}
    trained = scramble(RetinaNet(BLOCKS, 2, **arguments))
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "whole.pth")
    model = RetinaNet(BLOCKS, 2, weights=tmp_path / "whole.pth", **arguments)
    assert same_detections(model, trained, photographs((64, 64))) > 10


def test_a_students_folder_is_a_source(tmp_path: Path) -> None:
    trained = scramble(Classifier(BLOCKS, 7))
    save_student(trained, tmp_path / "student")
    detector = RetinaNet(BLOCKS, 2, weights=tmp_path / "student", levels=(3, 4), fpn_channels=8)
    assert torch.equal(detector.backbone.body["conv1"].weight, trained.network.conv1.weight)


def test_another_architecture_is_refused_with_what_differs(tmp_path: Path) -> None:
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other.pth' for RetinaNet does not fit") as error:
        RetinaNet("resnet18", 2, weights=tmp_path / "other.pth")
    message = str(error.value)
    assert '"conv1.weight"' in message
    assert '"features.0.weight"' in message
    assert "Expected either this very model, or the ImageNet classifier" in message


def test_a_detector_of_another_class_count_is_refused_with_both_shapes(tmp_path: Path) -> None:
    arguments = {"levels": (3, 4), "fpn_channels": 8}
    torch.save(RetinaNet(BLOCKS, 7, **arguments).state_dict(), tmp_path / "seven.pth")
    with pytest.raises(ValueError, match=r"\[72, 8, 3, 3\].*\[27, 8, 3, 3\]"):
        RetinaNet(BLOCKS, 2, weights=tmp_path / "seven.pth", **arguments)


def test_a_trunk_of_other_widths_is_refused(tmp_path: Path) -> None:
    torch.save(Classifier(BasicBlocks((1, 1), (4, 6)), 3).network.state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"layer2.0.conv1.weight.*\[6, 4, 3, 3\].*\[8, 4, 3, 3\]"):
        Classifier(BasicBlocks((1, 1), (4, 8)), 3, weights=tmp_path / "a.pth")


@pytest.mark.parametrize("source", ["nowhere.pth", "mmdetection:some.pth"])
def test_a_source_that_does_not_exist_is_refused_with_what_there_is(source: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"'{source}'.*torchvision:backbone"):
        Classifier(BLOCKS, 3, weights=source)


def test_any_module_takes_a_file_of_its_own(tmp_path: Path) -> None:
    trained, model = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    torch.save(trained.state_dict(), tmp_path / "linear.pt")
    load_weights(model, tmp_path / "linear.pt")
    assert torch.equal(model.weight, trained.weight)
