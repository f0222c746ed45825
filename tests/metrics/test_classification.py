import pytest
import torch

from limbeck.metrics import TopKAccuracy


def test_counts_the_best_and_the_best_five():
    logits = torch.arange(8.0).repeat(4, 1)  # the order of classes is 7, 6, 5, 4, 3, 2, 1, 0
    metric = TopKAccuracy(8)
    metric.update(logits, torch.tensor([7, 6, 3, 2]))
    metric.update(logits[:1], torch.tensor([4]))
    scores = {name: value.item() for name, value in metric.compute().items()}
    assert scores == pytest.approx({"top1": 1 / 5, "top5": 4 / 5})


def test_agrees_with_counting_by_hand():
    logits, targets = torch.randn(500, 20), torch.randint(20, (500,))
    metric = TopKAccuracy(20)
    for part, labels in zip(logits.split(64), targets.split(64), strict=True):
        metric.update(part, labels)
    hits = logits.argsort(dim=1, descending=True) == targets[:, None]
    scores = metric.compute()
    assert scores["top1"] == pytest.approx(hits[:, 0].float().mean().item())
    assert scores["top5"] == pytest.approx(hits[:, :5].any(dim=1).float().mean().item())


def test_a_first_batch_that_scores_alike_does_not_tie_the_two_together():
    logits = torch.arange(8.0)[None]
    metric = TopKAccuracy(8)
    metric.update(logits, torch.tensor([7]))  # right in both
    metric.update(logits, torch.tensor([5]))  # right among five only
    scores = metric.compute()
    assert (scores["top1"], scores["top5"]) == (0.5, 1)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_five_classes_or_fewer_have_no_top5(num_classes):
    metric = TopKAccuracy(num_classes)
    metric.update(torch.eye(num_classes), torch.arange(num_classes))
    assert list(metric.compute()) == ["top1"]
    assert metric.compute()["top1"] == 1
