"""The guard: what a batch has to be, for every detector and classifier, whoever made it.

There are two kinds of questions. Types, shapes and counts are known to the host: they are looked at
in every step. Values have to be read: in every step where they lie on the CPU, and otherwise only
where somebody can wait for the device, as :func:`limbeck.check` does.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limbeck.frame import Extent

ABOUT_ONE = (-0.5, 1.5)  # what resizing and jitter leave of [0, 1]
NORMALISED = (-20.0, 20.0)  # what no normalisation by mean and std exceeds, and 8 bits do
CORNERS = "in x1 y1 x2 y2 pixels"


def refuse_malformed(
    images: Any, targets: Any, *, detects: bool, raw: bool, scaled: bool = True
) -> None:
    """Refuse a batch by types, shapes and counts; no device is waited for.

    Args:
        images: The images, (B, 3, H, W) or a list of (3, H, W). A model that is not ``raw`` may
            take anything else, of which nothing is asked.
        targets: What the student learns from them. A list of targets with boxes is looked at, and
            everything else is left to the loss that takes it.
        detects: Whether the student is a detector in training, which needs boxes and labels.
        raw: Whether the images go to a model that normalises them itself.
        scaled: Whether the images have to be floats; otherwise they may be uint8 yet.

    Raises:
        ValueError: The batch is not what the documentation says, which is named.
    """
    if raw and not isinstance(images, Tensor | list | tuple):
        raise ValueError(
            f"images is a {type(images).__name__}; expected a tensor (B, 3, H, W), or for "
            "detectors a list of (3, H, W). Convert it."
        )
    for place, image in _places(images):
        _refuse_malformed_image(place, image, raw, scaled)
    if raw and not len(images):
        raise ValueError("images is empty; expected one image at least. Leave such batches out.")
    if detects and targets is None:
        raise ValueError(
            "targets is None in training mode; expected the boxes and labels of every image."
        )
    if detects and not isinstance(targets, list):
        raise ValueError(
            f"targets is a {type(targets).__name__}; expected a list with a dict of boxes and "
            "labels for each image. Call list() on it, or give a classifier."
        )
    if detects or has_boxes(targets):
        if len(images) != len(targets):
            raise ValueError(
                f"there are {len(images)} images and {len(targets)} targets; expected one target "
                "for each image. An image without objects has boxes (0, 4) and labels (0,)."
            )
        for number, target in enumerate(targets):
            _refuse_malformed_target(f"targets[{number}]", target)


def has_boxes(targets: Any) -> bool:
    """Whether targets are a list of dicts of boxes and labels, as detectors have them."""
    return (
        isinstance(targets, list)
        and bool(targets)
        and all(isinstance(t, Mapping) and t.keys() >= {"boxes", "labels"} for t in targets)
    )


def is_readable(tensor: Tensor) -> bool:
    """Whether values can be read without a wait for a device, outside of a graph."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def refuse_bad_images(images: Any, *, raw: bool) -> None:
    """Refuse images whose values are not those of images; a device is waited for once.

    Args:
        images: The images, as :func:`refuse_malformed` takes them.
        raw: Whether they go to a model that normalises them itself: they range from 0 to 1 then.
            Otherwise they may be normalised already.

    Raises:
        ValueError: There is NaN or infinity, or another range.
    """
    places = list(_places(images) if raw else _rgb(images))
    if not places:
        return
    ranges = torch.stack([torch.stack(image.detach().aminmax()) for _, image in places]).tolist()
    lowest, highest = ABOUT_ONE if raw else NORMALISED
    for (place, _), (low, high) in zip(places, ranges, strict=True):
        if not (lowest <= low and high <= highest):  # NaN is neither
            what = (
                "NaN or infinity"
                if not abs(low) + abs(high) < torch.inf
                else f"{low:g} to {high:g}"
            )
            advice = "Divide by 255." if high > 2 else "The models normalise them."
            raise ValueError(
                f"{place} holds values of {what}; expected RGB of floats in [0, 1]. {advice}"
            )


