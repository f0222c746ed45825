"""Landmarks: the field's names for places in each family of model.

===========================  =====================================================================
``C2`` .. ``C5``             trunk output at stride 4 .. 32, after the activation, (B, C, H, W)
``C2.pre`` .. ``C5.pre``     the same before the activation (a linear bottleneck has none: equal)
``P2`` .. ``P7``             FPN output at stride 4 .. 128, (B, C, H, W)
``fpn``                      every FPN output, a list over levels
``cls_tower``, ``box_tower`` last tower convolution after its activation, a list over levels
``anchors``                  ``anchors[image][level]``, boxes xyxy in the frame, (A*H*W, 4)
``frame``                    the network's input frame, a :class:`limbeck.frame.Frame`
``roi_features``             pooled features of the sampled boxes, (R, C, h, w)
``logits``                   a classifier's output, (B, K)
===========================  =====================================================================

What a C-level is, by family: the *last* output at that stride. In torchvision's ResNets that is
``layer1`` .. ``layer4``, in MobileNetV2 ``features.3, .6, .13, .18``.
"""

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import FrozenBatchNorm2d

from limbeck.frame import Frame
from limbeck.tap import Call, Tap, TapError

Places = dict[str, Tap]
Family = Callable[[nn.Module], Places]

_NORMS = (nn.modules.batchnorm._NormBase, FrozenBatchNorm2d, nn.GroupNorm, nn.LayerNorm)
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.GELU)


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside DDP, DataParallel and ``torch.compile`` wrappers."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif type(model).__name__ == "OptimizedModule":
            model = model._orig_mod
        else:
            return model


def landmarks(model: nn.Module) -> Places:
    """The places of ``model`` that go by the field's names.

    Returns:
        ``{name: Tap}``; empty for a model of a family that is not known. A path always works too.
    """
    model = unwrap(model)
    found: Places = {}
    for family in _families:
        found.update(family(model))
    return found


def register_family(family: Family) -> None:
    """Teach limbeck a family of models: ``family(model)`` gives ``{name: Tap}``, or ``{}``."""
    _families.append(family)


def resolve(model: nn.Module, tap: Tap | str) -> Tap:
    """The tap that ``tap`` means in ``model``: a :class:`Tap`, a landmark's name, or a path."""
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
            f"Its landmarks: {', '.join(known) or 'none'}. Nearest names: "
            f"{', '.join(near) or 'none'}. `limbeck inspect` lists every path."
        )
    return parsed


def norm_of(model: nn.Module, name: str) -> nn.Module:
    """The last norm module before the activation that ends ``name``, such as ``"C4"``."""
    model = unwrap(model)
    owner = model.get_submodule(resolve(model, name).path)
    norms = [m for path, m in _main_path(owner) if isinstance(m, _NORMS)]
    if not norms:
        raise TapError(f"{name} of {type(model).__name__} ({type(owner).__name__}) has no norm.")
    return norms[-1]


