"""What is said of a network is read, and nothing that is fetched or run."""

from pathlib import Path
from typing import Any

import pytest

from limbeck.models import HuggingFaceDetector
from tests.tiny_detrs import CONFIGS, config

pytest.importorskip("transformers")


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
    ("network", "said"),
    [
        ({"model_type": "bert"}, "model_type is 'bert'; expected a detector of rt_detr"),
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


def test_without_the_library_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'limbeck\[transformers\]'"):
        HuggingFaceDetector(config("rt_detr"), 3)
