"""Landmarks: the field's names for places in each family of model.

===========================  =====================================================================
``C2`` .. ``C5``             trunk output at stride 4 .. 32, after the activation, (B, C, H, W);
                             ``C0`` and ``C1`` where a ResNet has a stage at stride 1 or 2
``C2.pre`` .. ``C5.pre``     the same before the activation; equal where none ends the stage (a
                             linear bottleneck), absent where its structure does not tell
``C2.depthwise`` ..          MobileNetV2 (torchvision): normalised output of a depthwise convolution
``C5.depthwise``             before its activation, in the first block of the last group of equal
                             width at stride 4 .. 32
``P2`` .. ``P7``             FPN output at stride 4 .. 128, (B, C, H, W)
``fpn``                      every FPN output, a list over levels
``maps``                     a detector's backbone outputs, with or without FPN: a list over the
                             levels that have anchors
``cls_tower``, ``box_tower`` last tower convolution after its activation, a list over levels
``cls_maps``, ``box_maps``   a dense head's last convolutions, before any activation, a list over
                             levels: logits of K columns for the A anchors of each cell, (B, A*K,
                             H, W), and what boxes are computed from, (B, A*4 or 4*bins, H, W)
``anchors``                  ``anchors[image][level]``, boxes xyxy in the frame, (A*H*W, 4)
``frame``                    the network's input frame, a :class:`limbeck.frame.Frame`
``regions``                  the boxes that the box head looks at, in training those that it is
                             trained on, xyxy in the frame, (R, 4) of each image
``roi_features``             their pooled features, of all images, (sum of R, C, h, w)
``pooled``                   what a classifier's last linear layer takes, before dropout, (B, C)
``logits``                   a classifier's output, (B, K)
===========================  =====================================================================

What a C-level is, by family: the *last* output at that stride (not ShuffleNetV2's ``conv5``, which
is for the classifier). Where Matching Guided Distillation (MGD, ECCV 2020) has its places in them:

============================  ==================================  ================================
family                        C2, C3, C4, C5                      MGD's published places
============================  ==================================  ================================
ResNet                        ``layer1`` .. ``layer4``            ``C2.pre`` .. ``C5.pre``
MobileNetV1 (timm)            ``blocks.1`` .. ``blocks.4``        ``C2.pre`` .. ``C5.pre``: blocks
                                                                  3, 5, 11, 13, the stem being 0
MobileNetV2 (torchvision)     ``features.3, .6, .13``, and        ``C3.depthwise`` ..
                              ``.18``, as HEAD has it             ``C5.depthwise``: blocks 7, 11, 17
                                                                  with its stride moved, and 4, 11,
                                                                  17 without
ShuffleNetV2 (torchvision)    ``maxpool``, ``stage2`` ..          ``C3.pre``, ``C4.pre`` and ``C5``
                              ``stage4``
============================  ==================================  ================================

In torchvision's own ShuffleNetV2 no tensor holds a stage before its ReLU, so there is no ``.pre``:
each unit activates the half of the channels that it computes. A ``limbeck.models.Classifier`` of it
is the same function with the ReLU at each stage's end (:mod:`limbeck.models.shufflenet`), and has
``C3.pre`` .. ``C5.pre``. MGD ignores its first place in MobileNetV2 (block 4, of stride 8 already)
and in ShuffleNetV2 (``C2``).
"""

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from timm.models._features import FeatureGetterNet
from torch import Tensor, nn
from torchvision.models import mobilenetv2
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from limbeck.dense_heads import dense_head
from limbeck.frame import Frame, takes_list
from limbeck.pooled import pooled
from limbeck.pre_activation import ACTIVATIONS, NORMS, pre_activation
from limbeck.tap import Call, ChannelsFirst, Tap, TapError

Landmarks = dict[str, Tap]
Family = Callable[[nn.Module], Landmarks]

_CHAINS = (nn.Sequential, IntermediateLayerGetter)
_SHUFFLENET = {"conv1", "maxpool", "stage2", "stage3", "stage4"}  # and conv5, fc


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DDP, DataParallel and ``torch.compile`` wrappers."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif type(model).__name__ == "OptimizedModule":
            model = model.get_submodule("_orig_mod")
        else:
            return model


