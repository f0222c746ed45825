import copy
import hashlib
import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn

from limbeck.models import (
    FCOS,
    SSD,
    BasicBlocks,
    Build,
    Classifier,
    FasterRCNN,
    RetinaNet,
    YOLOv2,
    load_student,
    save_student,
)
from tests.batches import photographs
from tests.models.comparisons import same_detections
from tests.models.lively_weights import scramble

BLOCKS = BasicBlocks((1, 1, 1), (4, 8, 8))
SMALL = {"fpn_channels": 8, "min_size": 64, "max_size": 64, "score_threshold": 0.01}


@pytest.fixture
def classifier() -> nn.Module:
    return scramble(Classifier(BLOCKS, 3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.2, 0.2))).eval()


@pytest.mark.parametrize("norm", ["trained", "frozen", "affine", "synchronised"])
def test_a_classifier_comes_back(norm, tmp_path: Path) -> None:
    model = scramble(Classifier(BLOCKS, 3, std=(0.1, 0.2, 0.3), norm=norm)).eval()
    save_student(model, tmp_path / "new" / "student", classes=("cat", "dog", "owl"))
    again = load_student(tmp_path / "new" / "student")
    images = torch.rand(2, 3, 32, 32)
    assert not again.training
    torch.testing.assert_close(again(images), model(images), rtol=0, atol=0)


@pytest.mark.parametrize("kind", [RetinaNet, FasterRCNN, FCOS])
def test_a_detector_comes_back(kind, tmp_path: Path) -> None:
    arguments = SMALL | ({"fpn_channels": 64} if kind is FCOS else {})
    model = scramble(kind(BLOCKS, 2, levels=(3, 4), frozen_stages=1, norm="trained", **arguments))
    save_student(model, tmp_path)
    assert same_detections(load_student(tmp_path), model, photographs((50, 64))) > 10


def without_limbeck(folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """Run the Python of ``student.json``, in the student's folder."""
    code = json.loads((folder / "student.json").read_text())["without_limbeck"]
    assert "limbeck" not in code
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(code, names)
    return names["model"]


@pytest.mark.parametrize(
    "model",
    [
        lambda: RetinaNet("mobilenet_v2", 2, levels=(3, 5), head_depth=2, norm="frozen", **SMALL),
        lambda: RetinaNet("resnet18", 2, norm="affine", **SMALL),
        lambda: FCOS("resnet18", 2, head_depth=2, **SMALL | {"fpn_channels": 64}),
        lambda: FasterRCNN("resnet18", 2, box_head_channels=32, norm="trained", **SMALL),
        lambda: FasterRCNN("mobilenet_v2", 2, levels=(3, 5), box_head_channels=32, **SMALL),
        lambda: FasterRCNN("timm:test_resnet", 2, box_head_channels=32, norm="trained", **SMALL),
        lambda: RetinaNet("timm:test_efficientnet", 2, norm="frozen", **SMALL),
        pytest.param(lambda: SSD("vgg16", 2, image_size=(268, 270)), marks=pytest.mark.slow),
        lambda: SSD(
            "mobilenet_v3_large", 2, image_size=(64, 96), scales=[0.1 * k for k in range(1, 8)]
        ),
    ],
)
def test_a_detector_loads_without_limbeck(model, tmp_path: Path, monkeypatch) -> None:
    student = scramble(model())
    save_student(student, tmp_path)
    plain = without_limbeck(tmp_path, monkeypatch)
    assert type(plain).__module__.startswith("torchvision.")
    assert same_detections(plain, student, photographs((64, 64), (48, 64))) > 10


@pytest.mark.parametrize("network", ["mobilenet_v2", "timm:test_resnet"])
def test_a_classifier_loads_without_limbeck(network, tmp_path: Path, monkeypatch) -> None:
    student = scramble(Classifier(network, 4, norm="frozen")).eval()
    save_student(student, tmp_path)
    plain = without_limbeck(tmp_path, monkeypatch)
    card = json.loads((tmp_path / "student.json").read_text())
    mean, std = (torch.tensor(card["input"][key])[:, None, None] for key in ("mean", "std"))
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(plain((images - mean) / std), student(images))


def test_what_the_folder_holds(classifier, tmp_path: Path) -> None:
    save_student(classifier, tmp_path, classes=("a", "b", "c"), metadata={"recipe": "kd.yaml"})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "student.json",
        "student.safetensors",
    ]
    assert (
        load_file(tmp_path / "student.safetensors").keys() == classifier.network.state_dict().keys()
    )
    card = json.loads((tmp_path / "student.json").read_text())
    assert card["classes"] == ["a", "b", "c"]
    assert card["metadata"] == {"recipe": "kd.yaml"}
    assert card["build"]["class_path"] == "limbeck.models.Classifier"
    assert card["build"]["init_args"]["network"]["widths"] == [4, 8, 8]
    assert card["input"]["mean"] == [0.4, 0.5, 0.6]
    assert card["without_limbeck"] is None  # no library but limbeck has this network
    assert card["versions"]["torch"] == torch.__version__.partition("+")[0]


