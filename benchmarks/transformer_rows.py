"""What the row of transformer detectors in benchmarks/step_ratio.py is made of."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from limbeck import Distillation
from limbeck.methods import FitNet
from limbeck.models import HuggingFaceDetector

CLASSES = 80
# RT-DETR on ResNet-18 and on ResNet-34, with the widths of the published ones.
_PUBLISHED = {
    "model_type": "rt_detr",
    "encoder_in_channels": [128, 256, 512],
    "hidden_expansion": 0.5,
    "decoder_layers": 3,
    "freeze_backbone_batch_norms": False,
}
_DEPTHS = {"ResNet-18": [2, 2, 2, 2], "ResNet-34": [3, 4, 6, 3]}


def detector(trunk: str, size: int) -> HuggingFaceDetector:
    """An RT-DETR with fresh weights.

    Args:
        trunk: The name of its trunk.
        size: The height and the width of images, in pixels.
    """
    backbone = {
        "model_type": "rt_detr_resnet",
        "layer_type": "basic",
        "hidden_sizes": [64, 128, 256, 512],
        "depths": _DEPTHS[trunk],
        "out_features": ["stage2", "stage3", "stage4"],
    }
    stated = _PUBLISHED | {"backbone_config": backbone}
    return HuggingFaceDetector(stated, CLASSES, image_size=(size, size))


class _ReachedError(Exception):
    """The teacher has come as far as it is needed."""


def encoded(network: nn.Module, pixels: Tensor) -> list[Tensor]:
    """The maps of a network's encoder, by hand: nothing behind it runs."""
    maps: list[Tensor] = []

    def stop(*call: object) -> None:  # the module, its inputs and its output
        maps.extend(call[2][0])
        raise _ReachedError

    handle = network.model.encoder.register_forward_hook(stop)
    try:
        network(pixel_values=pixels)
    except _ReachedError:
        return maps
    finally:
        handle.remove()
    raise AssertionError("the encoder did not run")


def labels_of(images: list[Tensor], targets: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """Targets as the library takes them, for images of one size without padding."""
    height, width = images[0].shape[-2:]
    shares = torch.tensor([width, height, width, height])
    return [
        {
            "class_labels": target["labels"] - 1,
            "boxes": box_convert(target["boxes"], "xyxy", "cxcywh") / shares,
        }
        for target in targets
    ]


def plain_loss(
    student: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> Callable[[], Tensor]:
    """The library's loss, without limbeck."""
    pixels, labels = torch.stack(images), labels_of(images, targets)
    return lambda: student(pixel_values=pixels, labels=labels).loss


def taught_loss(
    student: nn.Module,
    teacher: nn.Module,
    images: list[Tensor],
    targets: list[dict[str, Tensor]],
    weight: float,
) -> Callable[[], Tensor]:
    """The library's loss and mean squared errors of the encoders' maps, without limbeck."""
    pixels, labels = torch.stack(images), labels_of(images, targets)
    maps: list[Tensor] = []
    student.model.encoder.register_forward_hook(lambda *call: maps.extend(call[2][0]))

    def loss() -> Tensor:
        with torch.no_grad():
            hints = encoded(teacher, pixels)
        maps.clear()
        total = student(pixel_values=pixels, labels=labels).loss
        return total + weight * sum(F.mse_loss(*pair) for pair in zip(maps, hints, strict=True))

    return loss


def pair_of(
    student: HuggingFaceDetector, teacher: HuggingFaceDetector, weight: float
) -> Distillation:
    """Limbeck's distillation of the encoders' maps."""
    return Distillation(student, teacher, [FitNet(["maps"], weight, adapter="none")])
