import sys

import pytest
import timm
import torch
import torchvision
import torchvision.models.detection as tvd
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg
from torchvision.models.detection.anchor_utils import AnchorGenerator

from limbeck import Tap, TapError, Taps, landmarks, norm_of, register_family
from limbeck.frame import Frame, network_frame
from limbeck.landmarks import resolve, unwrap
from limbeck.models import SSD, Classifier
from tests import batches, small_models

PIXELS = 128
NONE = {"weights": None, "weights_backbone": None}


class Chain(nn.Module):
    """A plain chain of layers; a VGG without its large linear layers."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, x):
        return self.features(x).mean((2, 3))


CLASSIFIERS = {
    "resnet18": lambda: torchvision.models.resnet18(),
    "resnet50": lambda: torchvision.models.resnet50(),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(),
    "shufflenet_v2": lambda: torchvision.models.shufflenet_v2_x0_5(),
    "Classifier of shufflenet_v2": lambda: Classifier("shufflenet_v2_x0_5", 3),
    "vgg11_bn": lambda: Chain(vgg.make_layers(vgg.cfgs["A"], batch_norm=True)),
    "timm resnet26": lambda: timm.create_model("resnet26", zero_init_last=False),
    "timm mobilenetv1_100": lambda: timm.create_model("mobilenetv1_100"),
    "timm efficientnet_b0": lambda: timm.create_model("efficientnet_b0"),
    "timm resnetblur50": lambda: timm.create_model("resnetblur50"),
}
DETECTORS = {
    "retinanet": lambda: tvd.retinanet_resnet50_fpn(**NONE),
    "faster_rcnn": lambda: tvd.fasterrcnn_resnet50_fpn(**NONE),
    "fcos": lambda: tvd.fcos_resnet50_fpn(**NONE),
    "faster_rcnn mobilenet_v3": lambda: tvd.fasterrcnn_mobilenet_v3_large_fpn(**NONE),
    "ssd": lambda: SSD("vgg16", 3),
    "SSD of mobilenet_v2": lambda: SSD("mobilenet_v2", 3, image_size=(256, 256)),
    "ssdlite": lambda: tvd.ssdlite320_mobilenet_v3_large(**NONE),
}
LEVELS = {
    "vgg11_bn": ["C2", "C3", "C4", "C5"],
    "retinanet": ["C2", "C3", "C4", "C5", "P3", "P4", "P5", "P6", "P7"],
    "fcos": ["C2", "C3", "C4", "C5", "P3", "P4", "P5", "P6", "P7"],
    "faster_rcnn": ["C2", "C3", "C4", "C5", "P2", "P3", "P4", "P5", "P6"],
    # torchvision feeds this pyramid two maps of stride 32.
    "faster_rcnn mobilenet_v3": ["C2", "C3", "C4", "C5", "P5", "P6"],
    "ssd": ["C2", "C3", "C4"],
    "ssdlite": ["C4", "C5"],
}


def read(model, names, pixels=PIXELS, batch=1):
    """The taps of one evaluation pass, and the square images' side."""
    images = torch.rand(batch, 3, pixels, pixels)
    model.eval()
    with torch.no_grad(), network_frame(model), Taps(model, names) as seen:
        model(list(images) if hasattr(model, "transform") else images)
    return seen


@pytest.mark.parametrize("name", [*CLASSIFIERS, *DETECTORS])
def test_level_k_has_stride_two_to_the_k(name):
    model = (CLASSIFIERS | DETECTORS)[name]()
    levels = LEVELS.get(name, ["C2", "C3", "C4", "C5"])
    found = landmarks(model)
    assert sorted(k for k in found if k[0] in "CP" and len(k) == 2) == sorted(levels)
    pixels = {"ssd": 272, "ssdlite": 320}.get(name, PIXELS)
    wanted = [k for k in found if k[0] in "CP"]
    sizes = {k: value.shape[-2:] for k, value in read(model, wanted, pixels).items()}
    assert sizes == {k: (pixels // 2 ** int(k[1]),) * 2 for k in wanted}


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("resnet18", ["layer1", "layer2", "layer3", "layer4"]),
        ("mobilenet_v2", ["features.3", "features.6", "features.13", "features.18"]),
        ("shufflenet_v2", ["maxpool", "stage2", "stage3", "stage4"]),
        ("timm mobilenetv1_100", ["blocks.1", "blocks.2", "blocks.3", "blocks.4"]),
        ("timm resnetblur50", ["layer1", "layer2", "layer3", "layer4"]),
    ],
)
def test_published_places(name, places):
    found = landmarks(CLASSIFIERS[name]())
    assert [str(found[f"C{level}"]) for level in (2, 3, 4, 5)] == places


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("resnet50", nn.ReLU()),
        ("vgg11_bn", nn.ReLU()),
        ("timm resnet26", nn.ReLU()),
        ("timm mobilenetv1_100", nn.ReLU6()),
        ("Classifier of shufflenet_v2", nn.ReLU()),
    ],
)
def test_before_the_activation(name, activation):
    model = CLASSIFIERS[name]()
    seen = read(model, ["C3", "C3.pre", "C4", "C4.pre"])
    for level in ("C3", "C4"):
        assert seen[f"{level}.pre"].min() < 0
        assert torch.equal(activation(seen[f"{level}.pre"]), seen[level])


