"""What is exported of a model: a chain of tensors, whose shapes depend on no picture."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from limbeck.exported.framing import Framing
from limbeck.exported.suppression import Kept, Suppression, kept_of_images


class Decoded(NamedTuple):
    """The boxes and scores of a batch, before any is dropped.

    Attributes:
        boxes: The boxes (B, N, 4), xyxy; or (B, N, C, 4) where each class has its own.
        scores: The scores of all classes, (B, N, C).
        levels: The number of boxes of each level; empty where nothing asks for them.
    """

    boxes: Tensor
    scores: Tensor
    levels: Sequence[int] = ()


class Graph(nn.Module):
    """A detector or a classifier in evaluation mode, on images in its frame.

    Attributes:
        outputs: The names of what it gives.
        dynamic: What may be dynamic, of ``batch`` and ``size``.
        framing: How images come into the frame, and boxes back.
        suppression: How detections are chosen. None: it is a classifier.
    """

    outputs: ClassVar[tuple[str, ...]] = ("boxes", "scores")
    dynamic: ClassVar[tuple[str, ...]] = ("batch",)
    framing: Framing
    suppression: Suppression | None = None

    @abstractmethod
    def forward(self, images: Tensor) -> Any:
        """What is found on a batch (B, 3, H, W), float32, RGB in [0, 1]."""

    @abstractmethod
    def halve(self) -> None:
        """Let the network compute in float16; boxes are decoded in float32 in any case."""


class DetectorGraph(Graph):
    """A detector without suppression.

    Attributes:
        suppression: How detections are chosen.
    """

    suppression: Suppression

    @abstractmethod
    def decoded(self, images: Tensor) -> Decoded:
        """What is found on a batch (B, 3, H, W), float32, RGB in [0, 1].

        The boxes are those of all anchors, queries or regions, in pixels of the frame.
        """

    def forward(self, images: Tensor) -> Any:
        """Images (B, 3, H, W) -> boxes (B, N, 4) or (B, N, C, 4), and scores (B, N, C)."""
        found = self.decoded(images)
        return found.boxes, found.scores


class Detecting(nn.Module):
    """A graph of a detector with suppression behind it.

    Args:
        dense: The graph of decoded boxes and scores.
        kept: What says which candidates suppression keeps. Default: image by image, which needs a
            fixed batch.
    """

    outputs = ("boxes", "scores", "labels")

    def __init__(self, dense: DetectorGraph, kept: Kept = kept_of_images) -> None:
        super().__init__()
        self.dense = dense
        self.kept = kept

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, 3, H, W) -> boxes (B, D, 4), scores (B, D) and labels (B, D)."""
        boxes, scores, levels = self.dense.decoded(images)
        return self.dense.suppression.detections(
            boxes, scores, extent_of(images), levels=levels, kept=self.kept
        )


def extent_of(images: Tensor) -> Tensor:
    """The width, height, width and height of a batch (B, 3, H, W), (4,), in pixels."""
    height, width = images.shape[-2:]
    sides = [images.new_full((1,), side) for side in (width, height, width, height)]
    return torch.cat(sides)


def type_of(network: nn.Module) -> torch.dtype:
    """The type that a network computes in, which is that of its parameters."""
    return next(network.parameters()).dtype
