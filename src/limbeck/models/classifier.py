"""Image classifiers over the networks of torchvision, timm and limbeck."""

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
import torchvision
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from limbeck.arguments import plain_value
from limbeck.checkpoints.tensors import Tensors
from limbeck.models.build import LimbeckModel
from limbeck.models.darknet19 import Darknet19
from limbeck.models.norms import Norm, convert_norms
from limbeck.models.published import input_of
from limbeck.models.resnet import BasicBlockResNet, BasicBlocks
from limbeck.models.shufflenet import Unit, late_relu
from limbeck.models.shufflenet_v1 import ShuffleNetV1
from limbeck.models.weights import load_weights, open_weights, stated_by
from limbeck.ranges import Range, refuse_outside

log = logging.getLogger(__name__)

_RANGES = {
    "num_classes": Range(0, 1_000_000),  # timm's networks of 0 classes give features
    "mean": Range(-1e3, 1),  # of images in [0, 1], and not in 0 to 255
    "std": Range(0, 1e3, open=True),
}

# torchvision's networks with auxiliary classifiers, which give several logits in training mode.
_AUXILIARY: Mapping[str, tuple[str, ...]] = {
    "torchvision:googlenet": ("aux1.", "aux2."),
    "torchvision:inception_v3": ("AuxLogits.",),
}
# Trunks of detectors that neither library has.
_OWN: Mapping[str, type[nn.Module]] = {"darknet19": Darknet19, "shufflenet_v1": ShuffleNetV1}


class Classifier(LimbeckModel):
    """An image classifier that normalises its own input.

    It takes a batch of images (B, 3, H, W), RGB in [0, 1], and gives the logits of the classes
    (B, num_classes), in training and in evaluation mode.

    Args:
        network: The name of the network, such as ``resnet18``, ``torchvision:resnet18``,
            ``timm:resnet18``, ``limbeck:darknet19`` or ``limbeck:shufflenet_v1``; or the shape of a
            network of basic blocks, :class:`limbeck.models.BasicBlocks`. A name without a library
            is looked for in torchvision, then in timm, then in limbeck. ``googlenet`` and
            ``inception_v3`` are built without their auxiliary classifiers.
        num_classes: The number of classes.
        arguments: Further arguments for the library's builder of the network, such as
            ``{dropout: 0.0}`` for ``mobilenet_v2``, ``{act_layer: relu}`` for
            ``timm:mobilenetv1_100`` or ``{width: 0.25}`` for ``limbeck:darknet19``. Default (None):
            no others.
        weights: The weights to begin with, as :func:`limbeck.models.load_weights` takes them.
            Default (None): the network is initialised afresh.
        mean: The mean of each input channel, RGB in [0, 1]. Default (None): as the weights say,
            otherwise the one that timm's network was published with, otherwise ImageNet's.
        std: The standard deviation of each input channel. Default (None): as the weights say,
            otherwise the one that timm's network was published with, otherwise ImageNet's.
        norm: What the batch normalisations do: ``frozen``, ``affine``, ``trained`` or
            ``synchronised``, see :func:`limbeck.models.norms.convert_norms`.

    Attributes:
        numerics: The arguments without which the same weights give other outputs, see
            :class:`limbeck.models.build.LimbeckModel`.
        network: The plain network, without the normalisation of its input.
        mean: The mean of each input channel, (3, 1, 1).
        std: The standard deviation of each input channel, (3, 1, 1).

    Raises:
        ValueError: No library has a network of that name, or it does not take the arguments.

    Example:
        >>> import torch
        >>> from limbeck import models
        >>> student = models.Classifier("resnet18", num_classes=3)
        >>> student(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3])

        A network of basic blocks has as many stages, and as many channels, as one likes:

        >>> shape = models.BasicBlocks(depths=(1, 1), widths=(16, 32))
        >>> models.Classifier(shape, num_classes=3)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 3])
    """

    numerics: ClassVar[Mapping[str, Any]] = {"mean": None, "std": None, "stride_in_1x1": False}
    network: nn.Module
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
        refuse_outside(_RANGES, {"num_classes": num_classes, "mean": mean, "std": std})
        if isinstance(network, str):
            network = _qualified(network)
        arguments = _with_one_head(network, arguments or {})
        plain = _network(network, num_classes, arguments)
        opened = open_weights(weights)
        stated = stated_by(opened, self.numerics)
        if not stated and isinstance(network, str):
            stated = {**input_of(network, weights)}
        mean = mean or stated.get("mean", IMAGENET_DEFAULT_MEAN)
        std = std or stated.get("std", IMAGENET_DEFAULT_STD)
        settled = {"network": network, "num_classes": num_classes, "arguments": arguments}
        self.arguments = plain_value(settled | {"mean": mean, "std": std, "norm": norm})
        self.published = (network,) if isinstance(network, str) else ()
        self.num_classes = num_classes
        self.network = convert_norms(plain, norm)
        self.register_buffer("mean", _channels(mean), persistent=False)
        self.register_buffer("std", _channels(std), persistent=False)
        if opened is not None:
            load_weights(self, opened)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the classes, (B, num_classes).

        Args:
            images: A batch of RGB images, floats in [0, 1], (B, 3, H, W).

        Returns:
            The logits, (B, num_classes).

        Raises:
            TypeError: The images are integers.
            ValueError: The images have no pixel.
        """
        if not images.is_floating_point():
            raise TypeError(f"images are {images.dtype}: expected float in [0, 1]. Divide by 255.")
        if 0 in images.shape[-2:]:
            raise ValueError(
                f"images are {tuple(images.shape)}, without a pixel; expected (B, 3, H, W) of one "
                "pixel at least. Leave them out."
            )
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

    def part_for(self, tensors: Tensors) -> tuple[nn.Module, Tensors]:
        """The network and its tensors; its own head stays if the classes differ in number."""
        own = self.network.state_dict()  # a network of timm's may have a part called "network"
        tensors = {n if n in own else n.removeprefix("network."): v for n, v in tensors.items()}
        auxiliary = _AUXILIARY.get(str(self.arguments["network"]), ())
        tensors = {n: v for n, v in tensors.items() if not n.startswith(auxiliary)}
        heads = _heads(self.network)
        if f"{heads[0]}.weight" not in tensors:  # published networks for CIFAR-10 say "linear"
            tensors = {re.sub(r"^linear\b", heads[0], n): value for n, value in tensors.items()}
        for head in heads:
            weight = tensors.get(f"{head}.weight")
            if weight is not None and len(weight) == len(own[f"{head}.weight"]):
                continue
            given = "none" if weight is None else f"{len(weight)} classes"
            told = "The head %r keeps its own weights: %s given, %d here."
            log.info(told, head, given, self.num_classes)
            tensors |= {name: value for name, value in own.items() if name.startswith(f"{head}.")}
        return self.network, tensors

    def plain(self) -> nn.Module:
        """The network without the normalisation of its input."""
        return self.network

    def without_limbeck(self) -> str | None:
        """Python that builds and loads the network with its own library; None for limbeck's."""
        library, _, name = next(iter(self.published), "").partition(":")
        if library not in ("torchvision", "timm"):
            return None
        others = "".join(f", {k}={v!r}" for k, v in self.arguments["arguments"].items())
        maker = {"torchvision": "torchvision.models.get_model", "timm": "timm.create_model"}
        return (
            f"import torch, {library}\n"
            "from safetensors.torch import load_file\n"
            f"model = {maker[library]}({name!r}, num_classes={self.num_classes}{others})\n"
            'model.load_state_dict(load_file("student.safetensors"))\n'
            "model.eval()  # logits = model((images - mean) / std)\n"
            f"mean = torch.tensor({self.arguments['mean']})[:, None, None]\n"
            f"std = torch.tensor({self.arguments['std']})[:, None, None]\n"
        )


