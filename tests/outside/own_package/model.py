"""A model, and a family: what limbeck's names for places mean in it."""

import torch
from torch import Tensor, nn

from limbeck import Tap, register_family


def stage(before: int, after: int) -> nn.Sequential:
    """Halves height and width."""
    return nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()
    )


class StripeNet(nn.Module):
    """A classifier of two stages.

    Args:
        num_classes: The number of classes K.
        width: The number of channels.
    """

    def __init__(self, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.stages = nn.Sequential(stage(3, width), stage(width, width))
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to logits (B, K)."""
        features: Tensor = self.stages(images - 0.5)
        return self.head(torch.amax(features, dim=(2, 3)))


def places(model: nn.Module) -> dict[str, Tap]:
    """The landmarks of a StripeNet, and none of any other model."""
    return {"C2": Tap("stages.1")} if isinstance(model, StripeNet) else {}


register_family(places)  # whoever imports the model has its landmarks, too
