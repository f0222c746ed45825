"""What limbeck's detectors have in common."""

import logging
from typing import Protocol

from torch import nn

from limbeck.checkpoints.tensors import Tensors
from limbeck.models.build import Build, LimbeckModel
from limbeck.models.weights import Source, load_weights
from limbeck.presets import Preset
from limbeck.trunks import Layout

log = logging.getLogger(__name__)


class Trunked(Protocol):
    """A detector's backbone, whose trunk takes an ImageNet classifier's weights."""

    @property
    def trunk(self) -> nn.Module:
        """The part that :meth:`of_classifier` is for."""

    def of_classifier(self, tensors: Tensors) -> Tensors:
        """The trunk's state dict from the classifier's."""


class Detector(LimbeckModel):
    """The part of a detector that is about its backbone and its weights.

    Attributes:
        backbone: the trunk and what makes further levels of its maps.
        num_classes: foreground classes; labels count from 1.
        levels: of the maps that the head sees, finest first.
        preset: the library whose habits this detector has.
    """

    backbone: Trunked
    preset: Preset
    num_classes: int
    levels: tuple[int, ...]

    def complete(self, name: str, build: Build, levels: tuple[int, ...], weights: Source) -> None:
        """The end of every detector's constructor.

        Args:
            name: of torchvision's builder of such a detector, for a trunk of a name that is put
                in: ``retinanet_{}_fpn``; empty where it has none.
            build: the constructor and its arguments.
            levels: of the maps, finest first.
            weights: what the constructor was given, opened.
        """
        self.build, self.levels = build, levels
        self.num_classes = build.init_args["num_classes"]
        trunk = build.init_args.get("backbone")
        self.published = ()
        if isinstance(trunk, str):
            trunk = trunk.removeprefix("torchvision:")
            names = filter(None, (trunk, name.format(trunk)))
            self.published = tuple(f"torchvision:{each}" for each in names)
        if weights is not None:
            load_weights(self, weights)

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each level, pixels."""
        return tuple(2**level for level in self.levels)

    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The whole detector, or the trunk where the weights are an ImageNet classifier's."""
        if any(name.startswith("backbone.") for name in tensors):
            return self, tensors
        trunk = self.backbone.of_classifier(tensors)
        log.info("The weights are a classifier's: %d of %d tensors.", len(trunk), len(tensors))
        return self.backbone.trunk, trunk

    def plain(self) -> nn.Module:
        """The detector itself, whose tensors have torchvision's names."""
        return self


def pyramid(layout: Layout, levels: tuple[int, int], extra: int, why: str) -> tuple[int, ...]:
    """The levels from first to last, checked.

    Args:
        layout: of the trunk.
        levels: first and last.
        extra: how many levels this detector adds above the trunk's, if any.
        why: what gives those, for the error.

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
