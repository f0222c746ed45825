"""A file of weights as a model of limbeck's takes it, whatever library wrote it.

A state dict does not say how it was trained to be run. Two of these things come together in the
published files and have a name in mmdetection, the trunk's **style**:

=========  =======  ===================  =======================  =========================
style      images   standard deviation   stride of bottlenecks    usual in
=========  =======  ===================  =======================  =========================
pytorch    RGB      ImageNet's           in the 3x3 convolution   mmdetection
caffe      BGR      1 (of 0 to 255)      in the 1x1 convolution   detectron2's R50 and R101
=========  =======  ===================  =======================  =========================

The means are ImageNet's in both. What the library's own configuration says, in mmdetection's file
or in detectron2's ``config.yaml`` beside it, goes before this table; so do the mean and standard
deviation that detectron2's older files hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from limbeck.checkpoints.architecture import Kind
from limbeck.checkpoints.reading.files import Contents
from limbeck.checkpoints.tensors import Tensors, scaled_input

Library = str  # the name of one of limbeck.checkpoints.formats.FORMATS
Style = Literal["caffe", "pytorch"]


@dataclass(frozen=True)
class Checkpoint:
    """Weights, and what a model needs to give with them the outputs that their library gives.

    Attributes:
        source: Where the weights are from, as it was said.
        library: The library whose file it is, one of
            :data:`limbeck.checkpoints.formats.FORMATS`; ``limbeck`` for a student.
        kind: The kind of the network: limbeck's class of detector, or a trunk or classifier.
        tensors: The weights under torchvision's names, in the rows and columns that limbeck's model
            with these ``arguments`` has. In darknet's files they have no names, see
            :mod:`limbeck.checkpoints.libraries.darknet`.
        arguments: The arguments of that model's constructor that the file determines.
        classes: The names of the foreground classes, where the file has them.
        contents: What the file holds. None for a student.
        test_arguments: Further arguments that its configuration has, which do not concern the
            weights: ``min_size``, ``score_threshold``, ...
    """

    source: str
    library: str
    kind: Kind
    tensors: Tensors
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    contents: Contents | None = None
    test_arguments: dict[str, Any] = field(default_factory=dict)


def style_of(checkpoint: Checkpoint) -> Style:
    """The style in which weights are written: ``caffe`` where the deviation is 1 of 255."""
    is_one = np.allclose(checkpoint.arguments.get("std", 1.0), 1 / 255)
    return "caffe" if is_one else "pytorch"


def with_std(checkpoint: Checkpoint, std: Sequence[float] | None) -> Tensors:
    """The tensors for a model that divides its input by another standard deviation.

    Args:
        checkpoint: The weights, with the standard deviation that they were trained with.
        std: The standard deviation of the model, RGB in [0, 1]. None: the checkpoint's own.

    Returns:
        The tensors, whose first convolution is scaled where the two deviations differ.

    Raises:
        ValueError: No layer takes three channels.
    """
    own = checkpoint.arguments.get("std")
    if own is None or std is None or np.allclose(own, std):
        return checkpoint.tensors
    for name, value in checkpoint.tensors.items():
        if value.dim() == 4 and value.shape[1] == 3:
            return checkpoint.tensors | {name: scaled_input(value, own, std)}
    raise ValueError(
        f"weights={checkpoint.source!r} were trained with std={own} and no layer of theirs takes "
        f"three channels, so that they could be adapted to std={std}. Give the model their std."
    )
