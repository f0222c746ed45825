"""Files of a trunk or a whole classifier, as detectron2 and OpenMMLab keep them.

Ours are torchvision's names of the classifier (``layer1.0.conv1``, ``features.0.0``).

===============  =====================================================================
ResNet           detectron2; Caffe2, the names of detectron2's files from MSRA;
                 mmdetection and mmpretrain
MobileNetV2      mmdetection and mmpretrain, which name its blocks differently
VGG              mmcv (torchvision's names) and mmpretrain, with or without normalisation
ShuffleNetV2     mmpretrain
===============  =====================================================================

ResNet under detectron2's and mmdetection's names and MobileNetV2 under mmdetection's were checked
against models of those libraries. The rest was read in their sources and conversion scripts, and
goes there and back on torchvision's models; no published file of them was at hand. Caffe2's files
hold normalisations as a scale and a shift alone: mean 0 and variance 1 - 1e-5 are added, with which
detectron2 runs them (its ``FrozenBatchNorm2d``).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from limbeck.checkpoints.libraries.rules import Rule, Table, prefixed
from limbeck.checkpoints.tensors import (
    BGR,
    SAME,
    Tensors,
    Transform,
    with_counters,
    without_counters,
)

Writable = Literal["detectron2", "mmdetection", "mmpretrain"]

# What a configuration says of each trunk that its library has under a pyramid. Detectron2 has
# residual networks alone.
_DEPTHS = (18, 34, 50, 101, 152)
DETECTRON2_BACKBONES: Mapping[str, Mapping[str, Any]] = {
    f"resnet{depth}": {"DEPTH": depth} for depth in _DEPTHS
}
MMDETECTION_BACKBONES: Mapping[str, Mapping[str, Any]] = {
    **{
        f"resnet{depth}": {
            "type": "ResNet",
            "depth": depth,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
        }
        for depth in _DEPTHS
    },
    "mobilenet_v2": {"type": "MobileNetV2", "out_indices": (1, 2, 4, 7)},
}

_MOBILENET_V2_BLOCKS = (1, 2, 3, 4, 3, 3, 1)  # of layer1 to layer7
_VGG_STAGES = {8: (1, 1, 2, 2, 2), 10: (2,) * 5, 13: (2, 2, 3, 3, 3), 16: (2, 2, 4, 4, 4)}
_BLOB_ENDS = {"_w": ".weight", "_b": ".bias", "_s": ".weight"}  # s: scale of a normalisation
_ADVICE = (
    "Expected a ResNet of detectron2, or a ResNet, MobileNetV2, VGG or ShuffleNetV2 of mmdetection "
    "or mmpretrain, whole or without its classifier (mmdetection's MobileNetV2 never has one), and "
    "nothing else. Detectron's (Caffe2's) detectors are not read: load one in detectron2 and save "
    "it there."
)


def detectron2_resnet(first: Transform = SAME) -> list[Rule]:
    """The names of a ResNet's trunk in Detectron2.

    Args:
        first: The change of the first convolution.

    Returns:
        The rules of its layers.
    """
    return [
        Rule("stem.conv1", "conv1", first),
        Rule("stem.conv1.norm", "bn1"),
        Rule("res{stage}.{block}.conv{i}", "layer{stage-1}.{block}.conv{i}"),
        Rule("res{stage}.{block}.conv{i}.norm", "layer{stage-1}.{block}.bn{i}"),
        Rule("res{stage}.{block}.shortcut", "layer{stage-1}.{block}.downsample.0"),
        Rule("res{stage}.{block}.shortcut.norm", "layer{stage-1}.{block}.downsample.1"),
    ]


def mmdetection_resnet(first: Transform = SAME) -> list[Rule]:
    """The names of a ResNet's trunk in mmdetection, which are torchvision's.

    Args:
        first: The change of the first convolution.

    Returns:
        The rules of its layers.
    """
    same = [
        "bn1",
        "layer{stage}.{block}.conv{i}",
        "layer{stage}.{block}.bn{i}",
        "layer{stage}.{block}.downsample.{i}",
    ]
    return [Rule("conv1", "conv1", first), *(Rule(name, name) for name in same)]


def mmdetection_mobilenet_v2(first: Transform = SAME) -> list[Rule]:
    """The names of MobileNetV2's trunk in mmdetection; ours are the names inside ``features``.

    Args:
        first: The change of the first convolution.

    Returns:
        The rules of its layers.
    """
    parts = ("expand_conv", "depthwise_conv", "linear_conv")
    return _mobilenet_v2(first, parts[1:], parts)


def library_of(names: Iterable[str]) -> str | None:
    """The library whose names a trunk's file has.

    This is to be asked after the detectors' formats: a detector's file holds a trunk, too.

    Args:
        names: The names of the tensors.

    Returns:
        caffe2, detectron2, mmdetection or mmpretrain. None: they are torchvision's, or nobody's.
    """
    given = set(names)
    found = next((trunk for trunk in _TRUNKS if trunk.theirs in map(_bare, given)), None)
    return found.library if found and found.ours not in given else None


def recognises(names: Iterable[str]) -> bool:
    """Whether these are names of a trunk's file, and not torchvision's."""
    return library_of(names) is not None


def read(tensors: Tensors, *, bgr: bool) -> Tensors:
    """The state dict of torchvision's classifier, without its head where the file has none.

    Args:
        tensors: The tensors of the file, with or without ``backbone.`` or ``backbone.bottom_up.``
            before the trunk's names. Those of torchvision's ResNet and VGG are read, too.
        bgr: Whether the network was trained on BGR images.

    Returns:
        The state dict.

    Raises:
        ValueError: The file holds none of the trunks above, or holds something else, too.
    """
    bare = {_bare(name): value for name, value in tensors.items()}
    trunk = next((trunk for trunk in _TRUNKS if trunk.theirs in bare), None)
    if trunk is None:
        raise ValueError(f"no known trunk among {_some(tensors)}. {_ADVICE}")
    if len(bare) < len(tensors):
        raise ValueError(f"the trunk is there twice, as {_some(tensors)}. Keep one of them.")
    caffe2 = trunk.library == "caffe2"
    if caffe2:
        bare = {_dotted(k): v for k, v in bare.items() if not k.endswith("_momentum")}
    ours = trunk.table(bare, bgr).to_ours(bare)
    return _with_statistics(ours) if caffe2 else ours


def write(tensors: Tensors, library: Writable, *, bgr: bool) -> Tensors:
    """The names of another library for the state dict of torchvision's classifier.

    detectron2's and mmdetection's bear no prefix, as in the files that a detector's trunk begins
    with; mmpretrain's have ``backbone.`` and ``head.``.

    Args:
        tensors: The tensors of the classifier, or of its trunk alone.
        library: The library that will read them.
        bgr: Whether the network will be given BGR images.

    Returns:
        The tensors by the library's names.

    Raises:
        ValueError: That library has no such network.
    """
    fitting = [trunk for trunk in _TRUNKS if trunk.library == library]
    trunk = next((trunk for trunk in fitting if trunk.ours in tensors), None)
    if trunk is None:
        raise ValueError(
            f"{library} has no names for a network of {_some(tensors)}. Expected torchvision's "
            f"ResNet, MobileNetV2, VGG or ShuffleNetV2 and one of {', '.join(get_args(Writable))} "
            "that has it: mmpretrain has all four, mmdetection the first three, detectron2 ResNet."
        )
    theirs = trunk.table(tensors, bgr).to_theirs(tensors)
    if library == "mmpretrain":
        theirs = {k if k.startswith("head.") else f"backbone.{k}": v for k, v in theirs.items()}
    return without_counters(theirs) if library == "detectron2" else with_counters(theirs)


@dataclass(frozen=True)
class _Trunk:
    """A network under a library's names.

    Attributes:
        library: The library that names it so.
        theirs: The library's name of a tensor that tells the network from all others.
        ours: torchvision's name of such a tensor.
        rules: The rules of these tensors, from them and the change of the first convolution.
        empty: The names of what holds nothing that a network needs.
    """

    library: str
    theirs: str
    ours: str
    rules: Callable[[Tensors, Transform], list[Rule]]
    empty: tuple[str, ...] = ()

    def table(self, tensors: Tensors, bgr: bool) -> Table:
        rules = self.rules(tensors, BGR if bgr else SAME)
        return Table(self.library, rules, self.empty, _ADVICE)


def _caffe2_resnet(_: Tensors, first: Transform) -> list[Rule]:
    rules = [
        Rule("conv1", "conv1", first),
        Rule("res_conv1_bn", "bn1"),
        Rule("res{stage}_{block}_branch1", "layer{stage-1}.{block}.downsample.0"),
        Rule("res{stage}_{block}_branch1_bn", "layer{stage-1}.{block}.downsample.1"),
        Rule("fc1000", "fc"),
    ]
    for i, letter in enumerate("abc", 1):
        theirs = f"res{{stage}}_{{block}}_branch2{letter}"
        rules.append(Rule(theirs, f"layer{{stage-1}}.{{block}}.conv{i}"))
        rules.append(Rule(f"{theirs}_bn", f"layer{{stage-1}}.{{block}}.bn{i}"))
    return rules


def _detectron2_resnet(_: Tensors, first: Transform) -> list[Rule]:
    # The second name of the classifier is that of files converted from torchvision.
    return [*detectron2_resnet(first), Rule("linear", "fc"), Rule("stem.fc", "fc")]


def _mmdetection_resnet(_: Tensors, first: Transform) -> list[Rule]:
    return [*mmdetection_resnet(first), Rule("fc", "fc")]


def _mmpretrain_resnet(_: Tensors, first: Transform) -> list[Rule]:
    return [*mmdetection_resnet(first), Rule("head.fc", "fc"), Rule("fc", "fc")]


def _mmdetection_mobilenet_v2(_: Tensors, first: Transform) -> list[Rule]:
    return prefixed(mmdetection_mobilenet_v2(first), "", "features.")


def _mmpretrain_mobilenet_v2(_: Tensors, first: Transform) -> list[Rule]:
    parts = ("conv.0", "conv.1", "conv.2")
    trunk = _mobilenet_v2(first, parts[:2], parts)
    return [*prefixed(trunk, "", "features."), Rule("head.fc", "classifier.1")]


def _mobilenet_v2(
    first: Transform, without_expansion: Sequence[str], with_expansion: Sequence[str]
) -> list[Rule]:
    """MobileNetV2's trunk, from the names of the convolutions of layer1's and of other blocks."""
    rules = [*_module("conv1", "0.0", "0.1", first), *_module("conv2", "18.0", "18.1")]
    depths = enumerate(_MOBILENET_V2_BLOCKS, 1)
    blocks = [(layer, block) for layer, depth in depths for block in range(depth)]
    for feature, (layer, block) in enumerate(blocks, 1):
        parts = without_expansion if layer == 1 else with_expansion
        theirs = [f"layer{layer}.{block}.{part}" for part in parts]
        ours, last = f"{feature}.conv", len(parts) - 1
        for i, part in enumerate(theirs[:last]):
            rules += _module(part, f"{ours}.{i}.0", f"{ours}.{i}.1")
        rules += _module(theirs[last], f"{ours}.{last}", f"{ours}.{last + 1}")
    return rules


def _mmcv_vgg(_: Tensors, first: Transform) -> list[Rule]:
    same = ("features.{i}", "classifier.{i}")
    return [Rule("features.0", "features.0", first), *(Rule(name, name) for name in same)]


def _mmpretrain_vgg(tensors: Tensors, first: Transform) -> list[Rule]:
    """There a convolution, its normalisation and its ReLU are one module, the poolings another."""
    features = {name: value for name, value in tensors.items() if name.startswith("features.")}
    depth = sum(value.dim() == 4 for value in features.values())
    if depth not in _VGG_STAGES:
        raise ValueError(
            f"features of {depth} convolutions are no VGG's, which has 8, 10, 13 or 16. Give the "
            "whole trunk of a VGG."
        )
    layers = 3 if any(name.endswith(".running_mean") for name in features) else 2
    rules = [Rule("classifier.{i}", "classifier.{i}")]
    theirs = ours = 0
    for stage in _VGG_STAGES[depth]:
        for _ in range(stage):
            input_order = SAME if theirs else first
            rules += _module(
                f"features.{theirs}", f"features.{ours}", f"features.{ours + 1}", input_order
            )
            theirs, ours = theirs + 1, ours + layers
        theirs, ours = theirs + 1, ours + 1
    return rules


def _mmpretrain_shufflenet_v2(_: Tensors, first: Transform) -> list[Rule]:
    theirs, ours = "layers.{stage-2}.{block}", "stage{stage}.{block}"
    places = {"branch1.0": 0, "branch1.1": 2, "branch2.0": 0, "branch2.1": 3, "branch2.2": 5}
    rules = [*_module("conv1", "conv1.0", "conv1.1", first), Rule("head.fc", "fc")]
    for part, place in places.items():
        branch = f"{ours}.{part[:7]}"
        rules += _module(f"{theirs}.{part}", f"{branch}.{place}", f"{branch}.{place + 1}")
    return [*rules, *_module("layers.3", "conv5.0", "conv5.1")]


def _module(theirs: str, conv: str, norm: str, transform: Transform = SAME) -> list[Rule]:
    """OpenMMLab's ``ConvModule``: a convolution and its normalisation."""
    return [Rule(f"{theirs}.conv", conv, transform), Rule(f"{theirs}.bn", norm)]