def _main_path(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules inside, less those of a residual block's shortcut."""
    return ((path, m) for path, m in module.named_modules() if "downsample" not in path)


def _stride(module: nn.Module) -> int:
    """How much coarser a plain chain of layers makes its input."""
    pools = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    strides = [m.stride for _, m in _main_path(module) if isinstance(m, pools)]
    return math.prod(s if isinstance(s, int) else s[0] for s in strides)


def _pre_activation(path: str, stage: nn.Module) -> Tap:
    """The value before the activation that ends ``stage``."""
    while isinstance(stage, nn.Sequential) and len(stage):
        name, stage = list(stage.named_children())[-1]
        path = f"{path}.{name}"
    if isinstance(stage, _ACTIVATIONS):
        return Tap(path, "input")
    # A residual block calls its only, or its last, activation after the sum.
    ends = [name for name, child in stage.named_children() if isinstance(child, _ACTIVATIONS)]
    return Tap(f"{path}.{ends[-1]}", "input") if ends else Tap(path)


def _trunk_levels(trunk: nn.Module) -> dict[int, str]:
    """``{k: child}``: the last child of a trunk whose output has stride 2**k."""
    chain = list(trunk.named_children())
    if any(name == "layer1" for name, _ in chain):  # a ResNet: leave its pooling and classifier
        stem = ("conv1", "bn1", "relu", "maxpool")
        chain = [(n, m) for n, m in chain if n in stem or n.startswith("layer")]
    elif not isinstance(trunk, nn.Sequential | IntermediateLayerGetter):
        return {}
    levels: dict[int, str] = {}
    stride = 1
    for name, module in chain:
        stride *= _stride(module)
        levels[round(math.log2(stride))] = name
    return levels


def _trunk(model: nn.Module, prefix: str = "") -> Places:
    """C-levels of the trunk that stands at ``prefix``."""
    places: Places = {}
    for level, name in _trunk_levels(model).items():
        if level >= 2:
            places[f"C{level}"] = Tap(prefix + name)
            places[f"C{level}.pre"] = _pre_activation(prefix + name, model.get_submodule(name))
    return places


def _classifier(model: nn.Module) -> Places:
    if isinstance(getattr(model, "transform", None), GeneralizedRCNNTransform):
        return {}
    for prefix in ("network.", ""):
        network = getattr(model, "network", None) if prefix else model
        if not isinstance(network, nn.Module):
            continue
        features = getattr(network, "features", None)
        if isinstance(features, nn.Sequential):
            places = _trunk(features, f"{prefix}features.")
        else:
            places = _timm(network, prefix) | _trunk(network, prefix)
        if places:
            return places | {"logits": Tap("", kind="logits")}
    return {}


def _timm(network: nn.Module, prefix: str) -> Places:
    """Which modules end each stride, as timm's ``feature_info`` says."""
    info = getattr(network, "feature_info", None)
    if not isinstance(info, list):
        return {}
    return {
        f"C{round(math.log2(stage['reduction']))}": Tap(prefix + stage["module"])
        for stage in info
        if stage.get("module") and stage["reduction"] >= 4
    }


def _pyramid(model: nn.Module) -> Places:
    """C- and P-levels of a detector on torchvision's ``BackboneWithFPN``."""
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, BackboneWithFPN):
        return {}
    body = backbone.body
    levels = {name: level for level, name in _trunk_levels(body).items()}
    strides = {key: levels[name] for name, key in body.return_layers.items() if name in levels}
    places = _trunk(body, "backbone.body.")
    for key, level in strides.items():
        places[f"P{level}"] = Tap("backbone", keys=(key,))
    top = max(strides.values(), default=0)
    extra = type(backbone.fpn.extra_blocks).__name__
    if extra == "LastLevelMaxPool":
        places[f"P{top + 1}"] = Tap("backbone", keys=("pool",))
    elif extra == "LastLevelP6P7":
        places["P6"] = Tap("backbone", keys=("p6",))
        places["P7"] = Tap("backbone", keys=("p7",))
    return places | {"fpn": Tap("backbone", select=_levels, kind="levels")}


def _levels(value: dict[str, Tensor]) -> list[Tensor]:
    return list(value.values())


def _detector(model: nn.Module) -> Places:
    """What torchvision's detectors have in common."""
    if not isinstance(getattr(model, "transform", None), GeneralizedRCNNTransform):
        return {}
    places = {"frame": Tap("transform", select=Frame.of, kind="frame")}
    for name, path in _DETECTOR_PLACES.items():
        try:
            model.get_submodule(path.partition("[")[0])
        except AttributeError:
            continue
        places[name] = replace(Tap.parse(path), kind="levels" if "[*]" in path else "tensor")
    for path in ("anchor_generator", "rpn.anchor_generator"):
        if hasattr(model, path.partition(".")[0]):
            places["anchors"] = Tap(path, "call", select=_anchors_by_level, kind="anchors")
    return places


_DETECTOR_PLACES = {
    "cls_tower": "head.classification_head.conv[*]",
    "box_tower": "head.regression_head.conv[*]",
    "roi_features": "roi_heads.box_roi_pool",
}


def _anchors_by_level(call: Call) -> list[list[Tensor]]:
    """``anchors[image][level]`` from one call of torchvision's anchor generators."""
    generator: Any = call.module
    maps: list[Tensor] = call.args[1]
    counts = generator.num_anchors_per_location()
    sizes = [m.shape[-2] * m.shape[-1] * count for m, count in zip(maps, counts, strict=True)]
    return [list(of_image.split(sizes)) for of_image in call.output]


_families: list[Family] = [_classifier, _pyramid, _detector]

__all__ = ["landmarks", "norm_of", "register_family", "resolve", "unwrap"]
