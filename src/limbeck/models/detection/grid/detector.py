"""Detectors of one map, each of whose cells predicts boxes for its anchors and how sure it is."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, clip_boxes_to_image

from limbeck.checkpoints.tensors import Tensors
from limbeck.frame import Extent
from limbeck.models.detection.detector import Detector
from limbeck.models.detection.grid.anchors import GridAnchors
from limbeck.models.precision import in_full_precision

Targets = list[dict[str, Tensor]]
Found = dict[str, Tensor]


class Predictions(NamedTuple):
    """What the head says of every anchor, float32; N = H * W * K anchors, K classes of C.

    Attributes:
        logits: of the classes, (B, N, C).
        confidence: that there is an object, a logit, (B, N).
        deltas: from the anchor to the box, (B, N, 4), as the detector codes them.
    """

    logits: Tensor
    confidence: Tensor
    deltas: Tensor


class GridDetector(Detector):
    """The part that is common to ShuffleDet and YOLOv2.

    In training mode it takes images as they come (geometry belongs to the data pipeline) and gives
    a dict of losses; in evaluation mode it resizes to ``image_size``, whatever the aspect, and
    gives a dict of ``boxes`` (xyxy, pixels), ``scores`` and ``labels`` for each image. Images are a
    list of RGB floats in [0, 1], (3, H, W). Batches are padded to multiples of the stride.

    Attributes:
        transform: normalises, resizes, pads.
        backbone: (B, 3, H, W) -> the map (B, C, H / stride, W / stride).
        anchor_generator: the anchors on that map.
        head: the map -> what is predicted, (B, channels, H / stride, W / stride).
        image_size: (height, width) in evaluation mode, pixels.
        nms_threshold: IoU above which the lower of two detections of a class is dropped.
    """

    transform: GeneralizedRCNNTransform
    anchor_generator: GridAnchors
    head: nn.Module
    image_size: Extent
    nms_threshold: float

    def forward(self, images: list[Tensor], targets: Targets | None = None) -> Any:
        """Losses by name in training mode, otherwise the detections of each image.

        Args:
            images: RGB in [0, 1], (3, H, W) each.
            targets: ``boxes`` (M, 4) and ``labels`` (M,) of each image, in training mode.

        Raises:
            ValueError: there are no targets, a box has a side of 0, or a label is of no class.
        """
        if self.training:
            _check(targets, self.num_classes)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, targets = self.transform(images, targets)
        predictions, anchors = self.predict(batch)
        extent = (batch.tensors.shape[-2], batch.tensors.shape[-1])
        if self.training:
            return self.compute_loss(cast(Targets, targets), predictions, anchors, extent)
        decoded = zip(*self.decode(predictions, anchors, extent), strict=True)
        found = [
            self.suppress(self.candidates(boxes, scores), content)
            for (boxes, scores), content in zip(decoded, batch.image_sizes, strict=True)
        ]
        return self.transform.postprocess(found, batch.image_sizes, sizes)

    def predict(self, batch: ImageList) -> tuple[Predictions, Tensor]:
        """The head's predictions, and the anchors (N, 4) that every image has."""
        feature = self.backbone(batch.tensors)  # type: ignore[operator]  # a module
        anchors = self.anchor_generator(batch, [feature])[0]
        return self.split(in_full_precision(self.head(feature))), anchors

    @abstractmethod
    def split(self, predicted: Tensor) -> Predictions:
        """The channels of the head (B, channels, H, W) by what they mean."""

    @abstractmethod
    def decode(
        self, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> tuple[Tensor, Tensor]:
        """Boxes (B, N, 4), xyxy in the network's frame, and scores (B, N, C) of all anchors."""

    @abstractmethod
    def compute_loss(
        self, targets: Targets, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> dict[str, Tensor]:
        """The losses of a batch by name; ``extent`` is the (height, width) of its frame."""

    @abstractmethod
    def candidates(self, boxes: Tensor, scores: Tensor) -> Found:
        """What of one image enters suppression, from (N, 4) and (N, C)."""

    def suppress(self, found: Found, content: Sequence[int]) -> Found:
        """Non-maximum suppression within each class, best first, clipped to the image."""
        kept = batched_nms(found["boxes"], found["scores"], found["labels"], self.nms_threshold)
        found = {name: value[kept] for name, value in found.items()}
        return found | {"boxes": clip_boxes_to_image(found["boxes"], (content[0], content[1]))}

    def dense(self) -> "DenseOutputs":
        """The detector as one chain of tensors of fixed shapes, for torch.export and ONNX."""
        return DenseOutputs(self)


class GridBackbone(nn.Module):
    """A trunk in ``features``, in part or as a whole that of a classifier of limbeck's own.

    Attributes:
        features: a chain of stages.
        out_channels: of the map.
    """

    features: nn.Sequential
    out_channels: int

    def of_classifier(self, tensors: Tensors) -> Tensors:
        """The trunk's state dict from that of the ``Classifier`` whose trunk it is."""
        names = {name.removeprefix("network."): value for name, value in tensors.items()}
        mark = "features."
        return {n.removeprefix(mark): v for n, v in names.items() if n.startswith(mark)}


class DenseOutputs(nn.Module):
    """Boxes and scores of all anchors, before anything is dropped: no shape depends on an image.

    Suppression is what runtimes have their own operators for.

    Args:
        detector: whose parameters these are; it is brought to evaluation mode.
    """

    mean: Tensor
    std: Tensor
    anchors: Tensor

    def __init__(self, detector: GridDetector) -> None:
        super().__init__()
        self.detector = detector
        device = next(detector.parameters()).device
        for name in ("mean", "std"):
            values = torch.tensor(getattr(detector.transform, f"image_{name}"), device=device)
            self.register_buffer(name, values[:, None, None], persistent=False)
        height, width = detector.image_size
        (stride,) = detector.strides
        cells = (height // stride, width // stride)
        anchors = detector.anchor_generator.on(cells, detector.image_size, device)
        self.register_buffer("anchors", anchors, persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """RGB in [0, 1], (B, 3, *image_size) -> boxes (B, N, 4) and scores (B, N, C)."""
        detector = self.detector
        feature = detector.backbone((images - self.mean) / self.std)  # type: ignore[operator]
        predictions = detector.split(in_full_precision(detector.head(feature)))
        return detector.decode(predictions, self.anchors, detector.image_size)


def fixed_size_transform(
    image_size: Extent, stride: int, mean: Sequence[float], std: Sequence[float]
) -> GeneralizedRCNNTransform:
    """A transform to one size, whatever the aspect; none in training.

    Args:
        image_size: (height, width), pixels.
        stride: of the map, pixels.
        mean: of the input channels.
        std: likewise.

    Raises:
        ValueError: a side is no multiple of the stride.
    """
    height, width = image_size
    if height < stride or width < stride or height % stride or width % stride:
        raise ValueError(
            f"image_size={tuple(image_size)}: expected a height and a width that are multiples of "
            f"{stride}, such as {tuple(max(1, round(s / stride)) * stride for s in image_size)}."
        )
    return GeneralizedRCNNTransform(
        min(image_size),
        max(image_size),
        list(mean),
        list(std),
        size_divisible=stride,
        fixed_size=(width, height),
        _skip_resize=True,
    )


def iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes (..., 4) and (..., 4), which are broadcast."""
    (x1, y1, x2, y2), (left, top, right, bottom) = first.unbind(-1), second.unbind(-1)
    width = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp(min=0)
    common = width * (torch.minimum(y2, bottom) - torch.maximum(y1, top)).clamp(min=0)
    areas = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top)
    return common / (areas - common)


def _check(targets: Targets | None, num_classes: int) -> None:
    if targets is None:
        raise ValueError("targets is None in training mode; expected boxes and labels an image.")
    sides = torch.cat([target["boxes"][:, 2:] - target["boxes"][:, :2] for target in targets])
    labels = torch.cat([target["labels"] for target in targets])
    empty, unknown = (sides <= 0).any(dim=1), (labels < 1) | (labels > num_classes)
    if not torch.cat([empty, unknown]).any():  # a device is waited for once
        return
    if empty.any():
        raise ValueError(
            f"targets have boxes of the sides {sides[empty][0].tolist()} (width, height); expected "
            "positive ones, in x1 y1 x2 y2. Leave such boxes out."
        )
    raise ValueError(
        f"targets have the label {labels[unknown][0].item()}; expected 1 to {num_classes}, as "
        "labels count from 1."
    )
