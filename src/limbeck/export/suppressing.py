"""Suppression as one operator of ONNX's, for a batch of any size; and what the exporter lacks."""

from typing import Any

import torch
from torch import Tensor

from limbeck.exported.runtimes import needed
from limbeck.exported.suppression import Candidates, apart, kept_of_images

_INT32, _BOOL = 6, 9  # ONNX's numbers of its types


@torch.library.custom_op("limbeck::kept", mutates_args=())
def _kept(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    one_class = torch.zeros_like(scores, dtype=torch.int64)
    return kept_of_images(Candidates(boxes, scores, one_class), threshold)


@_kept.register_fake
def _(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    del boxes, threshold
    return torch.empty_like(scores, dtype=torch.bool)


def kept_by_operator(found: Candidates, threshold: float) -> Tensor:
    """Non-maximum suppression within each class, as one operator in an exported graph.

    Args:
        found: The candidates.
        threshold: The IoU above which the lower of two candidates of a class is dropped.

    Returns:
        Whether each candidate is kept, (B, K).
    """
    # What is no candidate may lie far away, and would cost the others digits in apart.
    boxes = torch.where((found.scores >= 0)[..., None], found.boxes, 0.0)
    kept: Tensor = _kept(apart(boxes, found.labels), found.scores, threshold)
    return kept


def translations() -> dict[Any, Any]:
    """What operators are in ONNX that ``torch.onnx.export`` does not know.

    Returns:
        A function of ONNX's operators for each: :func:`kept_by_operator` is NonMaxSuppression.
    """
    op: Any = needed("onnxscript", "onnx").opset18  # an extra, loaded where it is needed

    def kept(boxes: Any, scores: Any, threshold: float) -> Any:
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
        return op.Cast(op.ScatterND(nothing, places, ones), to=_BOOL)

    def is_all_true(values: Any) -> Any:
        """Whether all of a boolean tensor is true, which transformers asserts."""
        return op.Cast(op.ReduceMin(op.Cast(values, to=_INT32), keepdims=0), to=_BOOL)

    return {
        torch.ops.limbeck.kept.default: kept,
        torch.ops.aten._is_all_true.default: is_all_true,
    }
