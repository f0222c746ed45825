"""What limbeck's detectors have in common."""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol, cast

from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from limbeck.arguments import plain_value
from limbeck.checkpoints.tensors import Tensors
from limbeck.guard import refuse_bad_targets, refuse_malformed
from limbeck.models.build import LimbeckModel
from limbeck.models.detection.parts.timm_trunks import is_timms
from limbeck.models.detection.parts.transform import Targets, Transform, refuse_vanishing
from limbeck.models.weights import Source, load_weights
from limbeck.presets import Preset
from limbeck.trunks import Layout

Maps = dict[str, Tensor]

log = logging.getLogger(__name__)


class Trunked(Protocol):
    """The backbone of a detector, whose trunk takes the weights of an ImageNet classifier."""

    @property
    def trunk(self) -> nn.Module:
        """The part whose state dict :meth:`of_classifier` gives."""

    def of_classifier(self, tensors: Tensors) -> Tensors:
        """The trunk's state dict, from the state dict of the classifier that it belongs to."""


class Detector(LimbeckModel):
    """The part of a detector that is about its backbone and its weights.

    **In training mode** a detector is called with a list of images (3, H, W), RGB in [0, 1], and a
    list of their targets, each a dict of ``boxes`` (M, 4), xyxy in pixels, and ``labels`` (M,),
    which count from 1. It gives a dict of its named losses, whose sum is to be minimised. The
    images are taken as they come: resizing and augmentation belong to the data pipeline.

    **In evaluation mode** it is called with the images alone. It resizes them, and gives for each
    of them a dict of ``boxes`` (N, 4), xyxy in the pixels of the image that came in, ``scores``
    (N,) in [0, 1], best first, and ``labels`` (N,).

    A detector's constructor settles its arguments with
    :func:`limbeck.models.detection.settling.settle`, builds the network, and ends with
    :meth:`complete`.

    Attributes:
        transform: What normalises, resizes and batches the images.
        backbone: The trunk, and what makes further maps of it.
        preset: The numerics of the library whose outputs and losses this detector gives.
        num_classes: The number of foreground classes.
        levels: The levels of the maps that the head sees, finest first. Level k has a stride of
            2**k pixels.
    """

    transform: GeneralizedRCNNTransform
    backbone: Trunked
    preset: Preset
    num_classes: int
    levels: tuple[int, ...]

    def complete(
        self, arguments: Mapping[str, Any], levels: tuple[int, ...], weights: Source, name: str = ""
    ) -> None:
        """Note how the detector was built, and load its weights: the end of every constructor.

        Args:
            arguments: All arguments of limbeck's constructor, settled.
            levels: The levels of the maps, finest first.
            weights: The weights, opened. None: the detector stays as it was initialised.
            name: The name of torchvision's builder of such a detector, with ``{}`` in the place of
                the trunk's name, such as ``retinanet_{}_fpn``. Empty: torchvision publishes no
                weights of the whole detector.
        """
        if not isinstance(self.transform, Transform):
            self.transform = Transform.of(self.transform)
        self.transform.register_forward_pre_hook(refuse_vanishing)
        self.arguments = plain_value(dict(arguments))
        self.levels = levels
        self.num_classes = arguments["num_classes"]
        self.published = ()
        trunk = arguments.get("backbone")
        if is_timms(trunk):
            self.published = (str(trunk),)
        elif isinstance(trunk, str):
            trunk = trunk.removeprefix("torchvision:")
            names = filter(None, (trunk, name.format(trunk)))
            self.published = tuple(f"torchvision:{each}" for each in names)
        if weights is not None:
            load_weights(self, weights)

    def refuse_bad_batch(self, images: Any, targets: Any) -> Targets:
        """Refuse a batch that nothing can be learnt from; a device is waited for once.

        torchvision's detectors wait for each image.

        Args:
            images: The images, (3, H, W) each.
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image.

        Returns:
            The targets.

        Raises:
            ValueError: The batch is not what the documentation says, which is named.
        """
        refuse_malformed(images, targets, detects=True, raw=True)
        refuse_bad_targets(targets, self.num_classes)
        checked: Targets = targets
        return checked

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
        if not self.training:
            return super().forward(images, targets)  # torchvision's
        targets = self.refuse_bad_batch(images, targets)
        batch, targets = self.transform(images, targets)
        maps: Tensor | Maps = cast(nn.Module, self.backbone)(batch.tensors)
        if isinstance(maps, Tensor):
            maps = {"0": maps}
        return self.losses_of(batch, maps, cast(Targets, targets))

    @abstractmethod
    def losses_of(self, batch: ImageList, maps: Maps, targets: Targets) -> dict[str, Tensor]:
        """The losses of a batch, from its maps on.

        Args:
            batch: The batch, normalised and padded.
            maps: The maps (B, C, H, W) of the backbone, finest first.
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) of each image, in the network's frame.

        Returns:
            The losses by their names.
        """

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each level, in pixels."""
        return tuple(2**level for level in self.levels)

    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The whole detector, or its trunk where the weights are an ImageNet classifier's."""
        if any(name.startswith("backbone.") for name in tensors):
            return self, tensors
        part, own = self.trunk_for(tensors)
        log.info("The weights are a classifier's: %d of %d tensors.", len(own), len(tensors))
        return part, own

    def trunk_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The part of this detector that a classifier's state dict fills, and that part's own.

        Args:
            tensors: The state dict of the classifier whose trunk this detector has.

        Returns:
            The module to load into, and its tensors under that module's own names.
        """
        return self.backbone.trunk, self.backbone.of_classifier(tensors)

    def plain(self) -> nn.Module:
        """The detector itself, whose tensors have torchvision's names."""
        return self


class TwoStageDetector(Detector, detection.FasterRCNN):  # type: ignore[misc]  # untyped
    """torchvision's ``FasterRCNN``, which looks at the targets of a batch at once in training.

    Attributes:
        rpn: The region proposal network.
        roi_heads: What samples, scores and suppresses regions.
    """

    rpn: nn.Module
    roi_heads: nn.Module

    def losses_of(self, batch: ImageList, maps: Maps, targets: Targets) -> dict[str, Tensor]:
        """The losses of the region proposal network, and of the regions that it proposes."""
        proposals, losses = self.rpn(batch, maps, targets)
        _, box_losses = self.roi_heads(maps, proposals, batch.image_sizes, targets)
        return {**box_losses, **losses}


def pyramid(layout: Layout, levels: tuple[int, int], extra: int, why: str) -> tuple[int, ...]:
    """All levels from the first to the last one, after they were checked.

    Args:
        layout: The layout of the trunk.
        levels: The first and the last level.
        extra: The number of levels that this detector adds above the trunk's, if it adds any.
        why: What makes these, as a clause of the error.

    Returns:
        The levels, finest first.

    Raises:
        ValueError: The trunk and the extra levels cannot give these.
    """
    first, last = levels
    bottom, top = layout.stages[0].level, layout.top
    if not bottom <= first <= min(last, top) or not (last <= top or last == top + extra):
        raise ValueError(
            f"levels=({first}, {last}): this backbone has C{bottom} to C{top}, and {why}. Begin at "
            f"{bottom} to {top}; end at {top} or lower, or at {top + extra}."
        )
    return tuple(range(first, last + 1))
