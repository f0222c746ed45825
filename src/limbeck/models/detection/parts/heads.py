"""torchvision's heads, with outputs in full precision whatever autocast runs in.

Losses, decoding and NMS follow in the type of these outputs, and none of their operations is one
that autocast would run in half precision.
"""

from functools import partial

from torch import Tensor, nn
from torchvision.models.detection import faster_rcnn, fcos, retinanet, rpn, ssd, ssdlite
from torchvision.ops import Conv2dNormActivation

from limbeck.models.detection.parts.gfl_head import GROUPS, GroupNorm
from limbeck.models.precision import in_full_precision


class RetinaNetHead(retinanet.RetinaNetHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's head of RetinaNet, with towers of any depth and outputs in full precision.

    Args:
        channels: The number of channels of the pyramid and of the towers.
        anchors: The number of anchors of each cell.
        columns: The number of class scores of each anchor.
        depth: The number of convolutions in each of the two towers, where torchvision has four.

    Raises:
        ValueError: The depth is below 1.
    """

    def __init__(self, channels: int, anchors: int, columns: int, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"head_depth={depth}: expected 1 or more convolutions in a tower.")
        super().__init__(channels, anchors, columns)
        for branch in (self.classification_head, self.regression_head):
            branch.conv = nn.Sequential(
                *(Conv2dNormActivation(channels, channels, norm_layer=None) for _ in range(depth))
            )
            for module in branch.conv.modules():
                if isinstance(module, nn.Conv2d) and module.bias is not None:
                    nn.init.normal_(module.weight, std=0.01)
                    nn.init.zeros_(module.bias)

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """All levels' maps -> ``cls_logits`` (B, N, columns) and ``bbox_regression`` (B, N, 4)."""
        return {name: in_full_precision(output) for name, output in super().forward(x).items()}


class FCOSHead(fcos.FCOSHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's head of FCOS, with outputs in full precision.

    Afresh, it predicts a distance of one stride to each side, where torchvision begins at 0: behind
    the ReLU there, a side that begins below has no gradient, and may never be learnt.

    Args:
        channels: The number of channels of the pyramid and of the towers.
        columns: The number of class scores of each location.
        depth: The number of convolutions in each of the two towers.

    Raises:
        ValueError: The channels do not make the groups of the norms.
    """

    def __init__(self, channels: int, columns: int, depth: int) -> None:
        if channels % GROUPS:
            raise ValueError(
                f"fpn_channels={channels}: expected a multiple of {GROUPS}, since the norms in an "
                f"FCOS's head have {GROUPS} groups."
            )
        super().__init__(channels, 1, columns, depth)
        norm = partial(GroupNorm, GROUPS)
        self.classification_head = fcos.FCOSClassificationHead(
            channels, 1, columns, depth, norm_layer=norm
        )
        self.regression_head = fcos.FCOSRegressionHead(channels, 1, depth, norm_layer=norm)
        nn.init.ones_(self.regression_head.bbox_reg.bias)

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """All levels' maps -> ``cls_logits`` (B, N, columns), and the boxes and centre-ness."""
        return {name: in_full_precision(output) for name, output in super().forward(x).items()}


class RPNHead(rpn.RPNHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's head of the region proposal network, with outputs in full precision."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """All levels' maps -> each level's objectness (B, A, H, W) and deltas (B, 4 * A, H, W)."""
        objectness, deltas = super().forward(x)
        return [in_full_precision(o) for o in objectness], [in_full_precision(d) for d in deltas]


class BoxPredictor(faster_rcnn.FastRCNNPredictor):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``FastRCNNPredictor``, the last layers of the box head, in full precision."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features of regions (R, C) -> class logits (R, K + 1) and deltas (R, 4 * (K + 1))."""
        logits, deltas = super().forward(x)
        return in_full_precision(logits), in_full_precision(deltas)


class SSDHead(ssd.SSDHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's head of SSD, with outputs in full precision.

    At each level one 3x3 convolution gives the scores, and another one the boxes.
    """

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """All levels' maps -> ``cls_logits`` (B, N, K + 1) and ``bbox_regression`` (B, N, 4)."""
        return {name: in_full_precision(output) for name, output in super().forward(x).items()}


class SSDLiteHead(ssdlite.SSDLiteHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's head of SSDLite, of depthwise separable convolutions, in full precision."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """All levels' maps -> ``cls_logits`` (B, N, K + 1) and ``bbox_regression`` (B, N, 4)."""
        return {name: in_full_precision(output) for name, output in super().forward(x).items()}


class ClassAgnosticBoxPredictor(BoxPredictor):
    """The last layers of a box head that predicts one box for each region, whatever its class.

    Args:
        in_channels: The number of channels of the regions' features.
        columns: The number of classes, with the background.
    """

    def __init__(self, in_channels: int, columns: int) -> None:
        super().__init__(in_channels, columns)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features of regions (R, C) -> class logits (R, K + 1) and deltas (R, 4 * (K + 1))."""
        logits, deltas = super().forward(x)
        return logits, deltas.repeat(1, logits.shape[1])


def flat(maps: Tensor, columns: int) -> Tensor:
    """What a dense head gives at one level, (B, A*K, H, W), cell by cell: (B, H*W*A, K)."""
    batch, _, height, width = maps.shape
    cells_first = maps.view(batch, -1, columns, height, width).permute(0, 3, 4, 1, 2)
    return cells_first.reshape(batch, -1, columns)


def foreground(model: nn.Module, logits: Tensor) -> Tensor:
    """The columns of the classes of a dense head's logits: (..., K + 1) or (..., K) to (..., K).

    torchvision's column 0 is never used. limbeck's detectors of other presets have no such column.
    """
    return logits[..., unused_columns(model) :]


def unused_columns(model: nn.Module) -> int:
    """How many columns of the class scores come before the first class."""
    return int(getattr(getattr(model, "preset", None), "unused_column", True))
