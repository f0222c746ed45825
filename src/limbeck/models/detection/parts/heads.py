"""torchvision's heads, whose outputs are in full precision whatever the autocast.

Losses, decoding and NMS follow in the type of these outputs, and none of their operations is one
that autocast would run in half precision.
"""

from torch import Tensor, nn
from torchvision.models.detection import faster_rcnn, retinanet, rpn, ssd, ssdlite
from torchvision.ops import Conv2dNormActivation

from limbeck.models.precision import in_full_precision


class RetinaNetHead(retinanet.RetinaNetHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's, with any number of convolutions a tower, where it has four.

    Args:
        channels: of the pyramid and the towers.
        anchors: of each cell.
        columns: of the class scores of each anchor.
        depth: convolutions in each tower.

    Raises:
        ValueError: There are none.
    """

    def __init__(self, channels: int, anchors: int, columns: int, depth: int) -> None:
        if depth < 1:
            raise ValueError(f"head_depth={depth}: expected 1 or more convolutions a tower.")
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
        """Maps of all levels -> ``cls_logits`` (B, N, columns), ``bbox_regression`` (B, N, 4)."""
        return {name: in_full_precision(output) for name, output in super().forward(x).items()}


class RPNHead(rpn.RPNHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's."""

    def forward(self, x: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps of all levels -> objectness (B, A, H, W) and deltas (B, 4 * A, H, W) of each."""
        objectness, deltas = super().forward(x)
        return [in_full_precision(o) for o in objectness], [in_full_precision(d) for d in deltas]


class BoxPredictor(faster_rcnn.FastRCNNPredictor):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's ``FastRCNNPredictor``."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C) features of regions -> class logits (R, K + 1), deltas (R, 4 * (K + 1))."""
        logits, deltas = super().forward(x)
        return in_full_precision(logits), in_full_precision(deltas)


class SSDHead(ssd.SSDHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's: one 3x3 convolution a level for scores, one for boxes."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Maps of all levels -> ``cls_logits`` (B, N, K + 1), ``bbox_regression`` (B, N, 4)."""
        return {name: in_full_precision(output) for name, output in super().forward(x).items()}


class SSDLiteHead(ssdlite.SSDLiteHead):  # type: ignore[misc]  # torchvision is untyped
    """torchvision's: depthwise separable convolutions."""

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Maps of all levels -> ``cls_logits`` (B, N, K + 1), ``bbox_regression`` (B, N, 4)."""
        return {name: in_full_precision(output) for name, output in super().forward(x).items()}


class ClassAgnosticBoxPredictor(BoxPredictor):
    """One box for each region, whatever its class.

    Args:
        in_channels: of the regions' features.
        columns: classes, with the background.
    """

    def __init__(self, in_channels: int, columns: int) -> None:
        super().__init__(in_channels, columns)
        self.bbox_pred = nn.Linear(in_channels, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C) features of regions -> class logits (R, K + 1), deltas (R, 4 * (K + 1))."""
        logits, deltas = super().forward(x)
        return logits, deltas.repeat(1, logits.shape[1])