def refuse_bad_targets(
    targets: Sequence[Mapping[str, Tensor]],
    num_classes: int | None,
    sizes: Sequence[Extent] = (),
    *,
    training: bool = True,
) -> None:
    """Refuse labels of no class and boxes that are none; a device is waited for once.

    Args:
        targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image.
        num_classes: The number of foreground classes. None: it is not known.
        sizes: The (height, width) of the images. Empty: nothing is said of boxes that lie outside,
            or within a pixel.
        training: Whether they are to be learnt from. An evaluator takes boxes without area.

    Raises:
        ValueError: A label or a box is not what the documentation says. The image is named.
    """
    if not targets:
        return
    boxes = torch.cat([target["boxes"] for target in targets]).detach()
    labels = torch.cat([target["labels"] for target in targets])
    sides = boxes[:, 2:] - boxes[:, :2]
    wrong = {
        "label": (labels < 1) | (labels > (torch.inf if num_classes is None else num_classes)),
        "finite": ~boxes.isfinite().all(dim=1),
        "sides": (sides <= 0 if training else sides < 0).any(dim=1),
    }
    if len(sizes):
        extents = torch.tensor([(width, height) for height, width in sizes])
        counts = torch.tensor([len(target["labels"]) for target in targets])
        ends = extents.repeat_interleave(counts, dim=0).to(boxes.device)
        wrong["outside"] = ((boxes[:, :2] >= ends) | (boxes[:, 2:] <= 0)).any(dim=1)
        wrong["relative"] = (boxes <= 1).all(dim=1)
    if not torch.cat(list(wrong.values())).any():  # a device is waited for once
        return
    kind, rows = next((kind, rows) for kind, rows in wrong.items() if rows.any())
    row = int(rows.nonzero()[0])
    numbers = [number for number, target in enumerate(targets) for _ in target["labels"]]
    said = _mistake(kind, boxes[row].tolist(), int(labels[row]), num_classes)
    raise ValueError(f"{_named(numbers[row], targets[numbers[row]])}: targets have {said}")


def refuse_bad_indices(indices: Tensor, shape: Sequence[int], *, wait: bool = False) -> None:
    """Refuse what are no class indices of a batch.

    Args:
        indices: The class indices (B,). Probabilities of the classes (B, K) are taken, too, as
            ``torch.nn.functional.cross_entropy`` takes them.
        shape: The shape (B, K) of the logits.
        wait: Whether to read the indices wherever they lie. Otherwise they are read on the CPU
            alone.

    Raises:
        ValueError: Their type, number or values are others.
    """
    count, classes = shape
    if indices.is_floating_point() and indices.shape == (count, classes):
        return
    if indices.dtype not in (torch.int64, torch.uint8) or indices.shape != (count,):
        raise ValueError(
            f"targets are {_short(indices.dtype)} of the shape {tuple(indices.shape)} for {count} "
            f"images and {classes} classes; expected class indices, int64 ({count},). Convert "
            "them, or give Distillation a student_loss that takes them."
        )
    if not count or not (wait or is_readable(indices)):
        return
    low, high = torch.stack(indices.aminmax()).tolist()
    if low < 0 or high >= classes:
        raise ValueError(
            f"targets have the class index {low if low < 0 else high}; expected 0 to "
            f"{classes - 1}, as there are {classes} classes and their indices count from 0. "
            "Correct them, or give the student another num_classes."
        )


# -- images and targets, one by one ---------------------------------------------------------------


def _places(images: Any) -> Iterator[tuple[str, Any]]:
    """The images by how a message names them; a batch in one tensor is one."""
    if isinstance(images, Tensor):
        yield "images", images
    elif isinstance(images, list | tuple):
        for number, image in enumerate(images):
            yield f"images[{number}]", image


