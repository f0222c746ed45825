"""Vision transformers of timm and transformers are recognised, and built by name without code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from limbeck.models import FeatureTeacher
from limbeck.models.vision_transformers import Layout, colours_of, layout_of
from tests import tiny_models, tiny_vits

HALVES = (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("family", "expected", "mean"),
    [
        ("dinov2", Layout("blocks", "norm", 1, 14), 0.485),
        ("dinov2 with registers", Layout("blocks", "norm", 5, 14), 0.485),
        ("dinov3", Layout("blocks", "norm", 5, 16), 0.485),
        ("siglip", Layout("blocks", "norm", 0, 16), 0.5),
        ("eva02", Layout("blocks", "norm", 1, 14), 0.48145466),
    ],
)
def test_timms_say_where_their_tokens_are(family: str, expected: Layout, mean: float) -> None:
    network = tiny_vits.of_timm(family)
    assert layout_of(network) == expected
    assert colours_of(network).mean[0] == mean


def test_a_size_that_positions_are_made_for_is_the_only_one() -> None:
    network = tiny_vits.of_timm("siglip", dynamic_img_size=False, img_size=48)
    assert layout_of(network) == Layout("blocks", "norm", 0, 16, (48, 48))


@pytest.mark.parametrize(
    ("family", "prefix"),
    [("dinov2", 1), ("dinov2_with_registers", 3), ("dinov3_vit", 4), ("siglip_vision_model", 0)],
)
def test_those_of_transformers_too(family: str, prefix: int) -> None:
    network = tiny_vits.of_transformers(family)
    found = layout_of(network)
    assert found is not None
    assert (found.prefix, found.patch, found.size) == (prefix, 14, None)
    assert len(network.get_submodule(found.blocks)) == tiny_vits.DEPTH
    assert colours_of(network).mean[0] == (0.5 if "siglip" in family else 0.485)


def test_other_networks_have_no_tokens() -> None:
    assert layout_of(tiny_models.classifier()) is None


def test_timms_are_built_by_name_with_weights_of_a_file(tmp_path: Path) -> None:
    small = {"embed_dim": tiny_vits.CHANNELS, "depth": tiny_vits.DEPTH, "num_heads": 2}
    network = tiny_vits.of_timm()
    # As files of classifiers are, with a head.
    tensors = {**network.state_dict(), "head.weight": torch.zeros(5, tiny_vits.CHANNELS)}
    save_file(tensors, tmp_path / "vit.safetensors")
    name = f"timm:{tiny_vits.TIMM['dinov3']}"
    teacher = FeatureTeacher(name, weights=tmp_path / "vit.safetensors", arguments=small)
    found = teacher.model.state_dict()
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())
    with pytest.raises(ValueError, match=r"weights='timm:else' for timm:vit.*no file"):
        FeatureTeacher(name, weights="timm:else", arguments=small)
    del tensors["norm.weight"]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=r"(?s)less.*does not fit.*norm\.weight"):
        FeatureTeacher(name, weights=tmp_path / "less.safetensors", arguments=small)


def test_those_of_transformers_are_built_from_a_folder(tmp_path: Path) -> None:
    network = tiny_vits.of_transformers("dinov2_with_registers")
    network.save_pretrained(tmp_path)
    channels = {"image_mean": HALVES, "image_std": (0.2, 0.2, 0.2)}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(channels))
    teacher = FeatureTeacher(f"transformers:{tmp_path}", weights=tmp_path)
    assert teacher.mean.flatten().tolist() == [0.5] * 3
    assert teacher.std.flatten().tolist() == pytest.approx([0.2] * 3)
    found = teacher.model.state_dict()
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())
    random = FeatureTeacher(f"transformers:{tmp_path}").model.state_dict()
    assert not torch.equal(random["layernorm.weight"], torch.zeros(tiny_vits.CHANNELS))
    tensors = {k: v.contiguous() for k, v in network.state_dict().items() if k[:5] != "layer"}
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match=r"do not fit the network: layernorm\.bias"):
        FeatureTeacher(f"transformers:{tmp_path}", weights=tmp_path)


def test_of_two_towers_the_one_for_images_is_taken(tmp_path: Path) -> None:
    vision = tiny_vits.of_transformers("siglip_vision_model").config.to_dict()
    stated = {"model_type": "siglip", "text_config": {}, "vision_config": vision}
    (tmp_path / "config.json").write_text(json.dumps(stated))
    assert type(FeatureTeacher(f"transformers:{tmp_path}").model).__name__ == "SiglipVisionModel"


def test_no_code_of_a_folder_is_asked_for(tmp_path: Path) -> None:
    config = tiny_vits.of_transformers("dinov2").config.to_dict()
    hostile = config | {"auto_map": {"AutoModel": "evil.Model"}, "quantization_config": {"a": 1}}
    (tmp_path / "config.json").write_text(json.dumps(hostile))
    network = FeatureTeacher(f"transformers:{tmp_path}").model
    assert not hasattr(network.config, "auto_map")
    assert getattr(network.config, "quantization_config", None) is None


@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("resnet18", {}, ValueError, "network='resnet18': no such network. Expected timm:NAME"),
        ("timm:no_such", {}, ValueError, "no such network"),
        ("timm:vit_small_patch16_dinov3", {"wide": 1}, ValueError, "arguments=.*do not suit"),
        ("transformers:/nowhere", {}, FileNotFoundError, "there is no config.json"),
        ("transformers:/nowhere", {"depth": 1}, ValueError, "takes none. Leave them out"),
    ],
)
def test_other_names(name: str, arguments: dict, error: type[Exception], said: str) -> None:
    if "transformers" in name:
        pytest.importorskip("transformers")
    with pytest.raises(error, match=said):
        FeatureTeacher(name, arguments=arguments)


def test_another_kind_of_folder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="model_type is 'bert'; expected one of dinov2"):
        FeatureTeacher(f"transformers:{tmp_path}")
