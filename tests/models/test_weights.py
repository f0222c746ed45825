import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torchvision.models import detection

from limbeck.checkpoints.libraries import detectron2, mmdetection
from limbeck.models import (
    BasicBlocks,
    Classifier,
    FasterRCNN,
    RetinaNet,
    load_weights,
    save_student,
)
from tests.batches import photographs
from tests.models.comparisons import same_detections
from tests.models.detection.published import file_of
from tests.models.lively_weights import scramble, with_lively_heads

BLOCKS = BasicBlocks((1, 1, 1), (4, 8, 8))
SMALL = {"fpn_channels": 8, "head_depth": 1, "min_size": 64, "max_size": 96}
SMALL_TWO_STAGE = {"fpn_channels": 8, "box_head_channels": 8, "min_size": 64, "max_size": 96}
CAFFE_STD = (1 / 255,) * 3


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


@pytest.mark.usefixtures("narrow_resnets")
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
    with pytest.raises(FileNotFoundError, match=f"'{source}'.*torchvision:<name of pub"):
        Classifier(BLOCKS, 3, weights=source)


def test_any_module_takes_a_file_of_its_own(tmp_path: Path) -> None:
    trained, model = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    torch.save(trained.state_dict(), tmp_path / "linear.pt")
    load_weights(model, tmp_path / "linear.pt")
    assert torch.equal(model.weight, trained.weight)


# -- files of other libraries ----------------------------------------------------------------------


def theirs(model: torch.nn.Module, library: str, *, bgr: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a model by the names of a library."""
    table = {"detectron2": detectron2, "mmdetection": mmdetection}[library]
    return table.write(model.state_dict(), bgr=bgr)


@pytest.fixture(scope="module", params=["detectron2", "mmdetection"])
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A RetinaNet-R18 of three classes, ``library:path``."""
    trained = with_lively_heads(RetinaNet("resnet18", 3, preset=request.param, **SMALL))
    folder = tmp_path_factory.mktemp(request.param)
    return f"{request.param}:{file_of(folder, request.param, theirs(trained, request.param))}"


@pytest.mark.parametrize("kind", [RetinaNet, FasterRCNN])
@pytest.mark.parametrize("library", ["detectron2", "mmdetection"])
@pytest.mark.parametrize("said", [True, False])
def test_the_preset_follows_the_weights(
    tmp_path: Path, kind: type, library: str, said: bool
) -> None:
    small = SMALL if kind is RetinaNet else SMALL_TWO_STAGE
    trained = with_lively_heads(kind("resnet18", 3, preset=library, **small))
    path = file_of(tmp_path, library, theirs(trained, library))
    model = kind("resnet18", 3, weights=f"{library}:{path}" if said else path, **small)
    assert model.build.init_args == trained.build.init_args
    assert model.build.init_args["preset"] == library
    assert same_detections(model, trained, photographs((60, 90))) > 10


@pytest.mark.usefixtures("narrow_resnets")
def test_weights_of_msra_bring_their_input_and_strides(tmp_path: Path) -> None:
    arguments = {"preset": "detectron2", "std": CAFFE_STD, "stride_in_1x1": True}
    trained = with_lively_heads(FasterRCNN("resnet50", 3, **arguments, **SMALL_TWO_STAGE))
    path = file_of(tmp_path, "detectron2", theirs(trained, "detectron2", bgr=True))
    model = FasterRCNN("resnet50", 3, weights=path, **SMALL_TWO_STAGE)
    assert model.build.init_args == trained.build.init_args
    imagenet = (0.229, 0.224, 0.225)
    folded = FasterRCNN("resnet50", 3, weights=path, std=imagenet, **SMALL_TWO_STAGE)
    assert folded.transform.image_std == list(imagenet)
    images = photographs((60, 90))
    with torch.no_grad():
        maps = [m.backbone(m.transform(images)[0].tensors)["0"] for m in (model, folded)]
    assert (maps[0] - maps[1]).abs().max() < 1e-5 * maps[0].abs().max()


@pytest.mark.usefixtures("narrow_resnets")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_classes": 5}, "num_classes is 3 in the weights, 5 here"),
        ({"preset": "torchvision"}, "preset is {library} in the weights, torchvision here"),
        (
            {"mean": (0.5, 0.5, 0.5)},
            r"mean is \(0.485, .*\) in the weights, \[0.5, 0.5, 0.5\] here",
        ),
        ({"p6_from": "P5"}, "p6_from is C5 in the weights, P5 here"),
        ({"backbone": "resnet34"}, "backbone is resnet18 in the weights, resnet34 here"),
        ({"fpn_channels": 16}, "fpn_channels is 8 in the weights, 16 here"),
    ],
)
def test_what_contradicts_the_weights_is_named(file: str, arguments: dict, message: str) -> None:
    given: dict[str, Any] = {"backbone": "resnet18", "num_classes": 3} | SMALL | arguments
    library = file.partition(":")[0]
    with pytest.raises(ValueError, match=message.format(library=library)) as error:
        RetinaNet(weights=file, **given)
    assert f"weights='{file}' for RetinaNet: their outputs would be others" in str(error.value)
    assert "Leave out what the weights decide" in str(error.value)


