import dataclasses
import logging
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import timm
import torch
import torchvision
from torch import nn
from torchvision.models import WeightsEnum
from torchvision.models.mobilenetv2 import InvertedResidual

from limbeck.models import BasicBlocks, Classifier, load_student, published, save_student

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("name", "mean", "std"),
    [
        ("mobilenet_v2", *IMAGENET),
        (BasicBlocks((1, 1), (8, 16), stem_stride=2), *IMAGENET),
        ("timm:test_resnet", (0.5,) * 3, (0.5,) * 3),  # as timm published it
    ],
)
def test_normalises_what_it_is_given(name, mean, std) -> None:
    model = Classifier(name, 5).eval()
    images = torch.rand(2, 3, 64, 64)
    by_hand = torchvision.transforms.functional.normalize(images, mean, std)
    torch.testing.assert_close(model(images), model.network(by_hand))
    assert model(images).shape == (2, 5)


def test_given_mean_and_std_win() -> None:
    model = Classifier("timm:test_resnet", 3, mean=(0.1, 0.2, 0.3), std=(1.0, 1.0, 1.0))
    assert model.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert model.build.init_args["std"] == [1.0, 1.0, 1.0]


def test_normalisation_is_not_in_the_state_dict() -> None:
    model = Classifier("squeezenet1_0", 4)
    plain = torchvision.models.squeezenet1_0(num_classes=4)
    assert list(model.state_dict()) == [f"network.{name}" for name in plain.state_dict()]
    model.network.load_state_dict(plain.state_dict())


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("resnet18", "torchvision:resnet18"),  # both libraries have it: torchvision's first
        ("torchvision:resnet18", "torchvision:resnet18"),
        ("timm:resnet18", "timm:resnet18"),
        ("test_efficientnet", "timm:test_efficientnet"),
    ],
)
def test_which_library_a_name_means(given: str, found: str) -> None:
    model = Classifier(given, 2)
    assert model.published == (found,)
    assert model.build.init_args["network"] == found


@pytest.mark.parametrize("name", ["resnet19", "torchvision:resnet10t", "other:resnet18"])
def test_an_unknown_name_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match=f"network='{name}'.*Nearest names: .*resnet1"):
        Classifier(name, 2)


def test_a_detector_is_no_classifier() -> None:
    with pytest.raises(ValueError, match="no such network"):
        Classifier("retinanet_resnet50_fpn", 2)


@pytest.mark.parametrize(
    ("name", "arguments", "parameters"),
    [
        ("torchvision:resnet50", {}, 25_557_032),
        ("torchvision:resnet152", {}, 60_192_808),
        ("torchvision:resnet18", {}, 11_689_512),
        ("torchvision:resnet34", {}, 21_797_672),
        ("timm:mobilenetv1_100", {"act_layer": "relu"}, 4_231_976),
        ("torchvision:mobilenet_v2", {"dropout": 0.0}, 3_504_872),
        ("torchvision:shufflenet_v2_x1_0", {}, 2_278_604),
    ],
)
def test_networks_of_published_distillations(name, arguments, parameters: int) -> None:
    """MGD (ECCV 2020); torchvision's documentation for the other ResNets."""
    with torch.device("meta"):
        model = Classifier(name, 1000, arguments=arguments).eval()
        assert sum(p.numel() for p in model.parameters()) == parameters
        for pixels in (224, 160, 257):
            assert model(torch.rand(2, 3, pixels, pixels)).shape == (2, 1000)


def test_arguments_reach_the_builder() -> None:
    torch.manual_seed(0)
    moved = {"inverted_residual_setting": [[1, 8, 1, 1], [6, 8, 1, 2]], "dropout": 0.0}
    model = Classifier("mobilenet_v2", 3, arguments=moved)
    assert model.network.classifier[0].p == 0.0
    assert sum(isinstance(m, InvertedResidual) for m in model.modules()) == 2
    smooth = Classifier("timm:test_resnet", 3, arguments={"act_layer": "silu"})
    assert any(isinstance(module, nn.SiLU) for module in smooth.modules())


def test_weights_load_into_a_network_whose_stride_is_moved() -> None:
    """The same tensors, another function until it is trained further."""
    blocks = [[1, 8, 1, 1], [6, 8, 2, 2], [6, 16, 1, 1]]
    moved = [[1, 8, 1, 1], [6, 8, 2, 1], [6, 16, 1, 2]]
    plain = Classifier("mobilenet_v2", 3, arguments={"inverted_residual_setting": blocks}).eval()
    other = Classifier("mobilenet_v2", 3, arguments={"inverted_residual_setting": moved}).eval()
    part, tensors = other.part_for(plain.state_dict())
    part.load_state_dict(tensors)
    images = torch.rand(1, 3, 64, 64)
    assert not torch.allclose(plain(images), other(images))


