import dataclasses

import pytest
import torchvision
from jsonargparse import ArgumentParser
from torch import nn

from limbeck.models import (
    BasicBlockResNet,
    BasicBlocks,
    Build,
    Classifier,
    FasterRCNN,
    RetinaNet,
)


def from_yaml(model: dict) -> nn.Module:
    """As the command line builds a recipe's model."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--model", type=nn.Module)
    parsed = parser.parse_object({"model": model})
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
    return instantiate(parsed).model


BLOCKS = {"depths": [1, 1, 1], "widths": [8, 16, 32]}
SMALL = {"backbone": BLOCKS, "num_classes": 3, "fpn_channels": 16, "norm": "trained"}


@pytest.mark.parametrize(
    ("class_path", "init_args", "kind"),
    [
        (
            "limbeck.models.RetinaNet",
            SMALL | {"levels": [3, 4], "anchor_sizes": [[14, 20], [28, 40]]},
            RetinaNet,
        ),
        (
            "limbeck.models.RetinaNet",
            SMALL | {"levels": [3, 4], "preset": "mmdetection"},
            RetinaNet,
        ),
        ("limbeck.models.FasterRCNN", SMALL | {"levels": [2, 5]}, FasterRCNN),
        (
            "limbeck.models.FasterRCNN",
            SMALL | {"levels": [2, 5], "preset": "detectron2"},
            FasterRCNN,
        ),
        ("limbeck.models.Classifier", {"network": BLOCKS, "num_classes": 3}, Classifier),
        ("limbeck.models.Classifier", {"network": "squeezenet1_1", "num_classes": 3}, Classifier),
        ("limbeck.models.BasicBlockResNet", BLOCKS | {"stem_stride": 2}, BasicBlockResNet),
        (
            "torchvision.models.squeezenet1_1",
            {"num_classes": 3},
            torchvision.models.SqueezeNet,
        ),
    ],
)
def test_yaml_and_a_build_make_the_same(class_path: str, init_args: dict, kind: type) -> None:
    parsed = from_yaml({"class_path": class_path, "init_args": init_args})
    assert type(parsed) is kind
    made = Build(class_path, init_args).make()
    shapes = [{k: v.shape for k, v in m.state_dict().items()} for m in (parsed, made)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("name", "value"), [("norm", "frozn"), ("preset", "detectron")])
def test_yaml_with_an_unknown_name_is_refused(name: str, value: str) -> None:
    with pytest.raises(Exception, match=value):
        from_yaml({"class_path": "limbeck.models.RetinaNet", "init_args": SMALL | {name: value}})


def test_a_model_knows_its_arguments_less_the_weights() -> None:
    model = RetinaNet(BasicBlocks((1, 1, 1), (8, 16, 32)), 3, levels=(3, 4), fpn_channels=16)
    given = model.build.init_args
    assert given["backbone"] == BLOCKS | {"stem_stride": 4, "shortcuts": "projected"}
    assert given["levels"] == [3, 4]
    assert "weights" not in given
    again = model.build.make()
    assert again.build == model.build
    assert again.backbone.out_channels == 16


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        ("os.system", "only limbeck, torchvision, timm are run unasked"),
        ("limbeck.models.saving.pkgutil.resolve_name", "expected an nn.Module class"),
        ("limbeck.models", "expected an nn.Module class"),
        ("torchvision.datasets.utils.download_url", "expected an nn.Module class"),
        ("torchvision.models.list_models", "a builder that torchvision or timm lists"),
        ("limbeck.models.Build", "expected an nn.Module class"),
        ("limbeck.models.RetinaNett", "does not exist"),
        ("limbeck.modells.RetinaNet", "expected an nn.Module class"),
    ],
)
def test_nothing_but_models_is_run(class_path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Build(class_path, {}).make()


def test_trust_runs_any_class_and_still_wants_a_module() -> None:
    made = Build("torch.nn.Linear", {"in_features": 2, "out_features": 3}).make(trust=True)
    assert made.weight.shape == (3, 2)
    with pytest.raises(ValueError, match=r"made int, no nn\.Module"):
        Build("builtins.int", {}).make(trust=True)


def test_a_build_does_not_change() -> None:
    build = Build("torch.nn.Linear", {"in_features": (2,)})
    assert build.init_args == {"in_features": [2]}
    with pytest.raises(dataclasses.FrozenInstanceError):
        build.class_path = "torch.nn.Identity"  # type: ignore[misc]