_STEM_BIAS = "conv1.bias"  # of MSRA's ResNet-50, which detectron2 leaves out as well

_TRUNKS = (
    _Trunk(
        "caffe2",
        "res2_0_branch2a_w",
        "layer1.0.conv1.weight",
        _caffe2_resnet,
        empty=(_STEM_BIAS,),
    ),
    _Trunk("detectron2", "res2.0.conv1.weight", "layer1.0.conv1.weight", _detectron2_resnet),
    _Trunk("mmpretrain", "layer1.0.conv1.weight", "layer1.0.conv1.weight", _mmpretrain_resnet),
    _Trunk("mmdetection", "layer1.0.conv1.weight", "layer1.0.conv1.weight", _mmdetection_resnet),
    _Trunk(
        "mmdetection",
        "layer1.0.depthwise_conv.conv.weight",
        "features.18.0.weight",
        _mmdetection_mobilenet_v2,
    ),
    _Trunk(
        "mmpretrain",
        "layer1.0.conv.0.conv.weight",
        "features.18.0.weight",
        _mmpretrain_mobilenet_v2,
    ),
    _Trunk("mmdetection", "features.0.weight", "features.0.weight", _mmcv_vgg),
    _Trunk("mmpretrain", "features.0.conv.weight", "features.0.weight", _mmpretrain_vgg),
    _Trunk(
        "mmpretrain",
        "layers.0.0.branch1.0.conv.weight",
        "stage2.0.branch1.0.weight",
        _mmpretrain_shufflenet_v2,
    ),
)


def _bare(name: str) -> str:
    return name.removeprefix("backbone.bottom_up.").removeprefix("backbone.")


def _dotted(blob: str) -> str:
    """``res2_0_branch2a_bn.weight`` from ``res2_0_branch2a_bn_s``."""
    return blob[:-2] + _BLOB_ENDS.get(blob[-2:], blob[-2:])


def _with_statistics(tensors: Tensors) -> Tensors:
    """With the mean and variance that leave a normalisation's scale and shift alone."""
    full = dict(tensors)
    for name, value in tensors.items():
        if name.endswith(".weight") and value.dim() == 1:
            norm = name.removesuffix("weight")
            full[f"{norm}running_mean"] = torch.zeros_like(value)
            full[f"{norm}running_var"] = torch.ones_like(value) - 1e-5
    return full


def _some(tensors: Tensors) -> str:
    """The first few names."""
    return ", ".join([*tensors][:3]) or "no tensors"
