from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import nn

from limbeck.models import BasicBlocks, Build, Classifier, RetinaNet
from limbeck.models.permitted import permitted
from tests.canary import nothing_happens

BLOCKS = {"depths": [1], "widths": [8]}
RESNET18 = {"network": "resnet18", "num_classes": 3}


@pytest.mark.parametrize(
    ("class_path", "init_args", "kind"),
    [
        ("limbeck.models.Classifier", {"network": BLOCKS, "num_classes": 3}, Classifier),
        ("limbeck.models.Classifier", {"network": BLOCKS, "num_classes": 3, "weights": None}, None),
        ("limbeck.models.BasicBlockResNet", BLOCKS, None),
        ("limbeck.models.darknet19.Darknet19", {"num_classes": 2, "width": 0.125}, None),
        ("torchvision.models.squeezenet1_1", {"num_classes": 3, "weights": None}, None),
        ("torchvision.models.squeezenet1_1", {"pretrained": False}, None),
        ("torchvision.models.SqueezeNet", {"version": "1_1"}, torchvision.models.SqueezeNet),
        ("torchvision.models.get_model", {"name": "squeezenet1_0", "num_classes": 2}, None),
        ("torchvision.models.quantization.shufflenet_v2_x0_5", {"num_classes": 2}, None),
        ("timm.create_model", {"model_name": "test_resnet", "pretrained": False}, None),
        ("timm.create_model", {"model_name": "test_resnet.r160_in1k", "checkpoint_path": ""}, None),
        ("timm.models.create_model", {"model_name": "test_resnet", "num_classes": 2}, None),
        ("timm.models.test_resnet", {"num_classes": 2}, timm.models.ResNet),
        ("timm.models.vision_transformer.test_vit", {}, timm.models.VisionTransformer),
    ],
)
def test_models_are_built(class_path: str, init_args: dict[str, Any], kind: Any) -> None:
    with nothing_happens(Path("/no/bait")):
        made = Build(class_path, init_args).make()
    assert isinstance(made, kind or nn.Module)


def test_what_builders_fetch_unasked_is_switched_off() -> None:
    """Its default is ImageNet's weights for the backbone, which torchvision downloads."""
    with nothing_happens(Path("/no/bait")):
        made = Build("torchvision.models.detection.ssdlite320_mobilenet_v3_large", {}).make()
        _, arguments = permitted("torchvision.models.detection.fcos_resnet50_fpn", {})
    assert isinstance(made, torchvision.models.detection.ssd.SSD)
    assert arguments == {"weights": None, "weights_backbone": None}


@pytest.mark.parametrize(
    "class_path",
    [
        "limbeck.models.load_student",
        "limbeck.models.loading.load_student",
        "limbeck.models:load_student",
        "limbeck.models:RetinaNet",
        "limbeck.models.load_weights",
        "limbeck.models.Build",
        "limbeck.models.build.Build.make",
        "limbeck.models.saving.pkgutil.resolve_name",
        "limbeck.models.weights.timm.create_model.__globals__",
        "limbeck.models.norms.convert_norms",
        "limbeck.Distillation",
        "limbeck.load_student",
        "limbeck.cli.os.system",
        "limbeck.commands.fit.run",
        "limbeck.__main__",
        "torchvision.models.resnet.nn.Identity",
        "torchvision.models.resnet.torch.jit.load",
        "torchvision.models._api.torch.hub.load",
        "torchvision.models.get_weight",
        "torchvision.models.list_models",
        "torchvision.models._utils.IntermediateLayerGetter",
        "torchvision.models.detection.backbone_utils.IntermediateLayerGetter",
        "torchvision.models.feature_extraction.create_feature_extractor",
        "torchvision.datasets.utils.download_url",
        "torchvision.ops.MLP",
        "torchvision.transforms.v2.Lambda",
        "torchvision:os.system",
        "timm.models._factory.create_model",
        "timm.models.build_model_with_cfg",
        "timm.models.load_checkpoint",
        "timm.models.load_model_config_from_hf",
        "timm.models.FeatureListNet",
        "timm.layers.create_conv2d",
        "timm.models:resnet18",
        "timm.create_model.__call__",
        "timm",
        "limbeck",
        "limbeck..models",
        "limbeck.models.",
        "limbeck.models.RetinaNet\n",
    ],
)
def test_nothing_else_is(class_path: str, tmp_path: Path) -> None:
    with nothing_happens(tmp_path), pytest.raises(ValueError, match=r"expected an nn\.Module clas"):
        Build(class_path, {"folder": str(tmp_path), "trust": True}).make()


