"""What a recipe states of a model, and what else is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch
from torch import nn

from limbeck.commands.starting.commented import plain
from limbeck.models import Build

Form = Literal["pyramid", "fixed", "letterbox", "transformer", "classifier"]

LIGHT = "light"  # the trunk of 1-1-1-1 basic blocks, by a word
BLOCKS = {"depths": [1, 1, 1, 1], "widths": [32, 64, 128, 256]}
SCRATCH = (
    "It is a network of 1-1-1-1 basic blocks that is trained from scratch: nothing is downloaded."
)
IMAGENET = (
    "The first run downloads torchvision's ImageNet weights of this network (torchvision is "
    "BSD-3-Clause; ImageNet itself is for research). To go without, give the path of a file that "
    "you have, or leave weights out and set norm: trained, and train for twice as long."
)
OF_TIMM = (
    "The first run downloads timm's weights of this network, whose licence its page on the hub "
    "says. To go without, give the path of a file that you have, or leave weights out and set "
    "norm: trained, and train for twice as long."
)


@dataclass(frozen=True)
class Model:
    """A model that a word names.

    Attributes:
        word: The word.
        class_path: Its class.
        arguments: The arguments of its constructor, as a recipe states them.
        form: What images it takes, and how it is trained.
        from_scratch: Whether it begins without weights.
        pretrained: The part that begins with weights, as the beginning of its parameters' names;
            None: all or none of it.
        ready: Why it has learnt these very classes already, as a sentence; None: it has not.
        hub: Whether it is described on the hub alone, so that it cannot be looked at.
    """

    word: str
    class_path: str
    arguments: Mapping[str, Any]
    form: Form
    from_scratch: bool = False
    pretrained: str | None = None
    ready: str | None = None
    hub: bool = field(default=False)

    @property
    def stated(self) -> dict[str, Any]:
        """The model as a recipe states it."""
        return {"class_path": self.class_path, "init_args": dict(self.arguments)}

    @property
    def kind(self) -> str:
        """The name of its class."""
        return self.class_path.rpartition(".")[2]

    @cached_property
    def built(self) -> nn.Module | None:
        """The model without its weights; None where the hub alone describes it."""
        if self.hub:
            return None
        arguments = {n: v for n, v in plain(self.arguments).items() if n != "weights"}
        # LibreYOLO copies numbers between tensors, of which the device meta has none.
        with torch.device("cpu" if self.kind == "LibreYOLODetector" else "meta"):
            # The folder that describes a transformer is the user's own, and its code is not run.
            return Build(self.class_path, arguments).make(trust=self.form == "transformer")

    @property
    def count(self) -> int | None:
        """How many parameters it has; None where the hub alone knows."""
        return None if self.built is None else sum(p.numel() for p in self.built.parameters())

    @property
    def parameters(self) -> str:
        """How many parameters it has, in words."""
        if self.count is None:
            return "as many parameters as the hub says"
        return f"{self.count / 1e6:.2f} M parameters"