@pytest.mark.parametrize("name", ["mobilenet_v2", "timm efficientnet_b0"])
def test_linear_bottlenecks_have_no_activation(name):
    seen = read(CLASSIFIERS[name](), ["C4", "C4.pre"])
    assert torch.equal(seen["C4"], seen["C4.pre"])


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("resnet18", {"C2": "layer1.1.bn2", "C4": "layer3.1.bn2", "C5.pre": "layer4.1.bn2"}),
        ("resnet50", {"C3": "layer2.3.bn3", "C4.pre": "layer3.5.bn3"}),
        ("mobilenet_v2", {"C4.depthwise": "features.11.conv.1.1"}),
        ("shufflenet_v2", {"C4": "stage3.7.branch2.6"}),
        (
            "mobilenet_v2",
            {"C3": "features.6.conv.3", "C5": "features.18.1", "C5.pre": "features.18.1"},
        ),
        ("vgg11_bn", {"C2": "features.12", "C4": "features.26", "C4.pre": "features.26"}),
        ("timm resnet26", {"C4": "layer3.1.bn3"}),
        ("timm mobilenetv1_100", {"C4": "blocks.3.5.bn2", "C4.pre": "blocks.3.5.bn2"}),
        ("timm efficientnet_b0", {"C4": "blocks.4.2.bn3"}),
    ],
)
def test_last_norm_before_the_activation(name, norms):
    model = CLASSIFIERS[name]()
    paths = {module: path for path, module in model.named_modules()}
    assert {level: paths[norm_of(model, level)] for level in norms} == norms


def test_norm_gives_the_feature_that_the_landmark_names():
    """Without the shortcut, the norm's output is the residual sum."""
    model = small_models.resnet().eval()
    model.layer4[0].downsample = None
    model.layer4[0].conv1 = nn.Conv2d(64, 128, 3, 2, 1)
    model.layer4[0].forward = lambda x: plain_block(model.layer4[0], x)
    norm = norm_of(model, "C5")
    seen = read(model, {"norm": "layer4.0.bn2", "pre": "C5.pre"})
    assert norm is model.layer4[0].bn2
    assert torch.equal(seen["norm"], seen["pre"])


def plain_block(block, x):
    return block.relu(block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x))))))


def test_no_norm_is_an_error():
    with pytest.raises(TapError, match=r"C2 of SqueezeNet \(Fire\) has no norm"):
        norm_of(torchvision.models.squeezenet1_1(), "C2")