@pytest.mark.parametrize(
    "class_path", ["os.system", "builtins.eval", "limbeck_evil.Model", "", "."]
)
def test_other_libraries_need_trust(class_path: str, tmp_path: Path) -> None:
    with nothing_happens(tmp_path), pytest.raises(ValueError, match="are run unasked"):
        Build(class_path, {"command": "touch canary"}).make()


def test_names_in_the_library_that_are_no_builders_are_not_its_builders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resnet18(**_: Any) -> nn.Module:
        raise AssertionError

    monkeypatch.setattr(torchvision.models.alexnet, "resnet18", resnet18, raising=False)
    monkeypatch.setattr(timm.models, "resnet18", resnet18)
    with pytest.raises(ValueError, match=r"expected an nn\.Module class"):
        Build("timm.models.resnet18", {}).make()


@pytest.mark.parametrize(
    ("class_path", "init_args", "named"),
    [
        ("limbeck.models.Classifier", RESNET18 | {"weights": "{bait}.pth"}, "weights"),
        ("limbeck.models.Classifier", RESNET18 | {"weights": "."}, "weights"),
        ("limbeck.models.Classifier", RESNET18 | {"weights": "timm:backbone"}, "weights"),
        (
            "limbeck.models.Classifier",
            {"network": "timm:resnet18", "num_classes": 3, "arguments": {"pretrained": True}},
            "pretrained",
        ),
        (
            "limbeck.models.Classifier",
            {
                "network": "timm:resnet18",
                "num_classes": 3,
                "arguments": {"pretrained_cfg_overlay": {"file": "{bait}.pth"}},
            },
            "pretrained_cfg_overlay",
        ),
        (
            "limbeck.models.RetinaNet",
            {"backbone": "resnet18", "num_classes": 3, "weights": "http://bait.example/w.pth"},
            "weights",
        ),
        ("limbeck.models.Classifier", RESNET18 | {"weights": "hf:bait/model"}, "weights"),
        (
            "limbeck.models.LibreYOLODetector",
            {"network": "yolox-n", "num_classes": 3, "weights": "hf:bait/model"},
            "weights",
        ),
        ("torchvision.models.resnet18", {"weights": "DEFAULT"}, "weights"),
        ("torchvision.models.resnet18", {"pretrained": True}, "pretrained"),
        ("torchvision.models.get_model", {"name": "resnet18", "weights": "DEFAULT"}, "weights"),
        (
            "torchvision.models.detection.ssd300_vgg16",
            {"weights_backbone": "DEFAULT"},
            "weights_backbone",
        ),
        (
            "torchvision.models.detection.ssd300_vgg16",
            {"pretrained_backbone": True},
            "pretrained_backbone",
        ),
        (
            "timm.create_model",
            {"model_name": "resnet18", "checkpoint_path": "{bait}.pth"},
            "checkpoint_path",
        ),
        ("timm.create_model", {"model_name": "resnet18", "cache_dir": "{bait}"}, "cache_dir"),
        ("timm.models.resnet18", {"pretrained": True}, "pretrained"),
        (
            "timm.models.resnet.resnet18",
            {"pretrained_cfg": {"url": "http://bait.example/w.pth"}},
            "pretrained_cfg",
        ),
    ],
)
def test_no_weights_are_fetched_or_opened(
    class_path: str, init_args: dict[str, Any], named: str, tmp_path: Path
) -> None:
    bait = tmp_path / "bait"
    torch.save(torchvision.models.resnet18(num_classes=3).state_dict(), f"{bait}.pth")
    given = {k: v.format(bait=bait) if isinstance(v, str) else v for k, v in init_args.items()}
    message = rf"init_args\.{named} of {class_path} is .*, expected null.*trust=True"
    with nothing_happens(bait), pytest.raises(ValueError, match=message):
        Build(class_path, given).make()