def test_wrappers_are_taken_off(classifier, tmp_path: Path) -> None:
    save_student(torch.compile(classifier), tmp_path)
    assert isinstance(load_student(tmp_path), Classifier)


def test_saving_leaves_the_random_state_and_the_model_alone(classifier, tmp_path: Path) -> None:
    classifier.train()
    state = torch.random.get_rng_state()
    save_student(classifier, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert classifier.training


def test_a_plain_module_needs_a_build(tmp_path: Path) -> None:
    model = torchvision.models.squeezenet1_1(num_classes=3).eval()
    with pytest.raises(ValueError, match=r"SqueezeNet is not known.*Pass build=Build"):
        save_student(model, tmp_path)
    save_student(
        model, tmp_path, build=Build("torchvision.models.squeezenet1_1", {"num_classes": 3})
    )
    images = torch.rand(1, 3, 64, 64)
    loaded = load_student(tmp_path)
    torch.testing.assert_close(loaded(images), model(images))
    save_student(loaded, tmp_path / "again")  # it knows now how it is built
    torch.testing.assert_close(load_student(tmp_path / "again")(images), model(images))


def test_a_build_of_another_network_is_refused(classifier, tmp_path: Path) -> None:
    other = Build("limbeck.models.Classifier", {"network": "squeezenet1_1", "num_classes": 3})
    with pytest.raises(ValueError, match=r"makes another network.*bn1.bias"):
        save_student(classifier, tmp_path, build=other)
    assert list(tmp_path.iterdir()) == []


def test_foreign_code_runs_only_when_trusted(tmp_path: Path) -> None:
    build = Build("torch.nn.Linear", {"in_features": 2, "out_features": 3})
    save_student(nn.Linear(2, 3), tmp_path, build=build)
    with pytest.raises(ValueError, match=r"'torch.nn.Linear'.*trust=True"):
        load_student(tmp_path)
    assert isinstance(load_student(tmp_path, trust=True), nn.Linear)


def test_names_have_to_match_the_classes(classifier, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes has 2 names, the model has num_classes=3"):
        save_student(classifier, tmp_path, classes=("a", "b"))


def change(folder: Path, **values) -> None:
    card = json.loads((folder / "student.json").read_text())
    (folder / "student.json").write_text(json.dumps(card | values))


def test_a_later_format_is_refused(classifier, tmp_path: Path) -> None:
    save_student(classifier, tmp_path)
    change(tmp_path, format=2)
    with pytest.raises(ValueError, match=r"student.json has format 2, expected 1"):
        load_student(tmp_path)


def test_damage_is_found(classifier, tmp_path: Path) -> None:
    save_student(classifier, tmp_path)
    file = tmp_path / "student.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(ValueError, match=r"student.safetensors is not the file.*sha256 differs"):
        load_student(tmp_path)
    (tmp_path / "student.json").write_text('{"format": 1,')
    with pytest.raises(ValueError, match=r"student.json is no JSON"):
        load_student(tmp_path)


def test_a_build_that_was_edited_does_not_fit(classifier, tmp_path: Path) -> None:
    save_student(classifier, tmp_path)
    build = classifier.build
    wider = build.init_args | {"num_classes": 4}
    change(tmp_path, build={"class_path": build.class_path, "init_args": wider})
    with pytest.raises(ValueError, match=r"(?s)student.safetensors does not fit.*fc.weight"):
        load_student(tmp_path)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no student: expected student.json"):
        load_student(tmp_path)


# -- classes that are derived from limbeck's ------------------------------------------------------


class Faint(RetinaNet):
    """The same constructor; detections that are half as sure."""

    def postprocess_detections(self, *args):
        found = super().postprocess_detections(*args)
        return [each | {"scores": each["scores"] / 2} for each in found]


class Narrow(RetinaNet):
    """A constructor of its own, and a layer more than limbeck's."""

    def __init__(self, classes: int, preset: str | None = None, weights=None) -> None:
        super().__init__(BLOCKS, classes, levels=(3, 4), preset=preset, weights=weights, **SMALL)
        self.extra = nn.Linear(2, 3)


class Forgetful(RetinaNet):
    """Hands no preset on, which the weights may decide."""

    def __init__(self, weights=None) -> None:
        super().__init__(BLOCKS, 2, levels=(3, 4), weights=weights, **SMALL)


class Scaled(Classifier):
    """Keeps a parameter outside of the plain network; its arguments come as keywords."""

    def __init__(self, **arguments) -> None:
        super().__init__(BLOCKS, **arguments)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return super().forward(images) * self.scale


def test_a_derived_class_comes_back_as_itself_and_only_when_trusted(tmp_path: Path) -> None:
    model = scramble(Faint(BLOCKS, 2, levels=(3, 4), norm="trained", **SMALL))
    save_student(model, tmp_path)
    with pytest.raises(ValueError, match=r"'tests.models.test_student.Faint'.*trust=True"):
        load_student(tmp_path)
    again = load_student(tmp_path, trust=True)
    assert type(again) is Faint
    assert same_detections(again, model, photographs((50, 64))) > 10


def test_a_constructor_of_its_own_gets_its_own_arguments_again(tmp_path: Path) -> None:
    model = scramble(Narrow(2, preset="mmdetection"))
    save_student(model, tmp_path)
    card = json.loads((tmp_path / "student.json").read_text())
    assert card["build"]["init_args"] == {"classes": 2, "preset": "mmdetection"}
    assert card["base"]["class_path"] == "limbeck.models.RetinaNet"
    assert card["base"]["init_args"]["fpn_channels"] == 8
    assert card["without_limbeck"] is None
    again = load_student(tmp_path, trust=True)
    assert type(again) is Narrow
    assert torch.equal(again.extra.weight, model.extra.weight)
    assert again.arguments == model.arguments
    assert again.build == model.build


def test_what_a_derived_class_holds_beside_the_plain_network_is_kept(tmp_path: Path) -> None:
    model = Scaled(num_classes=3).eval()
    nn.init.constant_(model.scale, 2.5)
    save_student(model, tmp_path)
    again = load_student(tmp_path, trust=True)
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(again(images), model(images), rtol=0, atol=0)


def test_what_the_weights_decided_has_to_be_handed_on(tmp_path: Path) -> None:
    teacher = RetinaNet(BLOCKS, 2, levels=(3, 4), preset="mmdetection", **SMALL)
    save_student(teacher, tmp_path / "teacher")
    model = Forgetful(weights=tmp_path / "teacher")
    assert model.arguments["preset"] == "mmdetection"
    message = r"Forgetful, built again.*preset is mmdetection here, torchvision there"
    with pytest.raises(ValueError, match=message):
        save_student(model, tmp_path / "student")
    assert not (tmp_path / "student").exists()


def test_an_argument_that_was_left_open_is_kept_as_the_weights_settled_it(tmp_path: Path) -> None:
    teacher = RetinaNet(BLOCKS, 2, levels=(3, 4), preset="detectron2", **SMALL)
    save_student(teacher, tmp_path / "teacher")
    model = Narrow(2, weights=tmp_path / "teacher")
    assert model.build.init_args == {"classes": 2, "preset": "detectron2"}
    save_student(model, tmp_path / "student")
    again = load_student(tmp_path / "student", trust=True)
    assert again.arguments["preset"] == "detectron2"


def test_weights_of_a_derived_class_go_into_limbecks_and_are_compared(tmp_path: Path) -> None:
    model = scramble(Faint(BLOCKS, 2, levels=(3, 4), preset="mmdetection", **SMALL))
    save_student(model, tmp_path)
    plain = RetinaNet(BLOCKS, 2, levels=(3, 4), weights=tmp_path, **SMALL)
    assert plain.arguments["preset"] == "mmdetection"
    with pytest.raises(ValueError, match="preset is mmdetection in the weights, torchvision here"):
        RetinaNet(BLOCKS, 2, levels=(3, 4), preset="torchvision", weights=tmp_path, **SMALL)


def test_a_class_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    class Local(Classifier):
        pass

    with pytest.raises(ValueError, match=r"Local of tests.models.test_student cannot be imported"):
        save_student(Local(BLOCKS, 3), tmp_path)


def test_a_constructor_with_arguments_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    model = Hooked(torch.relu)
    with pytest.raises(ValueError, match=r"argument 'hook' of .*Hooked is a builtin_function"):
        save_student(model, tmp_path)
    stated = Build("limbeck.models.Classifier", {"network": vars(BLOCKS), "num_classes": 3})
    save_student(model, tmp_path, build=stated)
    assert type(load_student(tmp_path)) is Classifier


class Hooked(Classifier):
    """Takes a function."""

    def __init__(self, hook) -> None:
        super().__init__(BLOCKS, 3)
        self.hook = hook


def test_a_copy_knows_its_build_too() -> None:
    model = Narrow(2)
    assert copy.deepcopy(model).build == model.build
    assert pickle.loads(pickle.dumps(model)).build == model.build


def test_a_card_that_was_written_before_classes_were_told_apart_still_loads(tmp_path: Path) -> None:
    model = scramble(RetinaNet(BLOCKS, 2, levels=(3, 4), norm="trained", **SMALL))
    save_student(model, tmp_path)
    card = json.loads((tmp_path / "student.json").read_text())
    assert "base" not in card  # limbeck's own classes are written as ever
    assert set(card) == {
        "format", "build", "classes", "input", "without_limbeck", "weights", "versions", "metadata"
    }  # fmt: skip
    assert type(load_student(tmp_path)) is RetinaNet


# -- files that are damaged, or larger than they say ----------------------------------------------


def keep(folder: Path, content: bytes) -> None:
    """Other weights, whose checksum is right."""
    (folder / "student.safetensors").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    change(folder, weights={"file": "student.safetensors", "sha256": sha256})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "student.safetensors cannot be read"),
        (b"no weights", r"cannot be read \(its header should be 7523097587056930670 bytes long"),
        (struct.pack("<Q", 10) + b"{}", "student.safetensors cannot be read"),
        (
            struct.pack("<Q", 2**24 + 1) + b"{}",
            r"cannot be read \(its header should be 16777217 bytes long",
        ),
        (
            struct.pack("<Q", 59) + b'{"w":{"dtype":"F32","shape":[9999],"data_offsets":[0,4]}}  ',
            "student.safetensors cannot be read",
        ),
    ],
)
def test_a_damaged_file_of_weights_is_a_sentence(
    classifier, tmp_path: Path, content: bytes, message: str
) -> None:
    save_student(classifier, tmp_path)
    keep(tmp_path, content)
    with pytest.raises(ValueError, match=message):
        load_student(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(classifier, tmp_path: Path, value: float) -> None:
    classifier.network.fc.bias.data[1] = value
    save_student(classifier, tmp_path)
    with pytest.raises(ValueError, match=r"student.safetensors holds NaN or infinity in fc.bias"):
        load_student(tmp_path)


def test_absurd_shapes_do_not_fit(classifier, tmp_path: Path) -> None:
    save_student(classifier, tmp_path)
    tensors = load_file(tmp_path / "student.safetensors")
    keep(tmp_path, save(tensors | {"fc.bias": torch.zeros(0, 10**12), "x" * 9999: torch.ones(1)}))
    with pytest.raises(ValueError, match=r"(?s)student.safetensors does not fit.*fc.bias") as found:
        load_student(tmp_path)
    assert len(str(found.value)) < 3000


def test_a_network_much_larger_than_its_weights_is_not_built(classifier, tmp_path: Path) -> None:
    save_student(classifier, tmp_path)
    for network in (
        {"depths": [5000], "widths": [1]},
        {"depths": [1, 1], "widths": [10_000, 10_000]},
    ):
        arguments = {"network": network, "num_classes": 3}
        change(tmp_path, build={"class_path": "limbeck.models.Classifier", "init_args": arguments})
        with pytest.raises(ValueError, match=r"student\.json: build: "):
            load_student(tmp_path)
    assert not nn.modules.module._global_parameter_registration_hooks


def test_minus_infinity_stands_in_masks(classifier, tmp_path: Path) -> None:
    classifier.network.fc.bias.data[1] = float("-inf")
    save_student(classifier, tmp_path)
    assert load_student(tmp_path).network.fc.bias[1] == float("-inf")


def test_the_largest_images_that_may_be_trained_on_are_no_absurd_ones(tmp_path: Path) -> None:
    student = YOLOv2(0.15, num_classes=2, image_size=(8192, 32))
    save_student(student, tmp_path)
    assert load_student(tmp_path).image_size == (8192, 32)


class Shaped(Classifier):
    """Takes basic blocks under a name of its own."""

    def __init__(self, network: BasicBlocks, num_classes: int) -> None:
        super().__init__(network, num_classes)


class Handing(Classifier):
    """Hands all arguments on."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)


@pytest.mark.parametrize("kind", [Shaped, Handing])
def test_a_derived_class_that_takes_basic_blocks_comes_back(kind: Any, tmp_path: Path) -> None:
    model = kind(network=BasicBlocks((1, 1, 1), (4, 8, 8)), num_classes=2).eval()
    save_student(model, tmp_path)
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(load_student(tmp_path, trust=True)(images), model(images))


def test_saving_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    arguments = {"num_classes": 3}
    model = retinanet_resnet50_fpn(weights=None, weights_backbone=None, **arguments)
    build = Build("torchvision.models.detection.retinanet_resnet50_fpn", arguments)
    save_student(model, tmp_path, build=build)
    assert (tmp_path / "student.safetensors").is_file()


def test_a_pyramid_that_torchvision_would_build_otherwise_is_not_said_to_be_its() -> None:
    assert RetinaNet("resnet18", 3, fpn_channels=512, p6_from="C5").without_limbeck() is None
    assert RetinaNet("resnet18", 3, fpn_channels=256, p6_from="C5").without_limbeck() is not None
