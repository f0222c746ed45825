"""Networks of timm's as trunks, whose maps are chosen by what timm says of each network.

No table knows a network by its name. timm's ``feature_info`` says which maps there are, with their
strides and channels; the network is built once without memory (on torch's device ``meta``) and run
on an image of a size that it was not made for, which shows whether that is so.
"""

import difflib
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import timm
import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models._features import FeatureGetterNet
from torch import Tensor, nn

from limbeck.checkpoints.tensors import Tensors
from limbeck.models import published
from limbeck.trunks import Layout, Stage

log = logging.getLogger(__name__)

PREFIX = "timm:"
_NAME = re.compile(r"[\w.-]+", re.ASCII)  # no hf-hub:, no local-dir:, no path
_LEVELS = range(2, 6)  # C2 to C5
_TRIED = (64, 96)  # height and width of the image that a network is tried on
_OF_ONE_SIZE = (
    "it does not take images of any size, as a detector's trunk has to",
    "Take a convolutional network, a Swin or a plain ViT, such as timm:convnext_tiny or "
    "timm:vit_small_patch16_dinov3.",
)
# What makes networks that are made for one size, such as ViT and Swin, take others. The first that
# the network's builder takes is used.
_ANY_SIZE: tuple[Mapping[str, Any], ...] = ({"dynamic_img_size": True}, {})


@dataclass(frozen=True, kw_only=True)
class TimmLayout(Layout):
    """The parts of a network of timm's.

    Attributes:
        name: timm's name of the network.
        arguments: The arguments of its builder with which it takes images of any size.
        indices: Which of timm's features gives the map of each level.
        ends: The modules that end the stages, in order: those of the C-levels, or all blocks of a
            plain network, whose maps have one stride.
        stem_end: The module that ends the stem. Empty: what stands before the first stage's.
        only: The level of the maps of a plain network, such as a ViT, over which a simple pyramid
            makes the other levels. None: the network has maps of several levels.
        width: The channels of the last map.
        at_ends: The levels whose map is the output of the module that ends the stage.
        tensors: The names of all tensors of the classifier.
    """

    name: str
    arguments: Mapping[str, Any]
    indices: Mapping[int, int]
    ends: tuple[str, ...]
    stem_end: str
    only: int | None
    width: int
    at_ends: frozenset[int]
    tensors: frozenset[str]


class TimmTrunk(FeatureGetterNet):
    """timm's network of features, which gives its maps by name as torchvision's extractor does.

    It is what ``timm.create_model(NAME, features_only=True, feature_cls="getter")`` makes: the
    classifier itself, less what lies above the last map, as the module ``model``.

    Args:
        model: timm's classifier, which loses what is not needed.
        out_indices: Which of its features are given, finest first.

    Attributes:
        model: The network, whose tensors have timm's names.
        stages: The names of the modules of the stem, and of each stage. Empty: they are not known.
        ends: The names of the modules whose outputs are maps, by level. Other maps are no module's
            output, such as those that a ViT's tokens are made into.
        levels: The levels of the maps that are given, finest first.
    """

    model: nn.Module
    stages: Sequence[Sequence[str]] = ()
    ends: Mapping[int, str] = MappingProxyType({})
    levels: tuple[int, ...] = ()

    def __init__(self, model: nn.Module, out_indices: Sequence[int]) -> None:
        super().__init__(model, tuple(out_indices))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W), normalised -> the maps (B, C, h, w), finest first, as "0", "1", ..."""
        maps: list[Tensor] = super().forward(images)  # type: ignore[no-untyped-call]
        return {str(place): each for place, each in enumerate(maps)}


def is_timms(trunk: object) -> bool:
    """Whether a backbone is said to be a network of timm's, ``timm:NAME``."""
    return isinstance(trunk, str) and trunk.startswith(PREFIX)


def input_of(backbone: object, weights: object) -> dict[str, Any]:
    """The usual mean and deviation of the input of a backbone, where timm says them.

    Args:
        backbone: The trunk of a detector, as its constructor takes it.
        weights: The weights of the detector. Where timm publishes them, it says what they need.

    Returns:
        The ``mean`` and the ``std`` of each channel; nothing where the trunk is not timm's.
    """
    if not is_timms(backbone):
        return {}
    timm_layout(str(backbone).removeprefix(PREFIX))  # refuses other names
    usual = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
    return {**usual, **published.input_of(str(backbone), weights)}


def refuse_plain(layout: Layout) -> None:
    """Refuse a network of one stride under a detector that makes no pyramid over it.

    Args:
        layout: The layout of a trunk.

    Raises:
        ValueError: All maps of the network have one stride.
    """
    if isinstance(layout, TimmLayout) and layout.only is not None:
        raise ValueError(
            f"backbone='{PREFIX}{layout.name}': all its maps have a stride of {2**layout.only} "
            "pixels, and this detector needs maps of several strides. Take RetinaNet, FCOS, GFL or "
            "FasterRCNN, which make a simple pyramid over it; or another trunk, such as "
            f"{PREFIX}mobilenetv4_conv_small."
        )