def landmarks(model: nn.Module) -> Landmarks:
    """The places of a model that go by the field's names.

    A method takes them for its places, and so does :class:`limbeck.Taps`. Any other place goes by
    its path, as :class:`limbeck.Tap` writes it.

    Args:
        model: A classifier or a detector; DDP, DataParallel and ``torch.compile`` are looked
            through.

    Returns:
        ``{name: Tap}``; empty for a model of a family that is not known.

    Example:
        >>> from torchvision.models.resnet import BasicBlock, ResNet
        >>> from limbeck import landmarks
        >>> places = landmarks(ResNet(BasicBlock, [1, 1, 1, 1]))
        >>> list(places)
        ['C2', 'C2.pre', 'C3', 'C3.pre', 'C4', 'C4.pre', 'C5', 'C5.pre', 'pooled', 'logits']
        >>> print(places["C4.pre"])
        layer3.0.relu:input
    """
    model = unwrap(model)
    found: Landmarks = {}
    for family in _families:
        found.update(family(model))
    return found


def register_family(family: Family) -> None:
    """Teach limbeck where the landmarks of a family of models are.

    Args:
        family: ``family(model)`` gives ``{name: Tap}`` for a model that it knows, and ``{}`` for
            all others. Where several families give the same name, the last one registered is
            heard.

    Example:
        >>> from torch import nn
        >>> from limbeck import Tap, landmarks, register_family
        >>> class Chain(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layers = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.ReLU())
        >>> def chain(model):
        ...     if not isinstance(model, Chain):
        ...         return {}
        ...     return {"C2": Tap("layers"), "C2.pre": Tap("layers.1", "input")}
        >>> register_family(chain)
        >>> list(landmarks(Chain()))
        ['C2', 'C2.pre']
    """
    _families.append(family)


def resolve(model: nn.Module, tap: Tap | str) -> Tap:
    """The tap that something written means in a model.

    Args:
        model: The model.
        tap: A :class:`Tap`, a landmark's name, or a path as :class:`Tap` writes it.

    Returns:
        The tap.

    Raises:
        TapError: There is neither a landmark nor a module of that name; the nearest are named.
    """
    if isinstance(tap, Tap):
        return tap
    known = landmarks(model)
    if tap in known:
        return known[tap]
    parsed = Tap.parse(tap)
    paths = {path for path, _ in unwrap(model).named_modules()}
    if parsed.path not in paths:
        near = difflib.get_close_matches(parsed.path, paths | set(known), n=4, cutoff=0.4)
        raise TapError(
            f"{type(unwrap(model)).__name__} has neither a landmark nor a module {tap!r}. "
            f"Expected a path, or one of its landmarks: {', '.join(known) or 'none'}. Nearest "
            f"names: {', '.join(near) or 'none'}. `limbeck inspect` lists every path."
        )
    return parsed


def norm_of(model: nn.Module, name: str) -> nn.Module:
    """The last norm before the activation that ends a place.

    It has as many channels as the place itself, except in a ShuffleNetV2, whose last norm makes
    half of them.

    Args:
        model: The model.
        name: A landmark or a path, such as ``C4`` or ``C4.pre``.

    Returns:
        The norm.

    Raises:
        TapError: There is no such place, or no norm in it.
    """
    model = unwrap(model)
    path = resolve(model, name).path
    place = model.get_submodule(path)
    inside = list(_main_path(place))
    if isinstance(place, ACTIVATIONS):
        parent = model.get_submodule(path.rpartition(".")[0])
        inside = list(_main_path(parent))
        if isinstance(parent, nn.Sequential):  # a plain chain: the layer before the activation
            chain = list(parent.named_children())
            inside = chain[: [child for _, child in chain].index(place)][-1:]
    norms = [m for _, m in inside if isinstance(m, NORMS)]
    if not norms:
        raise TapError(f"{name} of {type(model).__name__} ({type(place).__name__}) has no norm.")
    return norms[-1]


