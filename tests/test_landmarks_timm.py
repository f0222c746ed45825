"""The landmarks of detectors on timm's networks."""

import pytest
import timm
import torch

from limbeck import Distillation, Taps, landmarks
from limbeck.methods import KD, FitNet
from limbeck.models import SSD, Classifier, RetinaNet
from tests.models.detection.tiny_timm import HIERARCHICAL, PLAIN


def retinanet(name: str) -> RetinaNet:
    torch.manual_seed(0)
    small = {"fpn_channels": 8, "head_depth": 1, "norm": "trained", "min_size": 64}
    return RetinaNet(f"timm:{name}", 2, **small).eval()


def seen(model, names: list[str]) -> dict:
    taps = Taps(model, {name: landmarks(model)[name] for name in names})
    try:
        with torch.no_grad():
            return taps.learn(lambda: model([torch.rand(3, 64, 96)]))
    finally:
        taps.close()


@pytest.mark.parametrize("name", HIERARCHICAL)
def test_c_levels_are_the_maps_that_the_pyramid_takes(name: str) -> None:
    model = retinanet(name)
    known = landmarks(model)
    maps = {}
    model.backbone.body.register_forward_hook(lambda _, __, output: maps.update(output))
    found = seen(model, ["C3", "C4", "C5", "P3", "P5", "P6", "P7"])
    assert all(torch.equal(found[f"C{k}"], maps[str(k - 3)]) for k in (3, 4, 5))
    assert [found[f"P{k}"].shape[-1] for k in (3, 5, 6, 7)] == [12, 3, 2, 1]
    assert ("C2" in known) == (name != "limbeck_test_swin")  # whose modules have channels last


def test_maps_of_a_classifier_whose_channels_come_last_have_them_first() -> None:
    model = Classifier("timm:limbeck_test_swin", 2).eval()
    image = torch.rand(1, 3, 32, 32)
    names = [name for name in ("C2", "C3", "C4", "C5") if name in landmarks(model)]
    assert names
    with Taps(model, {name: landmarks(model)[name] for name in names}) as seen, torch.no_grad():
        model(image)
    with torch.no_grad():
        maps = model.network.forward_intermediates(
            (image - model.mean) / model.std, intermediates_only=True
        )
    for name in names:
        assert any(torch.equal(seen[name], each) for each in maps), name


@pytest.mark.parametrize(
    ("name", "arguments", "levels"),
    [
        ("hrnet_w18_small", {}, {"C3", "C4", "C5"}),
        (
            "twins_svt_small",
            {"embed_dims": (16,) * 4, "num_heads": (1,) * 4, "depths": (1,) * 4},
            set(),
        ),
    ],
)
def test_levels_whose_modules_a_network_does_not_have_are_left_out(
    name: str, arguments: dict, levels: set[str]
) -> None:
    """Their ``feature_info`` is that of the family's feature extractor."""
    teacher = timm.create_model(name, num_classes=2, **arguments)
    assert {place for place in landmarks(teacher) if place[0] == "C"} == levels
    student = timm.create_model("test_resnet", num_classes=2)
    pair = Distillation(student, teacher, [KD()])
    assert pair(torch.rand(2, 3, 224, 224), torch.tensor([0, 1])).total > 0


def test_what_goes_into_the_last_activation_is_known_where_the_structure_tells() -> None:
    known = landmarks(retinanet("test_resnet"))
    assert str(known["C4.pre"]) == "backbone.body.model.layer3.0.act3:input"
    assert str(landmarks(retinanet("test_efficientnet"))["C4.pre"]) == str(
        landmarks(retinanet("test_efficientnet"))["C4"]
    )


def test_a_plain_network_has_one_c_level_and_all_p_levels() -> None:
    model = retinanet(PLAIN)
    known = landmarks(model)
    assert [name for name in known if name.startswith("C")] == ["C4"]
    found = seen(model, ["C4", "P3", "P4", "P5", "P6", "P7", "fpn"])
    assert tuple(found["C4"].shape) == (1, 64, 4, 6)
    assert [tuple(each.shape[-2:]) for each in found["fpn"]] == [
        (8, 12),
        (4, 6),
        (2, 3),
        (1, 2),
        (1, 1),
    ]
    assert torch.equal(found["P6"], found["fpn"][3])


def test_an_ssd_has_the_c_levels_of_its_trunk() -> None:
    model = SSD("timm:test_efficientnet", 2, levels=(3, 7), image_size=(128, 128)).eval()
    found = seen(model, ["C2", "C3", "C4", "C5"])
    assert [found[f"C{k}"].shape[-1] for k in (2, 3, 4, 5)] == [32, 16, 8, 4]


@pytest.mark.parametrize("teacher", ["limbeck_test_swin", PLAIN])
def test_a_student_learns_from_maps_of_a_transformer_that_stops_behind_them(teacher: str) -> None:
    student, taught_by = retinanet("test_efficientnet").train(), retinanet(teacher)
    pair = Distillation(student, taught_by, {"fitnet": FitNet(places=["C4", "P3"])})
    heads: list[torch.Tensor] = []
    taught_by.head.register_forward_hook(lambda *_: heads.append(torch.ones(1)))
    target = {"boxes": torch.tensor([[8.0, 8.0, 60.0, 60.0]]), "labels": torch.tensor([1])}
    losses = pair([torch.rand(3, 64, 96)], [target])
    losses.total.backward()
    assert heads == []
    weight = student.backbone.body.model.conv_stem.weight
    assert weight.grad.abs().sum() > 0
