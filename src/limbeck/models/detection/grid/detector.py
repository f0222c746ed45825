"""Detectors on one map, each of whose cells predicts boxes, classes and confidences of anchors."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms, clip_boxes_to_image

from limbeck.checkpoints.tensors import Tensors
from limbeck.frame import Extent
from limbeck.models.detection.detector import Detector, Maps
from limbeck.models.detection.grid.anchors import GridAnchors
from limbeck.models.detection.parts.transform import Targets, Transform
from limbeck.models.precision import in_full_precision

Found = dict[str, Tensor]


class Predictions(NamedTuple):
    """What the head predicts for every anchor, in float32.

    There are N = H * W * K anchors, K to a cell, and C classes.

    Attributes:
        logits: The logits of the classes, (B, N, C).
        confidence: The logit that there is an object, (B, N).
        deltas: The way from the anchor to the box, (B, N, 4), as the detector codes it.
    """

    logits: Tensor
    confidence: Tensor
    deltas: Tensor


class GridDetector(Detector):
    """The part that is common to ShuffleDet and YOLOv2.

    Such a detector takes images and gives losses or detections as all of limbeck's detectors do,
    see :class:`limbeck.models.detection.detector.Detector`. In evaluation mode it resizes every
    image to ``image_size``, whatever its aspect; in training mode batches are padded to multiples
    of the stride.

    Attributes:
        anchor_generator: What makes the anchors of the map.
        head: A network from the map to what is predicted, (B, channels, H / stride, W / stride).
        image_size: The (height, width) of the images in evaluation mode, in pixels.
        nms_threshold: The IoU above which the lower of two detections of a class is dropped.
    """

    anchor_generator: GridAnchors
    head: nn.Module
    image_size: Extent
    nms_threshold: float

    def forward(self, images: list[Tensor], targets: Targets | None = None) -> Any:
        """Losses by their names in training mode, otherwise the detections of each image.

        Args:
            images: The images, (3, H, W) each, RGB in [0, 1].
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in training mode.

        Returns:
            A dict of losses in training mode; otherwise the ``boxes`` (D, 4), ``scores`` (D,) and
            ``labels`` (D,) of each image.

        Raises:
            ValueError: There are no targets, a box has a side of 0, or a label is of no class.
        """
        if self.training:
            return super().forward(images, targets)
        sizes = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, _ = self.transform(images, targets)
        feature = self.backbone(batch.tensors)  # type: ignore[operator]  # a module
        predictions, anchors = self.predict(batch, feature)
        extent = (batch.tensors.shape[-2], batch.tensors.shape[-1])
        decoded = zip(*self.decode(predictions, anchors, extent), strict=True)
        found = [
            self.suppress(self.candidates(boxes, scores), content)
            for (boxes, scores), content in zip(decoded, batch.image_sizes, strict=True)
        ]
        return self.transform.postprocess(found, batch.image_sizes, sizes)

    def losses_of(self, batch: ImageList, maps: Maps, targets: Targets) -> dict[str, Tensor]:
        """The losses of all anchors of a batch, from its map on."""
        (feature,) = maps.values()
        predictions, anchors = self.predict(batch, feature)
        extent = (batch.tensors.shape[-2], batch.tensors.shape[-1])
        return self.compute_loss(targets, predictions, anchors, extent)

    def predict(self, batch: ImageList, feature: Tensor) -> tuple[Predictions, Tensor]:
        """What the head predicts for a batch.

        Args:
            batch: The batch, normalised and padded.
            feature: Its map, (B, C, H / stride, W / stride).

        Returns:
            The predictions, and the anchors (N, 4) that every image has.
        """
        anchors = self.anchor_generator(batch, [feature])[0]
        return self.split(in_full_precision(self.head(feature))), anchors

    @abstractmethod
    def split(self, predicted: Tensor) -> Predictions:
        """Split the channels of the head (B, channels, H, W) by what they mean."""

    @abstractmethod
    def decode(
        self, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> tuple[Tensor, Tensor]:
        """The boxes and the scores of anchors.

        Args:
            predictions: What is predicted for N anchors.
            anchors: The anchors (N, 4), xyxy.
            extent: The (height, width) of the network's frame, in pixels.

        Returns:
            The boxes (B, N, 4), xyxy in the network's frame, and the scores (B, N, C).
        """

    @abstractmethod
    def compute_loss(
        self, targets: Targets, predictions: Predictions, anchors: Tensor, extent: Extent
    ) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in the network's frame.
            predictions: What is predicted for the N anchors of each image.
            anchors: The anchors (N, 4), xyxy.
            extent: The (height, width) of the network's frame, in pixels.

        Returns:
            The losses by their names.
        """

    @abstractmethod
    def candidates(self, boxes: Tensor, scores: Tensor) -> Found:
        """What of one image enters suppression.

        Args:
            boxes: The boxes of all anchors, (N, 4).
            scores: The scores of all anchors, (N, C).

        Returns:
            The ``boxes`` (D, 4), ``scores`` (D,) and ``labels`` (D,).
        """

    def suppress(self, found: Found, content: Sequence[int]) -> Found:
        """Non-maximum suppression within each class.

        Args:
            found: The ``boxes`` (D, 4), ``scores`` (D,) and ``labels`` (D,) of one image.
            content: The (height, width) of the image without its padding, in pixels.

        Returns:
            What remains, best first, with boxes that are clipped to the image.
        """
        kept = batched_nms(found["boxes"], found["scores"], found["labels"], self.nms_threshold)
        found = {name: value[kept] for name, value in found.items()}
        return found | {"boxes": clip_boxes_to_image(found["boxes"], (content[0], content[1]))}

    def dense(self) -> "DenseOutputs":
        """The detector as one chain of tensors of fixed shapes, for torch.export and ONNX."""
        return DenseOutputs(self)


