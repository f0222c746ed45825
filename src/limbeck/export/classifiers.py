"""What is exported of a classifier: the logits."""

from typing import ClassVar

from torch import Tensor, nn

from limbeck.export.graph import Graph, type_of
from limbeck.exported.framing import Framing
from limbeck.models import Classifier
from limbeck.models.precision import in_full_precision


class ClassifierGraph(Graph):
    """A classifier, which normalises its own input if it is one of limbeck's.

    Args:
        model: The classifier.
        framing: How images come into the frame.
    """

    outputs: ClassVar[tuple[str, ...]] = ("logits",)
    dynamic: ClassVar[tuple[str, ...]] = ("batch", "size")

    def __init__(self, model: nn.Module, framing: Framing) -> None:
        super().__init__()
        self.model = model
        self.framing = framing

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) -> logits (B, C)."""
        model = self.model
        if isinstance(model, Classifier):
            images = (images - model.mean.float()) / model.std.float()
            model = model.network
        return in_full_precision(model(images.to(type_of(model))))

    def halve(self) -> None:
        """Let the network compute in float16."""
        (self.model.network if isinstance(self.model, Classifier) else self.model).half()
