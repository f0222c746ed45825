"""The FCOS assist: an anchor-free head on the student's pyramid (Tian et al., arXiv 1904.01355)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.fcos import FCOSHead

from limbeck.methods.base import Side
from limbeck.methods.head.akd import squared_error
from limbeck.methods.head.places import class_count, pyramid_levels
from limbeck.models.detection.parts.anchors import ExactAnchorGenerator
from limbeck.models.precision import in_full_precision

FCOS_PARTS = ("fcos.classification", "fcos.bbox_regression", "fcos.bbox_ctrness")
GROUPS = 32  # of the norms in torchvision's FCOS head


class FCOSAssist(detection.FCOS):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's FCOS on the student's pyramid: its head, its matching and its losses.

    Args:
        levels: The first and the last level of the pyramid. Level k has a stride of 2**k pixels.
        channels: The channels of the pyramid.
        classes: The number of foreground classes.

    Raises:
        ValueError: The channels do not make the groups of its norms.
    """

    def __init__(self, levels: tuple[int, int], channels: int, classes: int) -> None:
        nn.Module.__init__(self)  # an FCOS's own constructor wants a backbone and a transform
        self.center_sampling_radius = 1.5  # strides
        if channels % GROUPS:
            raise ValueError(
                f"the student's pyramid has {channels} channels, which do not make the {GROUPS} "
                "groups of the norms in an FCOS assist. Take a multiple, or the R-CNN assist alone."
            )
        self.head = FCOSHead(channels, 1, classes + 1)  # column 0 is not used
        numbers = range(levels[0], levels[1] + 1)
        self.strides = [2**level for level in numbers]
        sizes = tuple((float(stride),) for stride in self.strides)
        self.points = ExactAnchorGenerator(numbers, sizes, ((1.0,),) * len(sizes))

    def forward(self, pyramid: Sequence[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Run the head on every level.

        Args:
            pyramid: The maps of the student's pyramid, (B, C, H, W), finest first.

        Returns:
            The output of the classification tower at each level, (B, C, H, W), and the outputs of
            the head by name, (B, N, columns).
        """
        classification = self.head.classification_head
        tower = [classification.conv(level) for level in pyramid]
        logits = [classification.cls_logits(level).flatten(2).mT for level in tower]
        regression, centreness = self.head.regression_head(list(pyramid))
        outputs = {
            "cls_logits": torch.cat(logits, dim=1),
            "bbox_regression": regression,
            "bbox_ctrness": centreness,
        }
        return tower, {name: in_full_precision(output) for name, output in outputs.items()}

    def losses(
        self,
        outputs: dict[str, Tensor],
        pyramid: Sequence[Tensor],
        targets: list[dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """The focal loss, generalised IoU and centreness, each divided by the positive points.

        Args:
            outputs: The outputs of the head.
            pyramid: The maps that they come from.
            targets: The ``boxes`` (M, 4) and ``labels`` (M,) from 1 of each image.

        Returns:
            The three losses by part.
        """
        points = self._points(pyramid)
        counts = [len(level) for level in points]
        anchors = [torch.cat(points)] * len(targets)
        losses: dict[str, Tensor] = self.compute_loss(targets, outputs, anchors, counts)
        return dict(zip(FCOS_PARTS, losses.values(), strict=True))

    def _points(self, pyramid: Sequence[Tensor]) -> list[Tensor]:
        """A box of one stride around the centre of every cell, (H*W, 4) for each level."""
        self.points.set_cell_anchors(pyramid[0].dtype, pyramid[0].device)
        corners = self.points.grid_anchors([list(level.shape[-2:]) for level in pyramid], None)
        pairs = zip(corners, self.strides, strict=True)
        return [level + stride / 2 for level, stride in pairs]


class Towers(nn.Module):
    """The student's classification tower learns the assist's, level by level.

        L = sum over levels of mean (A f_student - f_assist)^2

    with one 1x1 convolution A for all levels.

    Args:
        channels: The channels of the student's tower.
        width: The channels of the assist's tower.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.adapter = nn.Conv2d(channels, width, 1)

    def forward(self, student: Sequence[Tensor], assist: Sequence[Tensor]) -> Tensor:
        """The loss L, a scalar, by which the assist does not learn."""
        pairs = zip(student, assist, strict=True)
        losses = [squared_error(self.adapter(s), a.detach()) for s, a in pairs]
        return torch.stack(losses).sum()


def new_fcos_assist(student: Side) -> FCOSAssist:
    """An FCOS assist of the levels, channels and classes that a dry pass of the student shows."""
    pyramid: list[Tensor] = student.features["assist"]
    levels = pyramid_levels(pyramid, student.features["frame"])
    return FCOSAssist(levels, pyramid[0].shape[1], class_count(student.model, student.features))
