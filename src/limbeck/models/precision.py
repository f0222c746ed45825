"""Full precision where half precision would cost pixels.

Under autocast a network's outputs have 8 (bfloat16) or 11 (float16) significant bits. Box
coordinates, scores that are sorted, and sums over a hundred thousand anchors need more: detectors
bring what their heads give to float32, and all that follows runs in it.
"""

import torch
from torch import Tensor


def in_full_precision(tensor: Tensor) -> Tensor:
    """Half precision becomes float32; anything else is left as it is."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
