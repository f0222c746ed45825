"""Files of trunks and classifiers."""

import functools

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from limbeck.checkpoints.libraries import trunks as backbones
from tests.checkpoints.manifests import Tensors, assert_same, counted_like

NETWORKS = {
    "detectron2": ["resnet18", "resnet50"],
    "mmdetection": ["resnet50", "vgg16", "vgg11_bn"],
    "mmpretrain": [
        *("resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "vgg11", "vgg13", "vgg16", "vgg19"),
        *("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"),
    ],
}
every_network = pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library in NETWORKS for name in NETWORKS[library]]
)
HEADS = ("fc.", "classifier.")


def build(name: str) -> nn.Module:
    """torchvision's classifier, without memory; VGG's layers, which are large, have 8 units."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, num_classes=10)
        if name.startswith("vgg"):
            model.classifier[0], model.classifier[3] = nn.Linear(8, 8), nn.Linear(8, 8)
            model.classifier[6] = nn.Linear(8, 10)
    return model


@functools.cache
def tensors_of(name: str) -> Tensors:
    return counted_like(build(name))


def trunk_of(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if not name.startswith(HEADS)}


@every_network
def test_classifiers_of_torchvision_come_back(library, name: str) -> None:
    ours = tensors_of(name)
    theirs = backbones.write(ours, library, bgr=True)
    if library != "mmdetection":  # whose names of these are torchvision's
        assert backbones.library_of(theirs) == library
    read = backbones.read(theirs, bgr=True)
    if library == "detectron2":
        ours = {k: v for k, v in ours.items() if not k.endswith("num_batches_tracked")}
    assert_same(read, ours)
    build(name).load_state_dict(read, assign=True)


@every_network
def test_trunks_alone_come_back(library, name: str) -> None:
    ours = trunk_of(tensors_of(name))
    theirs = backbones.write(ours, library, bgr=False)
    assert not any("head" in name or "linear" in name for name in theirs)
    read = backbones.read(theirs, bgr=False)
    assert read.keys() <= ours.keys()
    assert all(torch.equal(read[name], ours[name]) for name in read)


@pytest.mark.parametrize(
    ("library", "name", "theirs", "ours"),
    [
        ("detectron2", "resnet50", "stem.conv1.norm.bias", "bn1.bias"),
        ("detectron2", "resnet50", "res2.0.shortcut.weight", "layer1.0.downsample.0.weight"),
        ("detectron2", "resnet50", "res5.2.conv3.norm.bias", "layer4.2.bn3.bias"),
        ("detectron2", "resnet50", "linear.weight", "fc.weight"),
        ("mmpretrain", "resnet18", "backbone.layer4.1.bn2.bias", "layer4.1.bn2.bias"),
        ("mmpretrain", "resnet18", "head.fc.bias", "fc.bias"),
        ("mmdetection", "resnet18", "layer4.1.bn2.bias", "layer4.1.bn2.bias"),
        ("mmdetection", "resnet18", "fc.bias", "fc.bias"),
        *(
            ("mmpretrain", "mobilenet_v2", f"backbone.{theirs}", f"features.{ours}")
            for theirs, ours in {
                "conv1.conv.weight": "0.0.weight",
                "layer1.0.conv.0.bn.bias": "1.conv.0.1.bias",
                "layer1.0.conv.1.conv.weight": "1.conv.1.weight",
                "layer1.0.conv.1.bn.weight": "1.conv.2.weight",
                "layer3.1.conv.0.conv.weight": "5.conv.0.0.weight",
                "layer3.1.conv.1.bn.running_var": "5.conv.1.1.running_var",
                "layer5.2.conv.2.conv.weight": "13.conv.2.weight",
                "layer7.0.conv.2.bn.bias": "17.conv.3.bias",
                "conv2.bn.weight": "18.1.weight",
            }.items()
        ),
        ("mmpretrain", "mobilenet_v2", "head.fc.weight", "classifier.1.weight"),
        *(
            ("mmpretrain", "shufflenet_v2_x0_5", f"backbone.{theirs}", ours)
            for theirs, ours in {
                "conv1.bn.bias": "conv1.1.bias",
                "layers.0.0.branch1.0.conv.weight": "stage2.0.branch1.0.weight",
                "layers.0.0.branch1.1.bn.weight": "stage2.0.branch1.3.weight",
                "layers.1.7.branch2.0.bn.weight": "stage3.7.branch2.1.weight",
                "layers.2.3.branch2.1.conv.weight": "stage4.3.branch2.3.weight",
                "layers.2.3.branch2.2.bn.running_mean": "stage4.3.branch2.6.running_mean",
                "layers.3.conv.weight": "conv5.0.weight",
            }.items()
        ),
        ("mmpretrain", "shufflenet_v2_x0_5", "head.fc.bias", "fc.bias"),
        ("mmpretrain", "vgg11", "backbone.features.11.conv.bias", "features.18.bias"),
        ("mmpretrain", "vgg16", "backbone.features.16.conv.bias", "features.28.bias"),
        ("mmpretrain", "vgg19_bn", "backbone.features.19.conv.bias", "features.49.bias"),
        ("mmpretrain", "vgg19_bn", "backbone.features.19.bn.bias", "features.50.bias"),
        ("mmpretrain", "vgg11_bn", "backbone.features.2.bn.bias", "features.5.bias"),
        ("mmpretrain", "vgg16", "backbone.classifier.6.weight", "classifier.6.weight"),
        ("mmdetection", "vgg16", "features.28.bias", "features.28.bias"),
    ],
)
def test_names_in_the_libraries_sources(library, name: str, theirs: str, ours: str) -> None:
    tensors = tensors_of(name)
    assert torch.equal(backbones.write(tensors, library, bgr=False)[theirs], tensors[ours])


@every_network
def test_only_the_first_convolution_knows_of_bgr(library, name: str) -> None:
    ours = tensors_of(name)
    rgb, bgr = (backbones.write(ours, library, bgr=flag) for flag in (False, True))
    changed = [k for k in rgb if not torch.equal(rgb[k], bgr[k])]
    assert changed == [next(iter(rgb))]
    assert torch.equal(rgb[changed[0]].flip(1), bgr[changed[0]])


@pytest.mark.parametrize("prefix", ["", "backbone.", "backbone.bottom_up."])
def test_prefixes_are_taken_off(prefix: str) -> None:
    ours = trunk_of(tensors_of("resnet18"))
    theirs = {prefix + k: v for k, v in backbones.write(ours, "detectron2", bgr=True).items()}
    assert backbones.library_of(theirs) == "detectron2"
    assert_same(
        backbones.read(theirs, bgr=True),
        {k: v for k, v in ours.items() if not k.endswith("num_batches_tracked")},
    )


def test_files_converted_by_detectron2s_script_from_torchvision() -> None:
    ours = tensors_of("resnet18")
    theirs = backbones.write(ours, "detectron2", bgr=False)
    named = {k.replace("linear.", "stem.fc."): v for k, v in theirs.items()}
    named["stem.conv1.norm.num_batches_tracked"] = torch.tensor(3)
    read = backbones.read(named, bgr=False)
    assert torch.equal(read["fc.weight"], ours["fc.weight"])
    assert read["bn1.num_batches_tracked"] == 3


def caffe2(tensors: Tensors) -> Tensors:
    """The names of MSRA's ResNet-50 for torchvision's tensors, less the statistics."""
    layers = {"conv1": "conv1", "bn1": "res_conv1_bn", "fc": "fc1000"}
    for stage, depth in enumerate((3, 4, 6, 3)):
        for block in range(depth):
            ours, theirs = f"layer{stage + 1}.{block}", f"res{stage + 2}_{block}_branch"
            for i, branch in enumerate(("2a", "2b", "2c"), 1):
                layers |= {
                    f"{ours}.conv{i}": theirs + branch,
                    f"{ours}.bn{i}": f"{theirs}{branch}_bn",
                }
            layers |= {
                f"{ours}.downsample.0": f"{theirs}1",
                f"{ours}.downsample.1": f"{theirs}1_bn",
            }
    blobs: Tensors = {}
    for name, value in tensors.items():
        layer, _, leaf = name.rpartition(".")
        if leaf in ("weight", "bias"):
            scale = "s" if layers[layer].endswith("_bn") else "w"
            blobs[f"{layers[layer]}_{scale if leaf == 'weight' else 'b'}"] = value
    return blobs


def test_caffe2s_names() -> None:
    tensors = tensors_of("resnet50")
    blobs = caffe2(tensors) | {
        "conv1_b": torch.ones(64),
        "res2_0_branch2a_w_momentum": torch.ones(1),
    }
    assert backbones.library_of(blobs) == "caffe2"
    ours = backbones.read(blobs, bgr=True)
    for name, value in tensors.items():
        if name.rpartition(".")[2] in ("weight", "bias") and name != "conv1.weight":
            assert torch.equal(ours[name], value), name
    assert torch.equal(ours["conv1.weight"], tensors["conv1.weight"].flip(1))
    build("resnet50").load_state_dict(ours, assign=True)


def test_a_scale_and_shift_of_caffe2_stay_what_they_are() -> None:
    scale, shift = torch.randn(64), torch.randn(64)
    tensors = tensors_of("resnet50") | {"bn1.weight": scale, "bn1.bias": shift}
    ours = backbones.read(caffe2(tensors), bgr=True)
    maps = torch.randn(2, 64, 5, 5)
    mean, variance = ours["bn1.running_mean"], ours["bn1.running_var"]
    out = F.batch_norm(maps, mean, variance, ours["bn1.weight"], ours["bn1.bias"], eps=1e-5)
    torch.testing.assert_close(out, maps * scale.view(-1, 1, 1) + shift.view(-1, 1, 1))


def test_a_detector_of_caffe2_is_refused() -> None:
    blobs = caffe2(tensors_of("resnet50"))
    blobs |= dict.fromkeys(["conv_rpn_fpn2_w", "fpn_inner_res5_2_sum_w"], torch.ones(1))
    with pytest.raises(ValueError, match=r"(?s)2 of \d+ tensors .* load one in detectron2"):
        backbones.read(blobs, bgr=True)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x1_0", "vgg16"])
def test_torchvisions_names_are_nobody_elses(name: str) -> None:
    assert backbones.library_of(tensors_of(name)) is None


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("detectron2", "mobilenet_v2"),
        ("mmdetection", "shufflenet_v2_x0_5"),
        ("mmpretrain", "efficientnet_b0"),
    ],
)
def test_networks_that_a_library_has_not(library, name: str) -> None:
    with pytest.raises(ValueError, match=f"{library} has no names for a network of .*weight"):
        backbones.write(tensors_of(name), library, bgr=False)


def test_mmdetections_mobilenet_v2_has_no_classifier() -> None:
    ours = tensors_of("mobilenet_v2")
    with pytest.raises(ValueError, match=r"2 of 314 tensors .*\n  classifier\.1\.weight"):
        backbones.write(ours, "mmdetection", bgr=False)
    theirs = backbones.write(trunk_of(ours), "mmdetection", bgr=False)
    assert backbones.library_of(theirs) == "mmdetection"
    assert "layer1.0.depthwise_conv.conv.weight" in theirs
    assert_same(backbones.read(theirs, bgr=False), trunk_of(ours))


def test_files_that_are_none_of_these() -> None:
    with pytest.raises(ValueError, match=r"no known trunk among patch_embed\.weight\. Expected a"):
        backbones.read({"patch_embed.weight": torch.ones(1)}, bgr=False)
    theirs = backbones.write(tensors_of("resnet18"), "mmpretrain", bgr=False)
    with pytest.raises(ValueError, match=r"nearest: layer\{stage\}\.\{block\}\.conv\{i\}"):
        backbones.read(theirs | {"backbone.layer1.0.conv1a.weight": torch.ones(1)}, bgr=False)
    twice = theirs | {"conv1.weight": theirs["backbone.conv1.weight"]}
    with pytest.raises(ValueError, match="the trunk is there twice"):
        backbones.read(twice, bgr=False)


def test_a_vgg_of_another_depth() -> None:
    theirs = backbones.write(tensors_of("vgg11"), "mmpretrain", bgr=False)
    del theirs["backbone.features.11.conv.weight"]
    with pytest.raises(
        ValueError, match=r"features of 7 convolutions are no VGG's, which has 8, 10, 13"
    ):
        backbones.read(theirs, bgr=False)
