"""Tiny vision transformers with random weights, as timm and transformers build them."""

from typing import Any

import pytest
import timm
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import FeatureCosine, FitNet
from limbeck.models import FeatureTeacher
from tests import small_models

DEPTH, CHANNELS = 3, 16
TIMM = {
    "dinov2": "vit_small_patch14_dinov2",
    "dinov2 with registers": "vit_small_patch14_reg4_dinov2",
    "dinov3": "vit_small_patch16_dinov3",
    "siglip": "vit_base_patch16_siglip_224",
    "eva02": "eva02_tiny_patch14_224",
}
TRANSFORMERS = {
    "dinov2": ("Dinov2", {}),
    "dinov2_with_registers": ("Dinov2WithRegisters", {"num_register_tokens": 2}),
    "dinov3_vit": ("DINOv3ViT", {"num_register_tokens": 3}),
    "siglip_vision_model": ("SiglipVision", {}),
}


def of_timm(family: str = "dinov3", **arguments: Any) -> nn.Module:
    """A vision transformer of timm that takes images of any size, unless told otherwise."""
    torch.manual_seed(2)
    small = {"embed_dim": CHANNELS, "depth": DEPTH, "num_heads": 2, "num_classes": 0}
    sizes = {} if family == "dinov3" else {"dynamic_img_size": True}
    return timm.create_model(TIMM[family], pretrained=False, **small | sizes | arguments).eval()


def of_transformers(family: str) -> nn.Module:
    """A vision transformer of Hugging Face's library, for images of 56 px."""
    library = pytest.importorskip("transformers")
    torch.manual_seed(2)
    name, further = TRANSFORMERS[family]
    config = getattr(library, f"{name}Config")(
        hidden_size=CHANNELS,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=56,
        patch_size=14,
        **further,
    )
    return getattr(library, f"{name}Model")(config).eval()


def blocks_run(blocks: nn.Module) -> list[int]:
    """The numbers of a network's blocks as they will be run; the list grows while it is called."""
    ran: list[int] = []
    for number, block in enumerate(blocks):
        block.register_forward_pre_hook(lambda *_, number=number: ran.append(number))
    return ran


def taught_by_two(seed: int = 4) -> Distillation:
    """A detector that learns from another one, and from a vision transformer, alone."""
    torch.manual_seed(7)
    teachers = {
        "dino": FeatureTeacher(of_timm()),
        "detector": small_models.retinanet(Bottleneck),
    }
    torch.manual_seed(seed)
    own = {
        "directions": FeatureCosine({"P4": "grid.1"}, teacher="dino"),
        "first": FeatureCosine({"P5": "grid.0"}, teacher="dino"),
        "hint": FitNet(["P3", "C4"], teacher="detector"),
    }
    student = small_models.retinanet()
    return Distillation(student, teachers=teachers, methods=own, student_weight=0.0)
