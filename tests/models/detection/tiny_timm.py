"""Tiny networks of timm's: its own test networks, and a Swin, of which it has no tiny one."""

from timm.models import build_model_with_cfg, register_model
from timm.models.swin_transformer import SwinTransformer


@register_model
def limbeck_test_swin(pretrained: bool = False, **arguments) -> SwinTransformer:
    """A Swin that is made for images of 32 px, whose maps have their channels last."""
    tiny = {"img_size": 32, "window_size": 4, "embed_dim": 8, "depths": (1, 2, 1, 1)}
    heads = {"num_heads": (1, 2, 2, 2)}
    return build_model_with_cfg(
        SwinTransformer,
        "limbeck_test_swin",
        pretrained,
        feature_cfg={"flatten_sequential": True},
        **(tiny | heads | arguments),
    )


HIERARCHICAL = ("test_resnet", "test_efficientnet", "test_convnext", "limbeck_test_swin")
PLAIN = "test_vit"
