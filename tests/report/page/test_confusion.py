import torch

from limbeck.metrics.predictions import Predictions
from limbeck.report.page.confusion import MOST_CLASSES, confuse


def made(taken: list[int], truth: list[int], count: int) -> Predictions:
    logits = torch.nn.functional.one_hot(torch.tensor(taken), count).float()
    sizes = torch.ones(len(taken), 2, dtype=torch.long)
    names = tuple(map(str, range(count)))
    return Predictions("classification", names, sizes, logits, torch.tensor(truth))


def test_rows_are_the_truth():
    found = confuse(made([0, 1, 1, 2], [0, 0, 0, 2], 3))
    assert found.counts == [[1, 2, 0], [0, 0, 0], [0, 0, 1]]
    assert found.pairs == [(0, 1, 2)]


def test_many_classes_have_no_matrix():
    found = confuse(made([1], [0], MOST_CLASSES + 1))
    assert found.counts is None
    assert found.pairs == [(0, 1, 1)]
