"""Top-1 and top-5 accuracy."""

from collections.abc import Sequence

from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.wrappers.abstract import WrapperMetric


class TopKAccuracy(WrapperMetric):
    """Share of images whose class is the best one, or among the best five.

    Args:
        classes: The names of the K classes, or K. Top-5 is measured if there are more than 5.
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
        """Takes in some more images.

        Args:
            predictions: Logits or probabilities (B, K).
            targets: Class indices (B,), counting from 0.
        """
        self.accuracies.update(predictions, targets)

    def compute(self) -> dict[str, Tensor]:
        """``top1`` and, if there are more than 5 classes, ``top5``: scalars from 0 to 1."""
        scores: dict[str, Tensor] = self.accuracies.compute()
        return scores

    def reset(self) -> None:
        """Forgets all images."""
        super().reset()
        self.accuracies.reset()
