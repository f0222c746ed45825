"""Suppression as one operator of ONNX's, for a batch of any size."""

from typing import Any

import torch
from torch import Tensor

from limbeck.exported.suppression import Candidates, apart, kept_of_images


@torch.library.custom_op("limbeck::kept", mutates_args=())
def _kept(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    return kept_of_images(Candidates(boxes, scores, labels), threshold)


@_kept.register_fake
def _(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float) -> Tensor:
    return torch.empty_like(scores, dtype=torch.bool)


def kept_by_operator(found: Candidates, threshold: float) -> Tensor:
    """Non-maximum suppression within each class, as one operator in an exported graph.

    Args:
        found: The candidates.
        threshold: The IoU above which the lower of two candidates of a class is dropped.

    Returns:
        Whether each candidate is kept, (B, K).
    """
    boxes = apart(found.boxes, found.labels)
    # The classes are apart already: to the operator they are all of one.
    kept: Tensor = _kept(boxes, found.scores, torch.zeros_like(found.labels), threshold)
    return kept


def translations() -> dict[Any, Any]:
    """What the operator is in ONNX, for ``torch.onnx.export``: ONNX's NonMaxSuppression."""
    from onnxscript import opset18 as op  # an extra, which is loaded where it is needed

    def kept(boxes: Any, scores: Any, labels: Any, threshold: float) -> Any:
        """NonMaxSuppression, whose (image, class, box) become True in a mask (B, K)."""
        most = op.Constant(value_ints=[2**31 - 1])
        chosen = op.NonMaxSuppression(
            boxes,
            op.Unsqueeze(scores, op.Constant(value_ints=[1])),
            most,
            op.Constant(value_floats=[threshold]),
            op.Constant(value_floats=[-0.5]),  # what is no candidate has a score of -1
        )
        places = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
        nothing = op.ConstantOfShape(op.Shape(scores))
        ones = op.Expand(op.Constant(value_floats=[1.0]), op.Shape(chosen, end=1))
        return op.Cast(op.ScatterND(nothing, places, ones), to=9)  # a boolean

    return {torch.ops.limbeck.kept.default: kept}