def refuse_rounded_down(layout: Layout, image_size: tuple[int, int]) -> None:
    """Refuse images of a size of which a network's maps lose the last rows or columns.

    A level k has a cell for each 2**k pixels begun. Networks whose strided layers do not pad, such
    as ConvNeXt, have fewer.

    Args:
        layout: The layout of a trunk.
        image_size: The height and the width of the images, in pixels.

    Raises:
        ValueError: A map of a network of timm's has fewer cells.
    """
    if not isinstance(layout, TimmLayout) or all(side % 2**layout.top == 0 for side in image_size):
        return
    levels, height, width = tuple(layout.indices), *image_size
    with torch.device("meta"), torch.no_grad():
        maps = timm_trunk(layout, levels).eval()(torch.zeros(1, 3, height, width))
    for level, each in zip(levels, maps.values(), strict=True):
        if tuple(each.shape[-2:]) != (-(-height // 2**level), -(-width // 2**level)):
            raise ValueError(
                f"image_size={image_size}: {PREFIX}{layout.name} makes a C{level} of "
                f"{tuple(each.shape[-2:])} cells of it, which leaves pixels out. Expected sides "
                f"that are multiples of {2**layout.top}. Give such a size."
            )


@cache
def timm_layout(name: str) -> TimmLayout:
    """The layout of one of timm's networks, after it was tried.

    Args:
        name: timm's name of the network, with or without a tag, such as ``resnet18.a1_in1k``.

    Returns:
        The layout.

    Raises:
        ValueError: timm has no such network, or its maps cannot be a detector's.
    """
    if not (_NAME.fullmatch(name) and timm.is_model(name)):
        near = difflib.get_close_matches(name, timm.list_models(), n=4)
        raise ValueError(
            f"backbone='{PREFIX}{name}': timm has no network of that name. Expected one of "
            f"timm.list_models(), without hub or folder. Nearest names: "
            f"{', '.join(near) or 'none'}."
        )
    with _refused(name, "timm cannot build it", "Take another one."), torch.device("meta"):
        network, arguments = _taking_any_size(name)
    info = getattr(network, "feature_info", None)
    if not hasattr(network, "forward_intermediates") or not isinstance(info, list) or not info:
        raise ValueError(
            f"backbone='{PREFIX}{name}': in timm {timm.__version__} this network gives no maps "
            "(it has no forward_intermediates). Take another, or a later timm."
        )
    tensors = frozenset(network.state_dict())
    indices = _indices(name, [each["reduction"] for each in info])
    plain = len({each["reduction"] for each in info}) == 1
    below = [each["module"] for each in info if each["reduction"] < 2 ** _LEVELS[0]]
    ends = info if plain else [info[index] for index in indices.values()]
    return TimmLayout(
        stem=(),
        stages=_stages(info, indices, plain=plain),
        name=name,
        arguments=arguments,
        indices=indices,
        ends=tuple(each["module"] for each in ends),
        stem_end=below[-1] if below else "",
        only=next(iter(indices)) if plain else None,
        width=info[max(indices.values())]["num_chs"],
        at_ends=_tried(name, network, info, indices),
        tensors=tensors,
    )


def _taking_any_size(name: str) -> tuple[nn.Module, Mapping[str, Any]]:
    *others, last = _ANY_SIZE
    for arguments in others:
        try:
            return timm.create_model(name, num_classes=2, **arguments), arguments
        except TypeError:  # its builder has no such argument
            continue
    return timm.create_model(name, num_classes=2, **last), last


@contextmanager
def _refused(name: str, what: str, advice: str) -> Iterator[None]:
    """Say of an error within what of the network it is about."""
    try:
        yield
    except (RuntimeError, AssertionError, TypeError) as error:
        said = str(error).rstrip(".")
        raise ValueError(f"backbone='{PREFIX}{name}': {what} ({said}). {advice}") from error


def _indices(name: str, reductions: Sequence[int]) -> dict[int, int]:
    """Which feature is the last of each level from C2 to C5; strides between them are refused."""
    found = {math.log2(reduction): index for index, reduction in enumerate(reductions)}
    indices = {int(level): index for level, index in found.items() if level in _LEVELS}
    between = [level for level in found if level > _LEVELS[0] and not level.is_integer()]
    gaps = [level for level, above in pairwise(indices) if above != level + 1]
    if between or gaps or not indices:
        strides = ", ".join(f"{reduction:g}" for reduction in dict.fromkeys(reductions))
        raise ValueError(
            f"backbone='{PREFIX}{name}': its maps have strides of {strides} pixels. Expected 4, 8, "
            "16 or 32; of ViTs, take one with patches of 8, 16 or 32 pixels."
        )
    return indices


def _tried(
    name: str, network: nn.Module, info: Sequence[Mapping[str, Any]], indices: Mapping[int, int]
) -> frozenset[int]:
    """The levels whose map is a module's output, after all maps were found to be as is said."""
    outputs: dict[str, Any] = {}
    modules = dict(network.named_modules())
    for path in (info[index]["module"] for index in indices.values()):
        if path in modules:  # some name what they do not have
            modules[path].register_forward_hook(partial(_note, outputs, path))
    height, width = _TRIED
    with _refused(name, *_OF_ONE_SIZE), torch.device("meta"), torch.no_grad():
        trunk = TimmTrunk(network.eval(), tuple(indices.values()))
        maps = trunk(torch.zeros(1, 3, height, width))
    at_ends = set()
    for (level, index), each in zip(indices.items(), maps.values(), strict=True):
        expected = (1, info[index]["num_chs"], height >> level, width >> level)
        if tuple(each.shape) != expected:
            raise ValueError(
                f"backbone='{PREFIX}{name}': of an image of {height} x {width} px its C{level} is "
                f"{tuple(each.shape)}, and timm says {expected}. Take another network."
            )
        if outputs.get(info[index]["module"]) is each:
            at_ends.add(level)
    return frozenset(at_ends)


def _note(outputs: dict[str, Any], path: str, _: nn.Module, __: Any, output: Any) -> None:
    outputs[path] = output


def _stages(
    info: Sequence[Mapping[str, Any]], indices: Mapping[int, int], *, plain: bool
) -> tuple[Stage, ...]:
    """The stages; those of a plain network are what a simple pyramid makes of its last map."""
    if not plain:
        return tuple(Stage(k, info[index]["num_chs"], ()) for k, index in indices.items())
    ((only, index),) = indices.items()
    width = info[index]["num_chs"]
    return tuple(Stage(k, scaled_channels(width, only - k), ()) for k in _LEVELS)


def scaled_channels(channels: int, doublings: int) -> int:
    """The channels of a map whose sides were doubled so often; each time they are halved."""
    return channels >> max(doublings, 0)


def timm_trunk(layout: TimmLayout, levels: Sequence[int]) -> TimmTrunk:
    """A network of timm's, with fresh weights.

    Args:
        layout: The layout of the network.
        levels: The levels of the maps that it is to give, finest first. A plain network gives its
            only map whatever they are.

    Returns:
        The trunk.
    """
    given = tuple(levels) if layout.only is None else (layout.only,)
    network = timm.create_model(layout.name, num_classes=0, **layout.arguments)
    trunk = TimmTrunk(network, [layout.indices[level] for level in given])
    trunk.levels = given
    ends = layout.ends
    if layout.only is None:
        ends = ends[: 1 + list(layout.indices).index(given[-1])]
        places = zip(layout.indices, ends, strict=False)
        trunk.ends = {level: end for level, end in places if level in layout.at_ends}
    trunk.stages = _modules(network, layout.stem_end, ends)
    return trunk


def _modules(network: nn.Module, stem_end: str, ends: Sequence[str]) -> list[list[str]]:
    """The modules of the stem, then of each stage up to its end; none where they are not told."""
    paths = list(_flat(network, [*filter(None, [stem_end]), *ends]))
    if not {*filter(None, [stem_end]), *ends} <= {*paths}:
        return []
    begin = paths.index(stem_end) + 1 if stem_end else paths.index(ends[0])
    bounds = [0, begin, *(paths.index(end) + 1 for end in ends)]
    return [paths[start:stop] for start, stop in pairwise(bounds)]


def _flat(network: nn.Module, ends: Sequence[str], prefix: str = "") -> Iterator[str]:
    """The paths of a network's children in order; one that holds an end gives its own in turn."""
    for name, child in network.named_children():
        path = f"{prefix}{name}"
        if any(end.startswith(f"{path}.") for end in ends):
            yield from _flat(child, ends, f"{path}.")
        else:
            yield path


def of_timms_classifier(layout: TimmLayout, model: nn.Module, tensors: Tensors) -> Tensors:
    """The state dict of a trunk from that of timm's classifier.

    Args:
        layout: The layout of the network.
        model: The network, less what lies above its last map.
        tensors: The state dict of the classifier.

    Returns:
        The tensors, less those of the classifier that the trunk does not have.
    """
    own = model.state_dict().keys()
    kept = {n: value for n, value in tensors.items() if n in own or n not in layout.tensors}
    parts = [n.partition(".")[0] for n in tensors if n not in kept and "num_batches" not in n]
    if parts:
        log.info("Left out, since no map needs it: %s.", ", ".join(dict.fromkeys(parts)))
    return kept
