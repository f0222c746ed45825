"""What is said of a network is read, and nothing that is fetched or run."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from limbeck.models import HuggingFaceDetector, load_student, save_student
from tests.tiny_detrs import CONFIGS, config

transformers = pytest.importorskip("transformers")


def test_what_would_fetch_or_run_something_is_left_out() -> None:
    hostile = config(
        "rt_detr",
        attn_implementation="somebody/kernels",
        auto_map={"AutoConfig": "evil.Config"},
        quantization_config={"quant_method": "fbgemm_fp8"},
        _name_or_path="somebody/else",
    )
    kept = HuggingFaceDetector(hostile, 3).arguments["network"]
    assert not {"attn_implementation", "auto_map", "quantization_config", "_name_or_path"} & set(
        kept
    )


def test_timms_trunks_come_without_weights_and_without_a_hub() -> None:
    trunk = {"model_type": "timm_backbone", "backbone": "resnet18", "out_indices": [4]}
    stated = {**CONFIGS["detr"], "model_type": "detr"}
    model = HuggingFaceDetector(stated | {"backbone_config": trunk}, 3)
    assert model.arguments["network"]["backbone_config"]["backbone"] == "resnet18"
    with pytest.raises(ValueError, match="expected a name of timm's, without hub or folder"):
        HuggingFaceDetector(
            stated | {"backbone_config": trunk | {"backbone": "hf-hub:somebody/model"}}, 3
        )


@pytest.mark.parametrize(
    ("family", "others", "said"),
    [
        ("rt_detr", {"backbone": "somebody/model"}, "expected a backbone_config"),
        ("rf_detr", {"backbone": "resnet18"}, "expected a backbone_config"),
        ("detr", {"backbone": "somebody/model", "use_timm_backbone": False}, "a backbone_config"),
        ("detr", {"backbone": "hf-hub:somebody/model"}, "expected a name of timm's, without hub"),
        ("deformable_detr", {"backbone": "local-dir:/etc"}, "expected a name of timm's, without"),
    ],
)
def test_a_backbone_that_would_be_fetched_by_its_name_is_refused(
    family: str, others: dict[str, Any], said: str
) -> None:
    stated = {name: value for name, value in config(family).items() if name != "backbone_config"}
    with pytest.raises(ValueError, match=said):
        HuggingFaceDetector(stated | others, 3)


def test_a_detr_that_names_a_trunk_of_timms_as_published_ones_do_is_built() -> None:
    stated = {name: value for name, value in config("detr").items() if name != "backbone_config"}
    published = {"backbone": "resnet18", "use_timm_backbone": True, "use_pretrained_backbone": True}
    model = HuggingFaceDetector(stated | published | {"scale_embedding": False}, 3)
    assert model.arguments["network"]["backbone_config"]["backbone"] == "resnet18"


def test_a_key_that_stands_for_another_one_has_no_code_fetched() -> None:
    alias = {"attribute_map": {"other": "_attn_implementation"}, "other": "somebody/kernels"}
    for stated in (
        config("rt_detr", **alias),
        config("rt_detr", backbone_config=CONFIGS["rt_detr"]["backbone_config"] | alias),
    ):
        network = HuggingFaceDetector(stated, 3).network
        for each in (network.config, network.config.backbone_config):
            assert not hasattr(each, "other")
            assert each._attn_implementation != "somebody/kernels"


@pytest.mark.parametrize(
    ("network", "said"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'; expected a detector of rt_detr"),
        ({"model_type": ["detr"]}, r"model_type is \['detr'\]; expected a detector of rt_detr"),
        (config("rt_detr", backbone_config="resnet"), "backbone_config is 'resnet'"),
        (config("rt_detr", backbone_config={"model_type": "bert"}), "backbone_config is 'bert'"),
        (config("rt_detr", d_model="wide"), "no configuration that transformers"),
    ],
)
def test_a_wrong_configuration_is_named(network: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HuggingFaceDetector(network, 3)


def test_a_folder_without_a_configuration_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no config\.json"):
        HuggingFaceDetector(str(tmp_path), 3)


def of_the_hub(monkeypatch: pytest.MonkeyPatch, files: dict[str, Path | None]) -> None:
    """Have the hub hold these files, of which None is missing, and not be reached for others."""

    def cached_file(_: str, name: str, **__: Any) -> str | None:
        if name not in files:
            raise OSError(f"the hub is not reached for {name}")
        return None if files[name] is None else str(files[name])

    monkeypatch.setattr(transformers.utils, "cached_file", cached_file)


def test_a_name_on_the_hub_is_read_and_says_what_could_not_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config("rt_detr")))
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 96, "width": 64}}')
    stated = {"config.json": tmp_path / "config.json"}
    of_the_hub(monkeypatch, {})
    with pytest.raises(
        FileNotFoundError, match=r"there is no config\.json \(the hub is not reached"
    ):
        HuggingFaceDetector("somebody/detector", 3)
    of_the_hub(monkeypatch, stated)
    with pytest.raises(
        FileNotFoundError, match=r"whether it has a preprocessor_config\.json is not"
    ):
        HuggingFaceDetector("somebody/detector", 3)
    of_the_hub(monkeypatch, stated | {"preprocessor_config.json": None})
    assert HuggingFaceDetector("somebody/detector", 3).arguments["image_size"] == [640, 640]
    place = tmp_path / "preprocessor_config.json"
    of_the_hub(monkeypatch, stated | {"preprocessor_config.json": place})
    assert HuggingFaceDetector("somebody/detector", 3).arguments["image_size"] == [96, 64]


def test_without_the_library_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    save_student(HuggingFaceDetector(config("rt_detr"), 3), tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'limbeck\[transformers\]'"):
        HuggingFaceDetector(config("rt_detr"), 3)
    with pytest.raises(ValueError, match=r"pip install 'limbeck\[transformers\]'\.$"):
        load_student(tmp_path)


def test_keys_without_an_effect_are_told(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    stated = config("rt_detr", decoder_layer=3)
    stated["backbone_config"] = stated["backbone_config"] | {"depth": [1]}
    model = HuggingFaceDetector(stated, 3)
    assert "network has the keys decoder_layer, backbone_config.depth, which" in caplog.text
    caplog.clear()
    save_student(model, tmp_path)
    load_student(tmp_path)
    assert "does not know" not in caplog.text


@pytest.mark.parametrize("family", ["rt_detr", "rt_detr_v2", "d_fine", "deimv2"])
def test_a_network_made_for_one_size_takes_any(family: str) -> None:
    fixed = config(family, anchor_image_size=[64, 64], eval_size=[64, 64])
    model = HuggingFaceDetector(fixed, 3, image_size=(64, 128)).eval()
    assert len(model([torch.rand(3, 64, 128)])[0]["boxes"])
