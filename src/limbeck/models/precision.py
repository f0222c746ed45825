"""Full precision where half precision would cost pixels.

Under autocast the outputs of a network have 8 (bfloat16) or 11 (float16) significant bits. The
coordinates of boxes, scores that are sorted, and sums over a hundred thousand anchors need more:
detectors bring what their heads give to float32, and all that follows runs in it.
"""

import torch
from torch import Tensor


def in_full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32 where it has half precision, and as it is otherwise."""
    # No torch.promote_types: files of torch.export that have it cannot be opened by torch 2.6.
    return tensor if tensor.dtype == torch.float64 else tensor.float()
