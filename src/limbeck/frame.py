"""The network's own input frame: what a detector sees after its transform.

Training-time geometry belongs to the data pipeline, so that teacher and student see the same
pixels; test-time resizing belongs to the model. torchvision's detectors resize inside the model
and, in evaluation mode, always: a frozen teacher would resize images that are in the frame
already. :func:`network_frame` switches that off whatever the mode.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

Extent = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Frame:
    """Images and targets as the network sees them.

    Attributes:
        size: The (height, width) of the padded batch, pixels.
        image_sizes: The (height, width) of each image's content inside it, pixels.
        targets: The targets in this frame (boxes xyxy, pixels), or None.
    """

    size: Extent
    image_sizes: tuple[Extent, ...]
    targets: list[dict[str, Tensor]] | None

    @classmethod
    def of(cls, transformed: Any) -> "Frame":
        """The frame that an output of torchvision's ``GeneralizedRCNNTransform`` describes."""
        images, targets = transformed
        height, width = images.tensors.shape[-2:]
        return cls((height, width), tuple(images.image_sizes), targets)

    def over_images(self, maps: Tensor) -> list[Tensor]:
        """Spread maps (B, H, W) of the padded batch over its images' contents, float (h, w)."""
        spread = F.interpolate(maps[:, None].float(), self.size, mode="nearest")[:, 0]
        pairs = zip(spread, self.image_sizes, strict=True)
        return [of_image[:height, :width] for of_image, (height, width) in pairs]


def takes_list(model: nn.Module) -> bool:
    """Whether a model takes a list of images (3, H, W), as torchvision's detectors do."""
    return isinstance(getattr(model, "transform", None), GeneralizedRCNNTransform)


def fixed_size(model: nn.Module) -> Extent | None:
    """The (height, width) that a detector such as SSD brings every image to, None for others."""
    width_first = getattr(getattr(model, "transform", None), "fixed_size", None)
    return None if width_first is None else (width_first[1], width_first[0])


@contextmanager
def network_frame(*models: nn.Module | None) -> Iterator[None]:
    """Within, the models take images that are in the network's frame: no transform resizes them."""
    with ExitStack() as stack:
        for model in models:
            for module in model.modules() if model is not None else ():
                if isinstance(module, GeneralizedRCNNTransform):
                    stack.enter_context(_unresized(module))
        yield


@contextmanager
def _unresized(transform: GeneralizedRCNNTransform) -> Iterator[None]:
    # An attribute of the instance hides the method of the class; deleting it shows it again.
    before = transform.__dict__.get("resize")
    transform.resize = _as_it_is
    try:
        yield
    finally:
        if before is None:
            del transform.resize
        else:
            transform.resize = before


def _as_it_is(image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
    # One function, not a lambda a step: compiled code is guarded on its identity.
    return image, target


def same_frame(student: Frame, teacher: Frame | None) -> None:
    """Raise a ValueError unless both networks see the images in one frame."""
    if teacher is None:
        return
    if (student.size, student.image_sizes) != (teacher.size, teacher.image_sizes):
        raise ValueError(
            f"student and teacher see different frames: the student pads the batch to "
            f"{student.size} with contents {student.image_sizes}, the teacher to {teacher.size} "
            f"with {teacher.image_sizes} (height, width). Give both the same preset; or images "
            "whose sides are multiples of what either pads to, 1 px in SSD and in FasterRCNNC4 of "
            "the presets detectron2 and fgfi, 16 in ShuffleDet, 32 in other detectors; or networks "
            "of your own the same transform.size_divisible."
        )
