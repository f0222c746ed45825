"""The accuracy of a classifier: top-1 and top-5."""

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.wrappers.abstract import WrapperMetric


class TopKAccuracy(WrapperMetric):
    """The share of images whose class is the best one, or among the best five.

    Args:
        classes: The names of the K classes, or K itself. Top-5 is measured if there are more than
            five classes.

    Attributes:
        is_differentiable: Whether it has a gradient, for torchmetrics: it has none.
        higher_is_better: Whether more is better: it is.
        full_state_update: Whether torchmetrics' ``forward`` needs the whole state: it does not.
        task: The task, which is ``"classification"``.
        headline: The name of the score that judges a run, which is ``top1``.

    Example:
        >>> import torch
        >>> from limbeck.metrics import TopKAccuracy
        >>> metric = TopKAccuracy(["cat", "dog"])
        >>> metric.update(torch.tensor([[0.9, 0.1], [0.2, 0.8]]), torch.tensor([0, 0]))
        >>> metric.compute()
        {'top1': tensor(0.5000)}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    task = "classification"
    headline = "top1"

    def __init__(self, classes: Sequence[str] | int) -> None:
        super().__init__()
        num_classes = classes if isinstance(classes, int) else len(classes)
        ks = [1, 5] if num_classes > 5 else [1]
        self.accuracies = MetricCollection(
            {f"top{k}": MulticlassAccuracy(num_classes, top_k=k, average="micro") for k in ks},
            # A group is made of metrics that agree on the first batch, as these two well may.
            compute_groups=False,
        )

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Take in some more images.

        Args:
            predictions: The logits or probabilities, (B, K).
            targets: The class indices (B,), which count from 0.
        """
        self.accuracies.update(predictions, targets)

    def compute(self) -> dict[str, Tensor]:
        """Compute the scores of all images so far.

        Returns:
            ``top1`` and, if there are more than five classes, ``top5``: scalars from 0 to 1.
        """
        scores: dict[str, Tensor] = self.accuracies.compute()
        return scores

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        self.accuracies.reset()