def _main_path(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules inside, less those of a residual block's shortcut."""
    shortcuts = ("downsample", "shortcut")
    return (
        (path, m) for path, m in module.named_modules() if not any(s in path for s in shortcuts)
    )


def _stride(module: nn.Module) -> int:
    """How much coarser a layer, a chain of layers or a block of branches makes its input."""
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        stride = module.stride
        return stride if isinstance(stride, int) else stride[0]
    inside = [_stride(child) for child in module.children()]
    return math.prod(inside) if isinstance(module, nn.Sequential) else max(inside, default=1)


def _strides(trunk: nn.Module) -> dict[str, int]:
    """``{child: k}`` of a trunk's children in their order, whose outputs have a stride of 2**k."""
    if any(type(module).__name__.startswith("PatchMerging") for module in trunk.modules()):
        return {}  # they make the map coarser without a strided layer
    chain = list(trunk.named_children())
    names = {name for name, _ in chain}
    if "layer1" in names:  # a ResNet: leave its pooling and classifier
        stem = ("conv1", "bn1", "relu", "maxpool")
        chain = [(n, m) for n, m in chain if n in stem or n.startswith("layer")]
    elif names >= _SHUFFLENET:
        chain = [(n, m) for n, m in chain if n in _SHUFFLENET]
    elif not isinstance(trunk, _CHAINS):
        return {}
    strides: dict[str, int] = {}
    stride = 1
    for name, module in chain:
        stride *= _stride(module)
        strides[name] = round(math.log2(stride))
    return strides


def _trunk(model: nn.Module, path: str) -> Landmarks:
    """The C-levels of the trunk at a path, which are its last child at each stride."""
    trunk = model.get_submodule(path)
    prefix = f"{path}." if path else ""
    strides = {prefix + name: level for name, level in _strides(trunk).items()}
    return _stages(model, {k: path for path, k in strides.items()}) | _depthwise(model, strides)


def _depthwise(model: nn.Module, strides: dict[str, int]) -> Landmarks:
    """``C<k>.depthwise`` from ``{path: k}`` of the blocks of a MobileNetV2, in their order."""
    places: Landmarks = {}
    width = 0
    for path, level in strides.items():
        block = model.get_submodule(path)
        if not isinstance(block, mobilenetv2.InvertedResidual):
            continue
        if level >= 2 and block.out_channels != width:
            # [expansion,] depthwise, projection, norm; each of the first two with norm and ReLU6.
            places[f"C{level}.depthwise"] = Tap(f"{path}.conv.{len(block.conv) - 3}.1")
        width = block.out_channels
    return places


def _stages(model: nn.Module, stages: dict[int, str]) -> Landmarks:
    """``C<k>`` and ``C<k>.pre`` from ``{k: path}``."""
    places: Landmarks = {}
    for level, path in stages.items():
        if level >= 2 or path.rpartition(".")[2].startswith("layer"):  # a stem is no C-level
            places[f"C{level}"] = Tap(path)
            if (before := pre_activation(path, model.get_submodule(path))) is not None:
                places[f"C{level}.pre"] = before
    return places


def _classifier(model: nn.Module) -> Landmarks:
    if takes_list(model):
        return {}
    inside = isinstance(getattr(model, "network", None), nn.Module)
    wrapped = inside and not hasattr(model, "feature_info")  # timm's VOLO has a part of that name
    path = "network" if wrapped else ""
    network = model.get_submodule(path)
    trunk = "features" if isinstance(getattr(network, "features", None), nn.Sequential) else ""
    places = _timm(model, path) or _trunk(model, ".".join(filter(None, (path, trunk))))
    return places | pooled(model, path) | {"logits": Tap("", kind="logits")} if places else {}


def _timm(model: nn.Module, path: str) -> Landmarks:
    """The C-levels of a timm model, whose ``feature_info`` says which module ends each stride.

    Of some families, such as HRNet, it names modules of the network's feature extractor alone;
    these levels are left out.
    """
    network = model.get_submodule(path)
    info = getattr(network, "feature_info", None)
    if not isinstance(info, list):
        return {}
    prefix = f"{path}." if path else ""
    there = dict(network.named_modules(remove_duplicate=False)).keys() - {""}
    of_level = {round(math.log2(i["reduction"])): i for i in info if i["module"] in there}
    places = _stages(model, {level: prefix + i["module"] for level, i in of_level.items()})
    last = getattr(model.get_submodule(path), "output_fmt", "") == "NHWC"
    for level, each in of_level.items():
        if f"C{level}" in places:
            order = ChannelsFirst(each["num_chs"], last)
            places[f"C{level}"] = replace(places[f"C{level}"], select=order)
    return places


def _backbone(model: nn.Module) -> Landmarks:
    """The C-levels of a detector's backbone, and the P-levels of torchvision's FPN."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        return {}
    trunk = _timm_trunk(model, "backbone.body")
    if not isinstance(backbone, BackboneWithFPN):
        inside = [
            n for n in ("features", "body") if isinstance(getattr(backbone, n, None), _CHAINS)
        ]
        return trunk or _trunk(model, ".".join(("backbone", *inside))) | _atrous(backbone)
    if trunk:
        levels: Any = backbone.levels
        keys = {level: str(place) for place, level in enumerate(levels)}
    else:
        trunk = _trunk(model, "backbone.body")
        strides = _strides(backbone.body)
        layers = backbone.body.return_layers.items()
        keys = {strides[name]: key for name, key in layers if name in strides}
    extra = {LastLevelMaxPool: ("pool",), LastLevelP6P7: ("p6", "p7")}
    for kind, names in extra.items():
        if keys and isinstance(backbone.fpn.extra_blocks, kind):
            keys |= dict(enumerate(names, max(keys) + 1))
    places = {f"P{level}": Tap("backbone", keys=(key,)) for level, key in keys.items()}
    fpn = Tap("backbone", select=_maps, kind="levels")
    return trunk | places | {"fpn": fpn}


def _timm_trunk(model: nn.Module, path: str) -> Landmarks:
    """The C-levels of a network of timm's under a detector, which knows where they are."""
    found = dict(model.named_modules()).get(path)
    if not isinstance(found, FeatureGetterNet) or not hasattr(found, "ends"):
        return {}
    trunk: Any = found
    # A map that is no module's output, such as that of a ViT's tokens, is the trunk's own.
    given = {k: Tap(path, keys=(str(place),)) for place, k in enumerate(trunk.levels)}
    ends = {k: f"{path}.model.{end}" for k, end in trunk.ends.items()}
    outputs = {f"C{k}": tap for k, tap in given.items() if k not in ends}
    return outputs | _stages(model, ends)


def _atrous(backbone: nn.Module) -> Landmarks:
    """The end of the VGG16 under torchvision's SSD300, whose first part ends at stride 8."""
    return {"C4": Tap("backbone.extra.0")} if isinstance(backbone, SSDFeatureExtractorVGG) else {}


def _maps(value: Tensor | dict[str, Tensor]) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else list(value.values())


def _detector(model: nn.Module) -> Landmarks:
    """The places that torchvision's detectors, and limbeck's, have in common."""
    if not takes_list(model) or not hasattr(model, "transform"):  # an exported one has no places
        return {}
    places = {"frame": Tap("transform", select=Frame.of, kind="frame")}
    places |= dense_head(model)
    for path in ("anchor_generator", "rpn.anchor_generator"):
        if hasattr(model, path.partition(".")[0]):
            places["anchors"] = Tap(path, "call", select=_anchors_by_level, kind="anchors")
    if "anchors" in places:  # a generator takes every output of the backbone
        places["maps"] = Tap("backbone", select=_maps, kind="levels")
    if isinstance(getattr(getattr(model, "roi_heads", None), "box_roi_pool", None), nn.Module):
        places["roi_features"] = Tap("roi_heads.box_roi_pool")
        # What makes them takes the maps, the boxes and the images' sizes.
        places["regions"] = replace(places["roi_features"], side="input", keys=("1",))
    return places


def _anchors_by_level(call: Call) -> list[list[Tensor]]:
    """``anchors[image][level]`` from one call of torchvision's anchor generators."""
    generator: Any = call.module
    maps: list[Tensor] = call.args[1]
    counts = generator.num_anchors_per_location()
    sizes = [m.shape[-2] * m.shape[-1] * count for m, count in zip(maps, counts, strict=True)]
    return [list(of_image.split(sizes)) for of_image in call.output]


def _own(model: nn.Module) -> Landmarks:
    """What a model says of its own places, as limbeck's detectors of other libraries do."""
    stated = getattr(model, "landmarks", None)
    return dict(stated) if isinstance(stated, Mapping) else {}


_families: list[Family] = [_classifier, _backbone, _detector, _own]

__all__ = ["landmarks", "norm_of", "register_family", "resolve", "unwrap"]
