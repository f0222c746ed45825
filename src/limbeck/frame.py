"""The network's own input frame: what a detector sees after its transform.

Training-time geometry belongs to the data pipeline, so that teacher and student see the same
pixels; test-time resizing belongs to the model. torchvision's detectors resize inside the model
and, in evaluation mode, always: a frozen teacher would resize images that are in the frame
already. :func:`network_frame` switches that off whatever the mode.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import MaxVit, VisionTransformer
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
    stated = getattr(model, "takes_list", False)  # of exported detectors, which have no transform
    return stated is True or isinstance(getattr(model, "transform", None), GeneralizedRCNNTransform)


def fixed_size(model: nn.Module) -> Extent | None:
    """The (height, width) that a detector such as SSD brings every image to, None for others."""
    width_first = getattr(getattr(model, "transform", None), "fixed_size", None)
    return None if width_first is None else (width_first[1], width_first[0])


def padded_size(model: nn.Module, images: Tensor | list[Tensor]) -> Extent:
    """The (height, width) of the batch that a model makes of images in its frame, in pixels."""
    transform: Any = getattr(model, "transform", None)
    divisor = int(transform.size_divisible) if takes_list(model) else 1
    height, width = (
        -(-max(image.shape[side] for image in images) // divisor) * divisor for side in (-2, -1)
    )
    return height, width


def foreground_classes(model: nn.Module) -> int | None:
    """The number of classes of a detector without the background; None where it is not known."""
    if not takes_list(model):
        return None
    stated = getattr(model, "num_classes", None)  # of limbeck's detectors
    if isinstance(stated, int):
        return stated
    head = getattr(getattr(model, "head", None), "classification_head", None)
    score = getattr(
        getattr(getattr(model, "roi_heads", None), "box_predictor", None), "cls_score", None
    )
    counts = (
        getattr(head, "num_classes", None),  # RetinaNet, FCOS
        getattr(head, "num_columns", None),  # SSD
        getattr(score, "out_features", None),  # Faster R-CNN
    )
    return next((count - 1 for count in counts if isinstance(count, int)), None)


def own_size(model: nn.Module) -> Extent | None:
    """The (height, width) that a model was made for, None where it takes images of any size.

    Transformers and mixers of timm and torchvision have such a size. Some of them take others, too,
    and no attribute tells which do.

    Args:
        model: A detector or a classifier, or a module that holds one.

    Returns:
        The size in pixels, as the model states it.
    """
    if takes_list(model):
        return fixed_size(model)
    if getattr(model, "takes_any_size", False):  # it resizes images itself
        return None
    # The outermost that states a size counts: a part of it may see maps, which are smaller.
    return next((size for module in model.modules() if (size := _stated_size(module))), None)


def _stated_size(module: nn.Module) -> Extent | None:
    if isinstance(module, VisionTransformer):
        return module.image_size, module.image_size
    if isinstance(module, MaxVit):  # its first blocks have a stride of 4
        height, width = module.blocks[0].grid_size
        return int(height) * 4, int(width) * 4
    published: Any = getattr(module, "pretrained_cfg", None)  # timm's
    if not isinstance(published, Mapping):
        return None
    for patches in (getattr(module, name, None) for name in ("patch_embed", "stem")):
        # It knows of an img_size=... of the user's, and whether others are taken.
        if getattr(patches, "strict_img_size", None) is False:
            return None
        size: Any = getattr(patches, "img_size", None)
        if size is not None:
            return int(size[0]), int(size[1])
    if published.get("fixed_input_size"):
        _, height, width = published["input_size"]
        return int(height), int(width)
    return None


class FormError(ValueError):
    """A model was given images in a form that it does not take."""


@contextmanager
def explained_form(side: str, model: nn.Module, images: Any) -> Iterator[None]:
    """Say of an error of a model within that it was given a list of images, and takes a batch.

    Args:
        side: What the model is to the user, such as ``teacher``.
        model: The model.
        images: The images, (B, 3, H, W) or a list of (3, H, W).

    Raises:
        FormError: The model raised an error, was given a list, and is no detector.
    """
    try:
        yield
    except (AttributeError, TypeError) as error:
        if not isinstance(images, list) or takes_list(model):
            raise
        raise FormError(
            f"the {side} ({type(model).__name__}) was given a list of {len(images)} images "
            f"(3, H, W), as its student takes them, and ended with {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''}. Expected a model that takes such "
            "a list, as detectors do. A network that takes a batch (B, 3, H, W), such as a vision "
            "transformer, teaches a detector as a limbeck.models.FeatureTeacher: give that, with "
            "the network as its argument network."
        ) from error


@contextmanager
def explained_size(side: str, model: nn.Module, images: Any) -> Iterator[None]:
    """Say of an error of a model within that the images have another size than it was made for.

    Args:
        side: What the model is to the user, such as ``teacher``.
        model: The model.
        images: The images, (B, 3, H, W) or a list of (3, H, W).

    Raises:
        ValueError: The model raised an error, and was made for images of another size.
    """
    try:
        yield
    except (AssertionError, RuntimeError, ValueError) as error:
        own = own_size(model)
        if own is None or isinstance(error, torch.OutOfMemoryError):
            raise  # images may be anything that such a model takes
        sizes = {tuple(image.shape[-2:]) for image in images}
        if sizes == {own}:
            raise
        height, width = own
        found = ", ".join(f"{of_image[0]} x {of_image[1]}" for of_image in sorted(sizes))
        raise ValueError(
            f"the {side} ({type(model).__name__}) is made for images of {height} x {width} px "
            f"(height, width) and does not take these of {found} px ({str(error).rstrip('.')}). "
            f"Give it images of that size (data.augmentation.init_args.size: "
            f"{height if height == width else [height, width]}), or build "
            "it for yours, such as with timm's argument img_size."
        ) from error


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


def is_unresized(transform: GeneralizedRCNNTransform) -> bool:
    """Whether :func:`network_frame` keeps a transform from resizing."""
    return transform.__dict__.get("resize") is _as_it_is


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
            "the presets detectron2 and fgfi, 16 in ShuffleDet, a window in RF-DETR and LW-DETR, "
            "32 in other detectors; or networks of your own the same transform.size_divisible."
        )