def _qualified(name: str) -> str:
    """The name of a network with its library, ``library:name``, after both were found."""
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


def _with_one_head(network: str | BasicBlocks, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a network, which give it no auxiliary classifiers."""
    if network not in _AUXILIARY:
        return dict(arguments)
    if arguments.get("aux_logits"):
        raise ValueError(
            f"arguments.aux_logits is true for {network}; expected false, as auxiliary classifiers "
            "have no loss here. Leave it out."
        )
    return {"init_weights": True, **arguments, "aux_logits": False}


def _network(
    network: str | BasicBlocks, num_classes: int, arguments: Mapping[str, Any]
) -> nn.Module:
    if isinstance(network, BasicBlocks) and arguments:
        raise ValueError(
            f"arguments={arguments}: a network of basic blocks has its depths, widths, "
            "stem_stride and shortcuts, and takes no others. Leave them out."
        )
    if isinstance(network, BasicBlocks):
        return BasicBlockResNet(**vars(network), num_classes=num_classes)
    try:
        return _published(network, num_classes, arguments)
    except (TypeError, RuntimeError) as error:
        if not arguments and isinstance(error, TypeError):
            raise
        what = f"arguments={arguments} do not suit {network}" if arguments else f"{network}"
        raise ValueError(
            f"{what}: {error}. Expected a name and arguments of its builder in that library. "
            "Correct or leave out the one named."
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


def _heads(network: nn.Module) -> list[str]:
    """The layers that give logits: the last linear layer or convolution, and further ones.

    timm says of some networks that they have two.
    """
    layers: list[str] = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    stated = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    further = [stated] if isinstance(stated, str) else [*stated]
    return list(dict.fromkeys([layers[-1], *(name for name in further if name in layers)]))


def _channels(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(3, 1, 1)