def _rgb(images: Any) -> Iterator[tuple[str, Tensor]]:
    """What looks like RGB images among the input of a model of which nothing is known."""
    for place, image in _places(images):
        if isinstance(image, Tensor) and image.dim() in (3, 4) and image.shape[-3] == 3:
            yield place, image


def _refuse_malformed_image(place: str, image: Any, raw: bool, scaled: bool) -> None:
    dims, shape = (4, "(B, 3, H, W)") if place == "images" else (3, "(3, H, W)")
    known = isinstance(image, Tensor) and image.dim() == dims and image.shape[-3] == 3
    if known and 0 in image.shape[-2:]:
        raise ValueError(
            f"{place} is {tuple(image.shape)}, without a pixel; expected RGB images, {shape}, of "
            "one pixel at least. Leave it out."
        )
    if known and (image.is_floating_point() or (image.dtype is torch.uint8 and not scaled)):
        return
    if raw and not known:
        found = tuple(image.shape) if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(
            f"{place} is {found}; expected RGB images, {shape}. Repeat the channel of grey images, "
            "and permute images whose channels come last."
        )
    if known:
        raise ValueError(
            f"{place} is {_short(image.dtype)}; expected RGB of floats in [0, 1]. Divide by 255."
        )


def _refuse_malformed_target(place: str, target: Any) -> None:
    if not isinstance(target, Mapping) or not target.keys() >= {"boxes", "labels"}:
        found = sorted(target) if isinstance(target, Mapping) else type(target).__name__
        raise ValueError(f"{place} is {found}; expected a dict with 'boxes' and 'labels'.")
    boxes, labels = target["boxes"], target["labels"]
    for key, value in (("boxes", boxes), ("labels", labels)):
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{place}[{key!r}] is a {type(value).__name__}; expected a tensor: torch.tensor()."
            )
    if boxes.dim() != 2 or boxes.shape[1] != 4 or not boxes.is_floating_point():
        raise ValueError(
            f"{place}['boxes'] is {_short(boxes.dtype)} of the shape {tuple(boxes.shape)}; "
            f"expected float32 (M, 4), {CORNERS}, and (0, 4) where there is none."
        )
    if labels.dim() != 1 or labels.dtype is not torch.int64:
        raise ValueError(
            f"{place}['labels'] is {_short(labels.dtype)} of the shape {tuple(labels.shape)}; "
            "expected int64 (M,), which counts from 1."
        )
    if len(boxes) != len(labels):
        raise ValueError(
            f"{place} has {len(boxes)} boxes and {len(labels)} labels; expected one label a box."
        )


def _mistake(kind: str, box: list[float], label: int, num_classes: int | None) -> str:
    """What is wrong with one object, as the end of a sentence."""
    x1, y1, x2, y2 = box
    highest = "the number of classes" if num_classes is None else num_classes
    turned = " Convert boxes that are x y width height." if x2 < x1 or y2 < y1 else ""
    return {
        "label": f"the label {label}; expected 1 to {highest}, as labels count from 1.",
        "finite": f"the box {box}; expected finite numbers, {CORNERS}. Leave such boxes out.",
        "sides": (
            f"boxes of the sides {[x2 - x1, y2 - y1]} (width, height); expected positive ones, in "
            f"x1 y1 x2 y2. Leave such boxes out.{turned}"
        ),
        "outside": (
            f"the box {box}, which lies outside of its image; expected {CORNERS}. Leave such boxes "
            "out."
        ),
        "relative": (
            f"the box {box}, which lies within one pixel; expected {CORNERS}. Multiply boxes that "
            "are relative to the image by its width and height."
        ),
    }[kind]


def _named(number: int, target: Mapping[str, Any]) -> str:
    known = target.get("image_id")  # of a user's own dataset it may be anything, such as a text
    if isinstance(known, Tensor):
        known = known.tolist()
    return f"targets[{number}]" + ("" if known is None else f" (image_id {known})")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
