"""A metric."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics import Metric


class BrierScore(Metric):
    """The mean squared distance of the predicted probabilities from the truth; less is better.

    It gives one number, which logs and summary name after the class. A metric that gives several
    returns them as a dict, and says in a class attribute ``headline`` which of them judges a run.

    Args:
        classes: The names of the classes, which every metric is given.
    """

    task = "classification"  # limbeck refuses it for detection
    higher_is_better = False  # the best checkpoint is that of the lowest score
    full_state_update = False

    total: Tensor
    images: Tensor

    def __init__(self, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Takes in logits (B, K) and class indices (B,)."""
        truth = F.one_hot(targets, len(self.classes))
        self.total += (predictions.softmax(dim=1) - truth).square().sum()
        self.images += len(targets)

    def compute(self) -> Tensor:
        """The score of all images so far, from 0 to 2."""
        return self.total / self.images
