"""The ranges of a quantized network's values, observed on images."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from limbeck.quantization.fake_quantize import AVERAGING, FakeQuantize


@torch.no_grad()
def calibrate(model: nn.Module, run: Callable[[Any], Any], batches: Iterable[Any]) -> int:
    """Observe the ranges of the values of a quantized network, anew.

    Each range is from the mean of the batches' lowest values to that of their highest. While
    ranges are observed, the layers before are rounded already.

    Args:
        model: The network, in evaluation mode, in which it stays.
        run: Runs it on a batch, in one pass.
        batches: The batches.

    Returns:
        The number of batches.

    Raises:
        ValueError: There is no batch, or a layer saw none.
    """
    quantizers = {n: m for n, m in model.named_modules() if isinstance(m, FakeQuantize)}
    for each in quantizers.values():
        each.observed.fill_(False)
        each.train()
    number = 0
    try:
        for number, batch in enumerate(batches, 1):
            for each in quantizers.values():
                each.averaging = 1 / number
            run(batch)
    finally:
        for each in quantizers.values():
            each.averaging = AVERAGING
            each.eval()
    unseen = [name for name, each in quantizers.items() if not each.observed]
    if unseen:
        raise ValueError(
            f"{number} batches were seen, and {unseen[0]} saw none of them; expected images that "
            "reach every quantized layer. Give others, or keep that layer in floats."
        )
    return number