class FunctionalBlock(nn.Module):
    """A block as many CIFAR networks write it: a functional ReLU, and a shortcut of that name."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1)
        self.bn1 = nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride))

    def forward(self, x):
        return F.relu(self.bn1(self.conv1(x)) + self.shortcut(x))


class CIFARNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        for i, stride in enumerate((1, 2, 2, 2), 1):
            self.add_module(f"layer{i}", nn.Sequential(FunctionalBlock(4, 4, stride)))
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        for module in (self.conv1, self.layer1, self.layer2, self.layer3, self.layer4):
            x = module(x)
        return self.linear(x.mean((2, 3)))


def test_shortcuts_do_not_count_twice_and_unseen_activations_are_not_guessed():
    model = CIFARNet()
    found = landmarks(model)
    assert {k: str(tap) for k, tap in found.items() if k != "logits"} == {
        "C0": "layer1",
        "C1": "layer2",
        "C2": "layer3",
        "C3": "layer4",
        "pooled": "linear:input",
    }
    assert read(model, ["C2"])["C2"].shape[-1] == PIXELS // 4
    assert norm_of(model, "C3") is model.layer4[0].bn1


def test_parallel_activations_do_not_end_a_block():
    """Each is of half the channels of a fire module."""
    found = landmarks(torchvision.models.squeezenet1_1())
    assert [level for level in found if level.startswith("C")] == ["C2", "C3", "C4"]


def test_no_tensor_of_torchvisions_shufflenet_is_a_stage_before_its_relu():
    found = landmarks(CLASSIFIERS["shufflenet_v2"]())
    assert set(found) == {"C2", "C3", "C4", "C5", "pooled", "logits"}


def test_depthwise_is_before_its_activation_in_the_last_group_of_a_stride():
    model = torchvision.models.mobilenet_v2()
    blocks = {2: 2, 3: 4, 4: 11, 5: 17}
    seen = read(
        model,
        {f"C{k}": f"C{k}.depthwise" for k in blocks}
        | {f"after{k}": f"features.{block}.conv.1" for k, block in blocks.items()},
    )
    for k in blocks:
        assert seen[f"C{k}"].min() < 0
        assert torch.equal(F.relu6(seen[f"C{k}"]), seen[f"after{k}"])


@pytest.mark.parametrize("name", ["swin_t", "regnet_x_400mf"])
def test_families_that_are_not_known_have_no_landmarks(name):
    assert landmarks(torchvision.models.get_model(name)) == {}


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn", "fcos"])
def test_pyramid_is_the_list_of_its_levels(name):
    model = getattr(small_models, name)()
    levels = [k for k in landmarks(model) if k[0] == "P"]
    seen = read(model, ["fpn", *levels], 64)
    assert len(levels) == 5
    assert all(torch.equal(seen["fpn"][i], seen[level]) for i, level in enumerate(levels))


def test_pyramid_on_other_stages():
    """P6 and P7 are the field's names for a stride, not for a place."""
    trunk = small_models.backbone(
        small_models.BasicBlock, [2, 3], 8, small_models.LastLevelP6P7(8, 8)
    )
    anchors = AnchorGenerator(((8,), (16,), (32,), (64,)), ((1.0,),) * 4)
    model = tvd.RetinaNet(trunk, 3, anchor_generator=anchors)
    levels = [k for k in landmarks(model) if k[0] == "P"]
    assert levels == ["P3", "P4", "P5", "P6"]
    sizes = [value.shape[-1] for value in read(model, levels).values()]
    assert sizes == [PIXELS // 2**k for k in (3, 4, 5, 6)]


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_towers_run_once_a_level(name):
    model = getattr(small_models, name)()
    seen = read(model, ["fpn", "cls_tower", "box_tower"], 64)
    for tower, head in (("cls_tower", "classification_head"), ("box_tower", "regression_head")):
        expected = [getattr(model.head, head).conv(level) for level in seen["fpn"]]
        assert len(seen[tower]) == 5
        assert all(torch.equal(a, b) for a, b in zip(seen[tower], expected, strict=True))
        assert all(level.min() >= 0 for level in seen[tower])


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn", "fcos", "ssdlite"])
def test_anchors_by_image_and_level(name):
    model = DETECTORS["ssdlite"]() if name == "ssdlite" else getattr(small_models, name)()
    pixels = 320 if name == "ssdlite" else 96
    maps = {"maps": Tap("head" if name != "faster_rcnn" else "rpn.head", "input")}
    seen = read(model, maps | {"anchors": "anchors"}, pixels, batch=2)
    maps, anchors = seen["maps"], seen["anchors"]
    generator = model.rpn.anchor_generator if name == "faster_rcnn" else model.anchor_generator
    frame = torchvision.models.detection.image_list.ImageList(
        torch.zeros(2, 3, pixels, pixels), [(pixels, pixels)] * 2
    )
    with torch.no_grad():
        whole = generator(frame, list(maps))
    assert len(anchors) == 2
    for of_image, expected in zip(anchors, whole, strict=True):
        assert torch.equal(torch.cat(of_image), expected)
        per_cell = {"retinanet": 9, "faster_rcnn": 3, "fcos": 1, "ssdlite": 6}[name]
        start = 0
        for level, features in zip(of_image, maps, strict=True):
            stop = start + features.shape[-2] * features.shape[-1] * per_cell
            assert torch.equal(level, expected[start:stop])
            start = stop


@pytest.mark.parametrize("name", ["retinanet", "faster_rcnn", "fcos", "ssdlite", "one map"])
def test_maps_are_what_the_heads_see(name):
    if name == "one map":
        trunk = nn.Conv2d(3, 8, 16, stride=16)
        trunk.out_channels = 8
        model = tvd.RetinaNet(trunk, 3, anchor_generator=AnchorGenerator(((32,),), ((1.0,),)))
    else:
        model = DETECTORS["ssdlite"]() if name == "ssdlite" else getattr(small_models, name)()
    heads = Tap("head" if name != "faster_rcnn" else "rpn.head", "input")
    seen = read(model, {"maps": "maps", "heads": heads}, 320 if name == "ssdlite" else 64)
    assert len(seen["maps"]) == len(seen["heads"]) == {"ssdlite": 6, "one map": 1}.get(name, 5)
    assert all(torch.equal(a, b) for a, b in zip(seen["maps"], seen["heads"], strict=True))


def test_anchors_lie_around_their_own_level_cells():
    """By hand: RetinaNet's P4 has a cell every 16 px, anchors of 64 px and up around its corner."""
    level = read(small_models.retinanet(), ["anchors"], 64)["anchors"][0][1].view(4, 4, 9, 4)
    centres = (level[..., :2] + level[..., 2:]) / 2
    grid = torch.arange(0, 64, 16.0)
    assert torch.equal(centres[:, :, 0, 0], grid.expand(4, 4))
    assert torch.equal(centres[:, :, 0, 1], grid[:, None].expand(4, 4))
    sides = (level[..., 2:] - level[..., :2]).prod(-1).sqrt()
    assert sides.min() == pytest.approx(64, rel=0.02)


def test_regions_and_roi_features_and_frame_and_logits():
    model = small_models.faster_rcnn().eval()
    seen = read(model, ["regions", "roi_features", "frame"], 64)
    (regions,) = seen["regions"]
    assert regions.shape[1:] == (4,)
    assert seen["roi_features"].shape == (len(regions), 32, 7, 7)
    assert "regions" not in landmarks(small_models.retinanet())
    assert seen["frame"] == Frame((64, 64), ((64, 64),), None)
    network, x = small_models.resnet().eval(), batches.pictures()
    with Taps(network, ["logits"]) as taken:
        logits = network(x)
    assert torch.equal(taken["logits"], logits)
    assert "logits" not in landmarks(model)


def test_wrapped_classifier_has_the_landmarks_of_its_network():
    class Normalised(nn.Module):
        def __init__(self):
            super().__init__()
            self.network = small_models.resnet()

        def forward(self, x):
            return self.network(x - 0.5)

    found = landmarks(Normalised())
    assert str(found["C4.pre"]) == "network.layer3.0.relu:input"
    assert str(found["logits"]) == "<model>"


def test_wrappers_are_looked_through():
    model = small_models.resnet()
    wrapped = nn.DataParallel(torch.compile(model, backend="eager"))
    assert unwrap(wrapped) is model
    assert landmarks(wrapped) == landmarks(model)


def test_resolves_taps_landmarks_and_paths():
    model = small_models.resnet()
    assert resolve(model, Tap("fc", "input")) == Tap("fc", "input")
    assert resolve(model, "C3") == Tap("layer2")
    assert resolve(model, "layer2.0.bn1:input[0]") == Tap("layer2.0.bn1", "input", 0)


def test_a_family_is_registered_with_one_function(monkeypatch):
    module = sys.modules["limbeck.landmarks"]  # the package's name is the function's
    monkeypatch.setattr(module, "_families", [*module._families])

    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3, stride=4)

        def forward(self, x):
            return self.body(x)

    assert landmarks(Mine()) == {}
    register_family(lambda model: {"C2": Tap("body")} if isinstance(model, Mine) else {})
    model = Mine()
    assert landmarks(model) == {"C2": Tap("body")}
    assert landmarks(small_models.resnet())["C2"] == Tap("layer1")
    seen = read(model, ["C2", "body"], 8)
    assert seen["C2"] is not None
    assert torch.equal(seen["C2"], seen["body"])