class GridBackbone(nn.Module):
    """A backbone in ``features``, which begins with the trunk of one of limbeck's own classifiers.

    Attributes:
        features: The stages, as one chain.
        out_channels: The number of channels of the last map.
    """

    features: nn.Sequential
    out_channels: int

    def of_classifier(self, tensors: Tensors) -> Tensors:
        """The trunk's state dict, from that of the ``Classifier`` to which the trunk belongs.

        Args:
            tensors: The classifier's state dict.

        Returns:
            The trunk's tensors, under the trunk's own names.
        """
        names = {name.removeprefix("network."): value for name, value in tensors.items()}
        mark = "features."
        return {n.removeprefix(mark): v for n, v in names.items() if n.startswith(mark)}


class DenseOutputs(nn.Module):
    """The boxes and scores of all anchors, before any is dropped: no shape depends on an image.

    Suppression is left to runtimes, which have operators of their own for it.

    Args:
        detector: The detector, whose parameters are shared. It is brought to evaluation mode.

    Attributes:
        anchors: The anchors of an image of the detector's ``image_size``, (N, 4).
    """

    anchors: Tensor

    def __init__(self, detector: GridDetector) -> None:
        super().__init__()
        self.detector = detector
        device = next(detector.parameters()).device
        height, width = detector.image_size
        (stride,) = detector.strides
        cells = (height // stride, width // stride)
        anchors = detector.anchor_generator.on(cells, detector.image_size, device)
        self.register_buffer("anchors", anchors, persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """RGB images in [0, 1], (B, 3, *image_size) -> boxes (B, N, 4) and scores (B, N, C)."""
        detector = self.detector
        transform = detector.transform
        normalised = (images - transform.mean) / transform.std
        kind = next(detector.head.parameters()).dtype  # float16, where that was asked for
        feature = detector.backbone(normalised.to(kind))  # type: ignore[operator]
        predictions = detector.split(in_full_precision(detector.head(feature)))
        return detector.decode(predictions, self.anchors, detector.image_size)


def fixed_size_transform(
    image_size: Extent, stride: int, mean: Sequence[float], std: Sequence[float]
) -> Transform:
    """A transform to one size in evaluation mode, whatever the aspect; none in training mode.

    Args:
        image_size: The (height, width) of the resized images, in pixels.
        stride: The stride of the map, in pixels, to multiples of which batches are padded.
        mean: The mean of each input channel, RGB in [0, 1].
        std: The standard deviation of each input channel.

    Returns:
        The transform.

    Raises:
        ValueError: A side is no multiple of the stride.
    """
    height, width = image_size
    if height < stride or width < stride or height % stride or width % stride:
        raise ValueError(
            f"image_size={tuple(image_size)}: expected a height and a width that are multiples of "
            f"{stride}, such as {tuple(max(1, round(s / stride)) * stride for s in image_size)}."
        )
    return Transform(min(image_size), max(image_size), mean, std, stride, (width, height))