def test_arguments_are_kept_and_said_to_who_has_no_limbeck(tmp_path, monkeypatch) -> None:
    arguments = {"inverted_residual_setting": [[1, 8, 1, 1], [6, 8, 1, 2]], "dropout": 0.1}
    model = Classifier("mobilenet_v2", 3, arguments=arguments).eval()
    save_student(model, tmp_path)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(load_student(tmp_path)(images), model(images))
    code = model.without_limbeck()
    assert "dropout=0.1" in code
    names: dict = {}
    monkeypatch.chdir(tmp_path)
    exec(code, names)
    by_hand = names["model"]((images - names["mean"]) / names["std"])
    torch.testing.assert_close(by_hand, model(images))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("mobilenet_v2", r"arguments=.* do not suit torchvision:mobilenet_v2: .*'droput'"),
        ("timm:test_resnet", r"arguments=.* do not suit timm:test_resnet: .*'droput'"),
        (
            BasicBlocks((1,), (4,)),
            r"a network of basic blocks has its depths, widths, stem_stride and",
        ),
    ],
)
def test_arguments_that_do_not_suit_are_refused(network, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classifier(network, 3, arguments={"droput": 0.1})


def test_bytes_are_refused() -> None:
    model = Classifier(BasicBlocks((1,), (4,)), 2)
    with pytest.raises(TypeError, match=r"torch.uint8: expected float in \[0, 1\]"):
        model(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_norm_behaviour_reaches_the_network() -> None:
    model = Classifier(BasicBlocks((1, 1), (4, 8)), 2, norm="frozen").train()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    model(torch.rand(2, 3, 16, 16)).sum().backward()
    assert model.network.conv1.weight.grad is not None


def test_another_number_of_classes_keeps_the_own_head(caplog) -> None:
    trained, model = Classifier("squeezenet1_0", 6), Classifier("squeezenet1_0", 3)
    with caplog.at_level(logging.INFO):
        part, tensors = model.part_for(trained.state_dict())
    part.load_state_dict(tensors)
    assert "6 classes given, 3 here" in caplog.text
    same = [
        torch.equal(tensor, trained.network.state_dict()[name])
        for name, tensor in model.network.state_dict().items()
        if not name.startswith("classifier.")
    ]
    assert all(same)
    assert torch.equal(tensors["classifier.1.weight"], model.network.classifier[1].weight)
    assert tensors["classifier.1.weight"].shape[0] == 3


@pytest.mark.parametrize(
    ("name", "classes"), [("repvit_m0_9", 7), ("levit_128s", 7), ("resnet18", 7), ("resnet18", 0)]
)
def test_every_head_keeps_its_own_where_classes_differ_or_are_none(name: str, classes: int) -> None:
    given = timm.create_model(name, num_classes=classes).state_dict()
    network, tensors = Classifier(f"timm:{name}", 3).part_for(given)
    network.load_state_dict(tensors)


def test_a_tag_that_timm_lacks_is_told() -> None:
    with pytest.raises(ValueError, match=r"test_resnet\.bogus"):
        Classifier("timm:test_resnet.bogus", 2)


def test_weights_that_cannot_be_fetched_are_told(monkeypatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr(WeightsEnum, "get_state_dict", offline)
    with pytest.raises(ValueError, match=r"'torchvision:backbone' cannot be had \(URLError"):
        Classifier("resnet18", 2, weights="torchvision:backbone")


def test_a_classifier_normalises_as_its_weights_say(monkeypatch, tmp_path) -> None:
    trained = Classifier("squeezenet1_0", 1000, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    save_student(trained, tmp_path)
    from_folder = Classifier("squeezenet1_0", 4, weights=tmp_path)
    assert torch.equal(from_folder.mean, trained.mean)
    assert torch.equal(from_folder.std, trained.std)

    state = timm.create_model("test_vit").state_dict()
    stated = timm.models.get_pretrained_cfg("test_vit")
    assert stated.mean == (0.5, 0.5, 0.5)
    other = dataclasses.replace(stated, mean=(0.2, 0.2, 0.2))
    monkeypatch.setattr(published, "get_pretrained_cfg", {"test_vit.other": other}.get)
    create = timm.create_model
    fetched = SimpleNamespace(state_dict=lambda: state)
    monkeypatch.setattr(
        timm, "create_model", lambda n, **k: fetched if k.get("pretrained") else create(n, **k)
    )
    model = Classifier("timm:test_vit", 2, weights="timm:other")
    assert model.build.init_args["mean"] == [0.2, 0.2, 0.2]


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_left_out(name: str) -> None:
    model = Classifier(name, 3)
    assert model.train()(torch.rand(2, 3, 80, 80)).shape == (2, 3)
    whole = torchvision.models.get_model(name, aux_logits=True, init_weights=False)
    part, tensors = model.part_for(whole.state_dict())
    part.load_state_dict(tensors)
    assert "aux_logits=False" in str(model.without_limbeck())
    with pytest.raises(ValueError, match="have no loss here"):
        Classifier(name, 3, arguments={"aux_logits": True})
