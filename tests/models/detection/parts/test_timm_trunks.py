import json
import logging
from pathlib import Path

import pytest
import timm
import torch
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from limbeck.models import (
    FCOS,
    GFL,
    SSD,
    FasterRCNN,
    FasterRCNNC4,
    RetinaNet,
    load_student,
    save_student,
)
from limbeck.models.detection.parts.timm_trunks import timm_layout
from tests.models.detection.tiny_timm import HIERARCHICAL, PLAIN

SIZE = (64, 96)
TINY = {"fpn_channels": 8, "head_depth": 1, "min_size": 64, "levels": (3, 5)}
SMALL = "timm:test_efficientnet"


def retinanet(name: str = "test_efficientnet", **arguments) -> RetinaNet:
    return RetinaNet(f"timm:{name}", 2, **TINY | arguments)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=[*HIERARCHICAL, PLAIN])
def published(request, tmp_path_factory) -> tuple[str, Path]:
    """A network's name, and a file of its classifier's weights, as timm publishes them."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / f"{request.param}.pth"
    classifier = timm.create_model(request.param)
    for module in classifier.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save(classifier.state_dict(), file)
    return request.param, file


def timms_own(name: str, file: Path, levels: tuple[int, ...]) -> nn.Module:
    """timm's network of features, with a file's weights, that takes images of any size."""
    layout = timm_layout(name)
    found: nn.Module = timm.create_model(
        name,
        pretrained=True,
        pretrained_cfg_overlay={"file": str(file)},
        features_only=True,
        out_indices=[layout.indices[level] for level in levels],
        **layout.arguments,
    )
    return found.eval()


def test_maps_equal_timms_own_features_to_the_last_bit(published, images: Tensor) -> None:
    name, file = published
    trunk = retinanet(name, weights=file, norm="trained").eval().backbone.body
    with torch.no_grad():
        ours = list(trunk(images).values())
        theirs = timms_own(name, file, trunk.levels)(images)
    for level, mine, other in zip(trunk.levels, ours, theirs, strict=True):
        if name == "limbeck_test_swin":
            other = other.permute(0, 3, 1, 2)
        assert torch.equal(mine, other)
        assert mine.shape[-2:] == (SIZE[0] >> level, SIZE[1] >> level)
        assert mine.std() > 0.01


def test_frozen_normalisations_are_timms_frozen_ones(tmp_path: Path, images: Tensor) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model("test_efficientnet").state_dict(), tmp_path / "w.pth")
    trunk = retinanet(weights=tmp_path / "w.pth").train().backbone.body
    theirs = freeze_batch_norm_2d(timms_own("test_efficientnet", tmp_path / "w.pth", (3, 4, 5)))
    with torch.no_grad():
        pairs = zip(trunk(images).values(), theirs.train()(images), strict=True)
        assert all(torch.equal(ours, other) for ours, other in pairs)


def test_a_real_file_of_timms_loads_and_its_head_is_left_out_with_a_word(
    shared: Path, images: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    name, file = "tf_efficientnet_lite2", shared / "data/weights/tf_efficientnet_lite2_imagenet.pth"
    with caplog.at_level(logging.INFO):
        detector = retinanet(name, weights=file, norm="trained").eval()
    assert "Left out, since no map needs it: conv_head, bn2, classifier." in caplog.text
    assert detector.arguments["mean"] == detector.arguments["std"] == [0.5, 0.5, 0.5]
    with torch.no_grad():
        ours, theirs = detector.backbone.body(images), timms_own(name, file, (3, 4, 5))(images)
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), theirs, strict=True))


@pytest.mark.parametrize("name", [*HIERARCHICAL, PLAIN])
def test_the_trunks_tensors_load_into_timms_own_network_under_timms_names(name: str) -> None:
    prefix = "backbone.body.model."
    tensors = retinanet(name, norm="trained").state_dict()
    trunk = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    network = timm.create_model(name, num_classes=0, **timm_layout(name).arguments)
    missing, unexpected = network.load_state_dict(trunk, strict=False)
    assert not unexpected
    assert {each.partition(".")[0] for each in missing} <= {"head", "norm", "conv_head", "bn2"}


def test_to_try_a_network_draws_no_random_numbers() -> None:
    timm_layout.cache_clear()
    torch.manual_seed(3)
    first = retinanet().state_dict()
    torch.manual_seed(3)
    second = retinanet().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_levels_and_channels_are_those_that_timm_says() -> None:
    stages = timm_layout("test_efficientnet").stages
    assert [(each.level, each.channels) for each in stages] == [(2, 24), (3, 32), (4, 48), (5, 64)]
    plain = timm_layout(PLAIN)
    assert plain.only == 4
    assert [each.channels for each in plain.stages] == [16, 32, 64, 64]


def test_what_lies_above_the_pyramid_is_not_there() -> None:
    tensors = retinanet(levels=(3, 4)).backbone.body.state_dict()
    assert any(name.startswith("model.blocks.3.") for name in tensors)
    assert not any(name.startswith(("model.blocks.4.", "model.classifier")) for name in tensors)


@pytest.mark.parametrize(
    ("name", "count", "first_trained"),
    [
        ("test_efficientnet", 0, "conv_stem.weight"),
        ("test_efficientnet", 1, "blocks.1.0.conv_exp.weight"),
        ("test_efficientnet", 2, "blocks.2.0.conv_exp.weight"),
        ("test_resnet", 1, "layer1.0.conv1.weight"),
        ("test_resnet", 3, "layer3.0.conv1.weight"),
        ("limbeck_test_swin", 1, "layers.0.blocks.0.norm1.weight"),
        ("test_convnext", 5, None),
        (PLAIN, 1, "blocks.0.norm1.weight"),
        (PLAIN, 3, "blocks.2.norm1.weight"),
    ],
)
def test_frozen_stages_are_not_trained(name: str, count: int, first_trained: str | None) -> None:
    network = retinanet(name, norm="trained", frozen_stages=count).backbone.body.model
    trained = [k for k, parameter in network.named_parameters() if parameter.requires_grad]
    assert (trained[0] if trained else None) == first_trained
    frozen = [m for m in network.modules() if type(m).__name__.startswith("FrozenBatchNorm")]
    assert bool(frozen) == (count > 0 and name in ("test_efficientnet", "test_resnet"))


def test_a_trunk_without_batch_normalisation_says_that_norm_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        retinanet("test_convnext")
        retinanet()
    assert caplog.text.count("no batch normalisation: norm='frozen' changes nothing") == 1


DETECTORS = {
    "RetinaNet": lambda name: RetinaNet(name, 2, **TINY, norm="trained"),
    "RetinaNet to P7": lambda name: RetinaNet(
        name, 2, **TINY | {"levels": (3, 7)}, norm="trained", p6_from="C5"
    ),
    "FCOS": lambda name: FCOS(name, 2, **TINY | {"fpn_channels": 32}, norm="trained"),
    "GFL": lambda name: GFL(name, 2, **TINY | {"fpn_channels": 32}, norm="trained"),
    "FasterRCNN": lambda name: FasterRCNN(
        name, 2, levels=(2, 6), fpn_channels=8, box_head_channels=8, min_size=64, norm="trained"
    ),
    "SSD": lambda name: SSD(name, 2, levels=(3, 7), image_size=(128, 128), norm="trained"),
}


@pytest.mark.parametrize("kind", DETECTORS)
@pytest.mark.parametrize("name", ["test_efficientnet", PLAIN])
def test_every_detector_learns_and_is_kept(kind: str, name: str, tmp_path: Path) -> None:
    backbone = f"timm:{name}"
    if (kind, name) == ("SSD", PLAIN):
        with pytest.raises(ValueError, match="stride of 16 pixels, and this detector needs"):
            DETECTORS[kind](backbone)
        return
    torch.manual_seed(0)
    detector = DETECTORS[kind](backbone)
    image = torch.rand(3, 128, 128)
    target = {"boxes": torch.tensor([[8.0, 8.0, 60.0, 60.0]]), "labels": torch.tensor([1])}
    sum(detector([image], [target]).values()).backward()
    trunk = detector.backbone.body.named_parameters()
    assert [k for k, p in trunk if p.grad is None or not p.grad.abs().sum() > 0] == []
    save_student(detector.eval(), tmp_path, classes=["a", "b"])
    again = load_student(tmp_path)
    with torch.no_grad():
        ours, theirs = detector([image])[0], again([image])[0]
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_mean_and_deviation_are_as_given_else_as_the_weights_say_else_timms(
    tmp_path: Path,
) -> None:
    assert retinanet("test_resnet").arguments["mean"] == [0.5, 0.5, 0.5]
    other = retinanet("test_resnet", mean=(0.1, 0.2, 0.3))
    assert other.arguments["mean"] == [0.1, 0.2, 0.3]
    save_student(other, tmp_path)
    assert retinanet("test_resnet", weights=tmp_path).arguments["mean"] == [0.1, 0.2, 0.3]
    assert retinanet("resnet18.a1_in1k").arguments["std"] == [0.229, 0.224, 0.225]


@pytest.mark.parametrize(
    ("source", "mean"),
    [("backbone", 0.5), ("vit_tiny_patch16_224.augreg_in21k", 0.5), ("test_efficientnet", 0.485)],
)
def test_published_weights_say_what_they_need(source: str, mean: float, monkeypatch) -> None:
    monkeypatch.setattr("limbeck.models.detection.detector.load_weights", lambda *_: None)
    assert retinanet(PLAIN, weights=f"timm:{source}").arguments["mean"][0] == mean


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: retinanet("resnet_18"), "no network of that name.*Nearest names: .*resnet18"),
        (lambda: retinanet("hf-hub:timm/resnet18"), "without hub or folder"),
        (lambda: retinanet("resnet18.mine"), "Invalid pretrained tag"),
        (lambda: RetinaNet("test_resnet", 2), "timm's as timm:NAME"),
        (lambda: retinanet("test_coatnet"), "does not take images of any size"),
        (lambda: retinanet("vit_small_patch14_dinov2"), "strides of 14 pixels.*patches of 8, 16"),
        (lambda: retinanet("shvit_s1"), "this backbone has C4 to C5"),
        (lambda: retinanet(frozen_stages=6), "expected 0 to 5"),
        (lambda: retinanet(norm="affine"), "BatchNormAct2d"),
        (lambda: retinanet(last_norm="group"), "no residual stages"),
        (lambda: retinanet("test_resnet", stride_in_1x1=True), "no bottleneck blocks of torchvis"),
        (lambda: retinanet(activation="leaky_relu"), "torchvision's mobilenet_v2"),
        (
            lambda: SSD("timm:test_convnext", 2, levels=(3, 7), image_size=(100, 128)),
            r"C3 of \(12, 16\) cells.*multiples of 32",
        ),
        (lambda: FasterRCNNC4("timm:test_resnet", 2), "on none of timm's networks"),
    ],
)
def test_what_cannot_be_is_refused_and_named(make, told: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){told}"):
        make()


def test_weights_of_another_trunk_are_refused_and_both_are_named(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_convnext").state_dict(), tmp_path / "convnext.pth")
    with pytest.raises(
        ValueError, match=r"weights is a network of tensors such as stem\.0\.weight"
    ):
        retinanet(weights=tmp_path / "convnext.pth")
    save_student(retinanet("test_resnet"), tmp_path / "student")
    both = f"trunk of the weights is timm:test_resnet, and that of this RetinaNet {SMALL}"
    with pytest.raises(ValueError, match=both):
        retinanet(weights=tmp_path / "student")


def test_a_card_cannot_name_a_hub_or_a_network_that_is_too_large(tmp_path: Path) -> None:
    save_student(retinanet(), tmp_path)
    card = json.loads((tmp_path / "student.json").read_text())
    for name, told in {
        "timm:hf-hub:timm/resnet18": "without hub or folder",
        "timm:local-dir:/tmp": "without hub or folder",
        "timm:convnext_xlarge": "make a network of more than",
    }.items():
        card["build"]["init_args"]["backbone"] = name
        (tmp_path / "student.json").write_text(json.dumps(card))
        with pytest.raises(ValueError, match=told):
            load_student(tmp_path)


def test_the_backbone_compiles_as_one_graph(images: Tensor) -> None:
    backbone = retinanet(PLAIN).eval().backbone.to(memory_format=torch.channels_last)
    compiled = torch.compile(backbone, backend="eager", fullgraph=True)
    with torch.no_grad():
        for ours, theirs in zip(backbone(images).values(), compiled(images).values(), strict=True):
            torch.testing.assert_close(ours, theirs)