@pytest.mark.parametrize(
    "name",
    ["hf-hub:bait/model", "hf_hub:bait/model", "local-dir:{bait}", "{bait}/resnet18", "", 18, None],
)
@pytest.mark.parametrize("maker", ["timm.create_model", "timm.models.create_model"])
def test_neither_a_hub_nor_a_folder_is_asked(maker: str, name: Any, tmp_path: Path) -> None:
    (tmp_path / "bait").mkdir()
    (tmp_path / "bait" / "config.json").write_text('{"architecture": "resnet18"}')
    given = name.format(bait=tmp_path / "bait") if isinstance(name, str) else name
    message = r"init_args.model_name is .*, expected a name of timm\.list_models\(\)"
    with nothing_happens(tmp_path), pytest.raises(ValueError, match=message):
        Build(maker, {"model_name": given}).make()


@pytest.mark.parametrize("network", ["transformers:bait/model", "timm:hf-hub:bait/model"])
def test_a_feature_teacher_s_network_is_not_fetched(network: str, tmp_path: Path) -> None:
    message = r"init_args\.network of limbeck.models.FeatureTeacher is .* fetched"
    with nothing_happens(tmp_path), pytest.raises(ValueError, match=message):
        Build("limbeck.models.FeatureTeacher", {"network": network}).make()


@pytest.mark.parametrize("network", ["bait/model", "hf:bait/model", "{bait}"])
def test_a_transformer_detector_s_network_is_neither_a_hub_s_nor_a_folder_s(
    network: str, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "rt_detr"}')
    given = {"network": network.format(bait=tmp_path), "num_classes": 3}
    message = r"init_args\.network of limbeck.models.HuggingFaceDetector is .* fetched"
    with nothing_happens(tmp_path), pytest.raises(ValueError, match=message):
        Build("limbeck.models.HuggingFaceDetector", given).make()


@pytest.mark.parametrize("network", ["timm:hf-hub:bait/model", "hf-hub:bait/model", "local-dir:/x"])
def test_a_classifier_s_network_is_no_hub_s(network: str) -> None:
    with nothing_happens(Path("/x")), pytest.raises(ValueError, match="no such network"):
        Build("limbeck.models.Classifier", {"network": network, "num_classes": 3}).make()


@pytest.mark.parametrize("name", ["resnet1", None, ["resnet18"]])
def test_torchvision_s_names_are_its_own(name: Any) -> None:
    with pytest.raises(ValueError, match=r"init_args.name is .*torchvision.models.list_models"):
        Build("torchvision.models.get_model", {"name": name}).make()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_size": "64"}, r"init_args\.min_size is '64', expected int"),
        ({"mean": [0.5, 0.5]}, r"init_args\.mean is .* tuple\[float, float, float\] or null"),
        ({"spine": 3}, "init_args has 'spine', which RetinaNet does not take"),
        ({"backbone": 18}, r"init_args\.backbone is 18, expected str or BasicBlocks"),
        ({"backbone": BLOCKS | {"trust": True}}, r"backbone is .*, expected str or BasicBlocks"),
        ({"num_classes": 10**12}, r"init_args\.num_classes has the number 1000000000000"),
        ({"score_threshold": None}, r"init_args\.score_threshold is None, expected float"),
    ],
)
def test_an_argument_that_does_not_suit_is_named(changes: dict[str, Any], message: str) -> None:
    init_args = {"backbone": BLOCKS, "num_classes": 3} | changes
    with pytest.raises(ValueError, match=message):
        Build("limbeck.models.RetinaNet", init_args).make()


def test_trust_is_the_caller_s_alone() -> None:
    build = Build("limbeck.models.load_student", {"folder": "nowhere", "trust": True})
    with pytest.raises(ValueError, match=r"expected an nn\.Module class"):
        build.make()
    with pytest.raises(FileNotFoundError, match="nowhere holds no student"):
        build.make(trust=True)


def test_the_build_of_a_model_is_permitted() -> None:
    model = RetinaNet(BasicBlocks((1, 1, 1), (8, 8, 8)), 3, levels=(3, 4), fpn_channels=8)
    assert type(model.build.make()) is RetinaNet
