"""How far apart the outputs of two models are on one image: the check of a conversion."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.models import Classifier
from limbeck.models.detection.detector import Detector

NEAR_SCORE, NEAR_BOX = 1e-3, 0.5  # pixels
_DENSE_TOLERANCE = 1e-4
_NAMES = {"cls_logits": "class logits", "bbox_regression": "box deltas"}


@dataclass(frozen=True)
class Difference:
    """The difference of one output of two models.

    Attributes:
        output: The name of the output.
        largest: The largest absolute difference.
        scale: The largest absolute value of the output itself.
    """

    output: str
    largest: float
    scale: float

    @property
    def is_equal(self) -> bool:
        """Whether the difference is within a ten-thousandth of the output's scale."""
        return self.largest <= _DENSE_TOLERANCE * self.scale


@dataclass(frozen=True)
class Agreement:
    """How far two models agree on one image.

    Attributes:
        dense: The differences of what is computed before any threshold, in the first model's frame.
        detections: The number of detections of the first model.
        matched: The number of those that the second model has, too: of the same class, with a score
            within 0.001 and sides within half a pixel.
        others: The number of detections of the second model.
    """

    dense: tuple[Difference, ...]
    detections: int = 0
    matched: int = 0
    others: int = 0

    @property
    def is_equal(self) -> bool:
        """Whether all dense outputs are equal, and all detections found."""
        equal = all(difference.is_equal for difference in self.dense)
        return equal and self.detections == self.matched == self.others


@torch.inference_mode()
def agreement(first: Any, second: Any, image: Tensor) -> Agreement:
    """Compare two models of one kind, in evaluation mode.

    Args:
        first: A detector or a classifier of limbeck's, or of a class derived from one.
        second: Another model of the same kind.
        image: The image, RGB in [0, 1], (3, H, W).

    Returns:
        The differences of their outputs.

    Raises:
        TypeError: The models are of different kinds, or of others.
        ValueError: Their outputs have different shapes.
    """
    if isinstance(first, Classifier) and isinstance(second, Classifier):
        logits = (model.eval()(image[None]) for model in (first, second))
        return Agreement((_difference("logits", *logits),))
    detectors = isinstance(first, Detector) and isinstance(second, Detector)
    if not detectors or first.base is not second.base:
        raise TypeError(f"{type(first).__name__} and {type(second).__name__} are not comparable.")
    outputs = _two_stage if hasattr(first, "roi_heads") else _dense
    images, _ = first.eval().transform([image])  # both get what the first one's transform gives
    batch, sizes = images.tensors, images.image_sizes
    pairs = zip(
        outputs(first, batch, sizes).items(),
        outputs(second.eval(), _restandardised(batch, first, second), sizes).values(),
        strict=True,
    )
    dense = tuple(_difference(name, ours, theirs) for (name, ours), theirs in pairs)
    found, others = first([image])[0], second([image])[0]
    return Agreement(dense, len(found["boxes"]), _matched(found, others), len(others["boxes"]))


def _restandardised(batch: Tensor, first: Any, second: Any) -> Tensor:
    """The batch in the standard deviations of the second model; means are equal, padding is 0."""
    ratio = torch.tensor(first.transform.image_std) / torch.tensor(second.transform.image_std)
    return batch * ratio[:, None, None]


def _dense(model: Any, batch: Tensor, _: object) -> dict[str, Tensor]:
    """The outputs of a head that torchvision's dense detectors have, on all levels."""
    found: dict[str, Tensor] = model.head(list(model.backbone(batch).values()))
    if getattr(model.preset, "unused_column", False):
        found = found | {"cls_logits": found["cls_logits"][..., 1:]}
    return {_NAMES.get(name, name): output for name, output in found.items()}


def _two_stage(model: Any, batch: Tensor, sizes: list[tuple[int, int]]) -> dict[str, Tensor]:
    """The outputs of RPN and box head, of the latter for regions all over the image."""
    features = model.backbone(batch)
    if isinstance(features, Tensor):  # without a pyramid
        features = {"0": features}
    logits, deltas = model.rpn.head(list(features.values()))
    heads = model.roi_heads
    pooled = heads.box_roi_pool(features, [_regions(*sizes[0])], sizes)
    classes, boxes = heads.box_predictor(heads.box_head(pooled))
    return {
        "RPN logits": torch.cat([level.flatten() for level in logits]),
        "RPN deltas": torch.cat([level.flatten() for level in deltas]),
        "RoI class logits": classes,
        "RoI box deltas": boxes[:, 4:],  # those of the background are not used
    }


def _regions(height: int, width: int) -> Tensor:
    """Boxes of many sizes all over an image, (R, 4)."""
    sides = torch.tensor([8.0, 32.0, 100.0, 230.0, 500.0])
    centres = torch.cartesian_prod(*(torch.linspace(0.1, 0.9, 5) * s for s in (width, height)))
    corners = [torch.cat([centres - side / 2, centres + side / 2], dim=1) for side in sides]
    limits = torch.tensor([width, height, width, height])
    return torch.cat(corners).clamp(min=0).minimum(limits)


def _difference(name: str, first: Tensor, second: Tensor) -> Difference:
    if first.shape != second.shape:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"{name} are of {shapes}: other levels, anchors or classes.")
    largest = (first - second).abs().max().item()
    return Difference(name, largest, first.abs().max().item())


def _matched(found: dict[str, Tensor], others: dict[str, Tensor]) -> int:
    near = (found["boxes"][:, None] - others["boxes"]).abs().amax(dim=2) < NEAR_BOX
    near &= (found["scores"][:, None] - others["scores"]).abs() < NEAR_SCORE
    near &= found["labels"][:, None] == others["labels"]
    return int(near.any(dim=1).sum())
