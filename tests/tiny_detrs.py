"""The configurations of tiny transformer detectors, one of each family."""

from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.models import HuggingFaceDetector

FRAME = (64, 128)  # height and width

_SIZES = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
_STAGES = {"out_features": ["stage2", "stage3", "stage4"]}
_RESNET = {"model_type": "rt_detr_resnet", "layer_type": "basic", **_SIZES, **_STAGES}
_PLAIN_RESNET = {"model_type": "resnet", "layer_type": "basic", **_SIZES}
_HGNET = {
    "model_type": "hgnet_v2",
    "embedding_size": 8,
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 16, 16, 32],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [16, 16, 32, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_downsample": [False, True, True, True],
    "stage_light_block": [False, False, True, True],
    "stage_kernel_size": [3, 3, 3, 3],
    "stage_numb_of_layers": [1, 1, 1, 1],
    "hidden_sizes": [16, 16, 32, 32],
    "depths": [1, 1, 1, 1],
    **_STAGES,
}
_HYBRID = {
    "encoder_hidden_dim": 16,
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "d_model": 16,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "num_queries": 10,
    "num_denoising": 8,
    "hidden_expansion": 0.5,
    "decoder_n_points": 2,
}
_DISTRIBUTION = {
    "backbone_config": _HGNET,
    "encoder_in_channels": [16, 32, 32],
    "lqe_hidden_dim": 8,
    "max_num_bins": 8,
    "decoder_n_points": [2, 2, 2],
    "depth_mult": 0.34,
}
_LIGHT = {
    "d_model": 16,
    "decoder_layers": 2,
    "decoder_ffn_dim": 16,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 2,
    "num_queries": 10,
    "group_detr": 2,
    "decoder_n_points": 2,
    "c2f_num_blocks": 1,
    "dropout": 0.0,
}
_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 16,
    "image_size": 64,
    "out_features": ["stage1", "stage2"],
}
_DETR = {
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "num_queries": 10,
    "auxiliary_loss": True,
    "dropout": 0.0,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "rt_detr": {**_HYBRID, "backbone_config": _RESNET, "encoder_in_channels": [16, 16, 32]},
    "rt_detr_v2": {**_HYBRID, "backbone_config": _RESNET, "encoder_in_channels": [16, 16, 32]},
    "d_fine": {**_HYBRID, **_DISTRIBUTION},
    "deimv2": {**_HYBRID, **_DISTRIBUTION},
    "rf_detr": {
        **_LIGHT,
        "backbone_config": {
            "model_type": "rf_detr_dinov2",
            "num_windows": 2,
            "use_mask_token": False,
            **_VIT,
        },
    },
    "lw_detr": {
        **_LIGHT,
        "projector_scale_factors": [1.0],
        "backbone_config": {
            "model_type": "lw_detr_vit",
            "num_windows": 4,
            "pretrain_image_size": 64,
            "window_block_indices": [0],
            **_VIT,
        },
    },
    "detr": {
        **_DETR,
        "d_model": 16,
        "backbone_config": {**_PLAIN_RESNET, "out_features": ["stage4"]},
    },
    "deformable_detr": {
        **_DETR,
        "d_model": 32,
        "with_box_refine": True,
        "encoder_n_points": 2,
        "decoder_n_points": 2,
        "num_feature_levels": 3,
        "backbone_config": {**_PLAIN_RESNET, **_STAGES},
    },
}


def config(family: str, **others: Any) -> dict[str, Any]:
    """The configuration of a tiny detector of a family."""
    return {"model_type": family, **CONFIGS[family], **others}


def detector(family: str = "rt_detr", num_classes: int = 3, **others: Any) -> HuggingFaceDetector:
    """A tiny detector of a family, with random weights."""
    return HuggingFaceDetector(config(family), num_classes, image_size=FRAME, **others)


def seeded(family: str, **others: Any) -> HuggingFaceDetector:
    """The same weights every time."""
    torch.manual_seed(5)
    return detector(family, **others)


def batch() -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images of unequal sizes, with three boxes."""
    torch.manual_seed(11)
    images = [torch.rand(3, *FRAME), torch.rand(3, 32, 64)]
    targets = [
        {"boxes": [[5.0, 5, 40, 40], [60, 10, 120, 50]], "labels": [1, 3]},
        {"boxes": [[20.0, 5, 50, 30]], "labels": [2]},
    ]
    return images, [
        {"boxes": torch.tensor(t["boxes"]), "labels": torch.tensor(t["labels"])} for t in targets
    ]


every_family = pytest.mark.parametrize("family", CONFIGS)
