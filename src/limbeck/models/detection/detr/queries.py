"""What the last layer of a decoder says of its queries, in one form for all families."""

from typing import Any

import torch
from torch import Tensor, nn

from limbeck.models.precision import in_full_precision
from limbeck.tap import Tap

_MOST = 1 - 1e-6  # a probability whose odds float32 still holds

PLACES = {
    "queries": Tap("queries", keys=("states",)),
    "query_logits": Tap("queries", keys=("logits",)),
    "query_boxes": Tap("queries", keys=("boxes",)),
}


class Queries(nn.Module):
    """The queries of the last layer, where methods read them.

    In training mode they are those that evaluation has, too: what is there for denoising, or for
    further groups of queries, is left out.

    Args:
        count: The number of queries in evaluation mode.
        background: Whether the last column of the logits stands for no object, under a softmax.
    """

    def __init__(self, count: int, background: bool) -> None:
        super().__init__()
        self.count = count
        self.background = background

    def forward(self, output: Any, shares: Tensor) -> dict[str, Tensor]:
        """The queries, in float32.

        Args:
            output: What the network returns for a batch.
            shares: The width, height, width and height of what boxes are shares of, as shares of
                the padded batch, (B, 1, 4).

        Returns:
            The ``states`` (B, Q, d); the ``logits`` (B, Q, K), whose sigmoids are the probabilities
            of the classes; and the ``boxes`` (B, Q, 4), cxcywh in shares of the padded batch.
        """
        denoising = output.get("denoising_meta_values")
        start = 0 if denoising is None else denoising["dn_num_split"][0]
        states, logits, boxes = (
            in_full_precision(output[name])[:, start : start + self.count]
            for name in ("last_hidden_state", "logits", "pred_boxes")
        )
        if self.background:
            logits = torch.logit(logits.softmax(-1)[..., :-1].clamp(max=_MOST))
        return {"states": states, "logits": logits, "boxes": boxes * shares}
