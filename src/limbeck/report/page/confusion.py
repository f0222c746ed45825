"""Which classes a classifier takes for which."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchmetrics.functional.classification import multiclass_confusion_matrix

from limbeck.metrics.predictions import Predictions

MOST_CLASSES = 30  # of a matrix that can still be read
MOST_PAIRS = 12


@dataclass(frozen=True)
class Confusion:
    """How often images of each class were taken for each class.

    Attributes:
        counts: The numbers of images; a row for each true class, a column for each prediction.
            None: there are too many classes for a matrix.
        pairs: The most frequent confusions, each with the indices of the true and of the predicted
            class and the number of images.
    """

    counts: Sequence[Sequence[int]] | None
    pairs: Sequence[tuple[int, int, int]]


def confuse(predictions: Predictions) -> Confusion:
    """Count a classifier's confusions."""
    logits, truth = torch.stack(list(predictions.found)), torch.stack(list(predictions.truth))
    count = len(predictions.classes)
    matrix = multiclass_confusion_matrix(logits, truth, count)
    wrong = matrix.clone().fill_diagonal_(0).flatten()
    order = wrong.argsort(descending=True, stable=True)[:MOST_PAIRS].tolist()
    pairs = [(cell // count, cell % count, int(wrong[cell])) for cell in order if wrong[cell] > 0]
    return Confusion(matrix.tolist() if count <= MOST_CLASSES else None, pairs)