def test_a_backbone_with_its_library_before_it_is_the_same(file: str) -> None:
    RetinaNet("torchvision:resnet18", 3, weights=file, **SMALL)


def test_another_kind_of_detector_is_refused(file: str) -> None:
    with pytest.raises(ValueError, match=r"for FasterRCNN: they are of a RetinaNet. Expected a F"):
        FasterRCNN("resnet18", 3, weights=file, **SMALL_TWO_STAGE)


def test_a_detector_is_no_classifier(file: str) -> None:
    with pytest.raises(ValueError, match=r"for Classifier: they are of a RetinaNet"):
        Classifier("resnet18", 3, weights=file)


@pytest.fixture(scope="module")
def trunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 of MSRA under detectron2's names."""
    network = torchvision.models.resnet50(num_classes=3).state_dict()
    table = {"layer1": "res2", "layer2": "res3", "layer3": "res4", "layer4": "res5"}
    renamed = {}
    for name, value in network.items():
        name = name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")
        for i in "123":
            name = name.replace(f"bn{i}", f"conv{i}.norm")
        for ours, other in table.items():
            name = name.replace(ours, other)
        name = f"stem.{name}" if name.startswith("conv1") else name
        if not name.startswith("fc") and "num_batches" not in name:
            renamed[name] = value.flip(1) if name == "stem.conv1.weight" else value
    path = file_of(tmp_path_factory.mktemp("msra"), "detectron2", renamed)
    torch.save(network["conv1.weight"], path.with_name("conv1.pt"))
    return path


def test_a_trunk_of_msra_under_a_detector(trunk: Path) -> None:
    model = RetinaNet("resnet50", 2, weights=trunk, fpn_channels=8)
    given = model.build.init_args
    assert (given["preset"], given["stride_in_1x1"]) == ("torchvision", True)
    assert given["std"] == pytest.approx(CAFFE_STD)
    rgb = torch.load(trunk.with_name("conv1.pt"), weights_only=True)
    assert torch.equal(model.backbone.body["conv1"].weight, rgb)
    assert model.backbone.body["layer2"][0].conv1.stride == (2, 2)


def test_a_classifier_has_no_strides_in_1x1_convolutions(trunk: Path) -> None:
    with pytest.raises(ValueError, match="stride_in_1x1 is True in the weights, False here"):
        Classifier("resnet50", 3, weights=trunk)
    with pytest.raises(ValueError, match="stride_in_1x1 is True in the weights, False here"):
        RetinaNet("resnet50", 3, weights=trunk, stride_in_1x1=False, fpn_channels=8)


def test_a_students_folder_brings_its_preset(tmp_path: Path) -> None:
    arguments = {"preset": "mmdetection", "p6_from": "P5"} | SMALL
    arguments["anchor_sizes"] = [[8 * 2**k] for k in range(5)]
    trained = with_lively_heads(RetinaNet("resnet18", 3, **arguments))
    save_student(trained, tmp_path / "student")
    model = RetinaNet("resnet18", 3, weights=tmp_path / "student", **SMALL)
    assert model.build.init_args == trained.build.init_args
    assert same_detections(model, trained, photographs((60, 90))) > 10
    with pytest.raises(ValueError, match="preset is mmdetection in the weights, detectron2 here"):
        RetinaNet("resnet18", 3, weights=tmp_path / "student", preset="detectron2", **SMALL)


@pytest.mark.usefixtures("narrow_resnets")
def test_torchvisions_second_retinanet_is_refused_with_its_normalisations(tmp_path: Path) -> None:
    second = detection.retinanet_resnet50_fpn_v2(
        weights=None, weights_backbone=None, num_classes=3
    ).state_dict()
    path = tmp_path / "second.pth"
    torch.save(second, path)
    for source in (path, f"torchvision:{path}"):
        with pytest.raises(ValueError, match="does not fit") as error:
            RetinaNet("resnet50", 2, weights=source)
        assert '"head.classification_head.conv.0.1.weight"' in str(error.value)


def test_an_address_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    trained = Classifier(BLOCKS, 3)
    torch.save(trained.network.state_dict(), tmp_path / "trained.pth")
    model = Classifier(BLOCKS, 3, weights=(tmp_path / "trained.pth").as_uri())
    assert torch.equal(model.network.conv1.weight, trained.network.conv1.weight)


class _Bomb:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('the code of the file was run')",))


def test_a_file_that_holds_code_is_refused_by_the_constructor(tmp_path: Path) -> None:
    (tmp_path / "bad.pkl").write_bytes(pickle.dumps({"model": {}, "extra": _Bomb()}))
    torch.save({"state_dict": {"weight": torch.ones(1)}, "extra": _Bomb()}, tmp_path / "bad.pth")
    for name in ("bad.pkl", "bad.pth"):
        with pytest.raises(ValueError, match=rf"{name} cannot be read .* asks for .*exec, and"):
            RetinaNet("resnet18", 3, weights=f"detectron2:{tmp_path / name}", **SMALL)


def test_a_file_that_is_cut_off_is_refused_by_the_constructor(tmp_path: Path, file: str) -> None:
    whole = Path(file.partition(":")[2])
    cut = tmp_path / whole.name
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{whole.name} cannot be read as weights: it is cut off"):
        RetinaNet("resnet18", 3, weights=cut, **SMALL)
