"""The top-1 accuracy under weights of the images."""

import numpy as np
import torch
from numpy.typing import NDArray

from limbeck.metrics.predictions import Predictions
from limbeck.metrics.resampled.base import Resampled, Weights


class ResampledTop1(Resampled):
    """The share of images whose class is the best one.

    Args:
        predictions: What a classifier predicts.
    """

    rows = 0

    def __init__(self, predictions: Predictions) -> None:
        best = torch.stack(list(predictions.found)).argmax(dim=1)
        self.right = (best == torch.stack(list(predictions.truth))).double().numpy()
        self.images = len(self.right)

    def _headlines(self, weights: Weights) -> NDArray[np.float64]:
        shares: NDArray[np.float64] = self.right @ weights / np.maximum(weights.sum(axis=0), 1)
        return shares
