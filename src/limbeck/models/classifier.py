"""Image classifiers over torchvision's, timm's and limbeck's own networks."""

import difflib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
import torchvision
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from limbeck.checkpoints.tensors import Tensors
from limbeck.models.build import LimbeckModel, plain_value
from limbeck.models.darknet19 import Darknet19
from limbeck.models.norms import Norm, convert_norms
from limbeck.models.resnet import BasicBlockResNet, BasicBlocks
from limbeck.models.shufflenet import Unit, late_relu
from limbeck.models.shufflenet_v1 import ShuffleNetV1
from limbeck.models.weights import load_weights

log = logging.getLogger(__name__)

# Trunks of detectors that neither library has.
_OWN: Mapping[str, type[nn.Module]] = {"darknet19": Darknet19, "shufflenet_v1": ShuffleNetV1}


class Classifier(LimbeckModel):
    """An image classifier that normalises its own input.

    Args:
        network: a name, ``resnet18`` or ``torchvision:resnet18`` or ``timm:resnet18`` (a bare
            name is looked for in torchvision first), ``limbeck:darknet19`` or
            ``limbeck:shufflenet_v1``, or the shape of a network of basic blocks.
        num_classes: of the output.
        arguments: further arguments of the library's builder, such as ``{dropout: 0.0}`` of
            ``mobilenet_v2``, ``{act_layer: relu}`` of ``timm:mobilenetv1_100`` or
            ``{width: 0.25}`` of ``limbeck:darknet19``.
        weights: what :func:`limbeck.models.load_weights` takes; none: initialised afresh.
        mean: of the input channels, RGB in [0, 1]; none: what timm's network was published
            with, ImageNet's for all others.
        std: likewise.
        norm: behaviour of the batch normalisations, see :func:`limbeck.models.norms.convert_norms`.

    Attributes:
        network: the plain network.

    Raises:
        ValueError: No library has a network of that name, or it does not take the arguments.
    """

    numerics: ClassVar[Mapping[str, Any]] = {"mean": None, "std": None, "stride_in_1x1": False}
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: str | BasicBlocks,
        num_classes: int,
        *,
        arguments: Mapping[str, Any] | None = None,
        weights: str | Path | None = None,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
        norm: Norm = "trained",
    ) -> None:
        super().__init__()
        if isinstance(network, str):
            network = _qualified(network)
        arguments = dict(arguments or {})
        plain = _network(network, num_classes, arguments)
        published = getattr(plain, "pretrained_cfg", {})
        mean = mean or published.get("mean", IMAGENET_DEFAULT_MEAN)
        std = std or published.get("std", IMAGENET_DEFAULT_STD)
        settled = {"network": network, "num_classes": num_classes, "arguments": arguments}
        self.arguments = plain_value(settled | {"mean": mean, "std": std, "norm": norm})
        self.published = (network,) if isinstance(network, str) else ()
        self.num_classes = num_classes
        self.network = convert_norms(plain, norm)
        self.register_buffer("mean", _channels(mean), persistent=False)
        self.register_buffer("std", _channels(std), persistent=False)
        if weights is not None:
            load_weights(self, weights)

    def forward(self, images: Tensor) -> Tensor:
        """Class logits: RGB float images in [0, 1], (B, 3, H, W) -> (B, num_classes)."""
        if not images.is_floating_point():
            raise TypeError(f"images are {images.dtype}: expected float in [0, 1]. Divide by 255.")
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The network; its head as it is where the weights have another number of classes."""
        tensors = {name.removeprefix("network."): value for name, value in tensors.items()}
        head, own = _head(self.network), self.network.state_dict()
        given = tensors.get(f"{head}.weight")
        if given is not None and len(given) != len(own[f"{head}.weight"]):
            counts = len(given), self.num_classes
            log.info("The head %r keeps its own weights: %d classes given, %d here.", head, *counts)
            tensors |= {name: value for name, value in own.items() if name.startswith(f"{head}.")}
        return self.network, tensors

    def plain(self) -> nn.Module:
        """The network without the normalisation of its input."""
        return self.network

    def without_limbeck(self) -> str | None:
        """Python that builds and loads the network with its own library."""
        library, _, name = next(iter(self.published), "").partition(":")
        if library not in ("torchvision", "timm"):
            return None
        given = "".join(f", {k}={v!r}" for k, v in self.arguments["arguments"].items())
        maker = {"torchvision": "torchvision.models.get_model", "timm": "timm.create_model"}
        return (
            f"import torch, {library}\n"
            "from safetensors.torch import load_file\n"
            f"model = {maker[library]}({name!r}, num_classes={self.num_classes}{given})\n"
            'model.load_state_dict(load_file("student.safetensors"))\n'
            "model.eval()  # logits = model((images - mean) / std)\n"
            f"mean = torch.tensor({self.arguments['mean']})[:, None, None]\n"
            f"std = torch.tensor({self.arguments['std']})[:, None, None]\n"
        )


def _qualified(name: str) -> str:
    """``library:name``, after both were found."""
    torchvision_names: list[str] = torchvision.models.list_models(module=torchvision.models)
    library, _, bare = name.rpartition(":")
    if library in ("", "torchvision") and bare in torchvision_names:
        return f"torchvision:{bare}"
    if library in ("", "timm") and timm.is_model(bare):
        return f"timm:{bare}"
    if library in ("", "limbeck") and bare in _OWN:
        return f"limbeck:{bare}"
    known = torchvision_names + timm.list_models() + list(_OWN)
    near = difflib.get_close_matches(bare, known, n=4)
    own = ", ".join(f"limbeck:{each}" for each in _OWN)
    raise ValueError(
        f"network={name!r}: no such network. Expected one of torchvision's or timm's classifiers, "
        f"torchvision:<name> or timm:<name>, or one of {own}. Nearest names: "
        f"{', '.join(near) or 'none'}."
    )


def _network(
    network: str | BasicBlocks, num_classes: int, arguments: Mapping[str, Any]
) -> nn.Module:
    if isinstance(network, BasicBlocks) and arguments:
        raise ValueError(
            f"arguments={arguments}: a network of basic blocks has its depths, widths and "
            "stem_stride, and takes no others. Leave them out."
        )
    if isinstance(network, BasicBlocks):
        stride = network.stem_stride
        return BasicBlockResNet(network.depths, network.widths, num_classes, stride)
    try:
        return _published(network, num_classes, arguments)
    except TypeError as error:
        if not arguments:
            raise
        raise ValueError(
            f"arguments={arguments} do not suit {network}: {error}. Expected arguments of its "
            "builder in that library. Correct or leave out the one named."
        ) from None


def _published(network: str, num_classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    library, _, name = network.partition(":")
    if library == "timm":
        return timm.create_model(name, num_classes=num_classes, **arguments)
    if library == "limbeck":
        return _OWN[name](num_classes, **arguments)
    shuffle = name.startswith("shufflenet_v2")
    units = {"inverted_residual": Unit} if shuffle else {}
    plain: nn.Module = torchvision.models.get_model(
        name, weights=None, num_classes=num_classes, **units, **arguments
    )
    return late_relu(plain) if shuffle else plain


def _head(network: nn.Module) -> str:
    """The last linear layer or convolution, which gives the logits in every such network."""
    layers: list[str] = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return layers[-1]


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)
