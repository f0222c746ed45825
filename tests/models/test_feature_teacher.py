"""A network with an input form of its own as a teacher: what it sees, and what is made of it."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from limbeck import Distillation, TapError, Taps, landmarks, methods
from limbeck.frame import FormError, own_size
from limbeck.models import FeatureTeacher
from limbeck.models.vision_transformers import Layout, layout_of
from tests import batches, small_models, tiny_models, tiny_vits

SIZES = [(64, 96), (60, 80)]  # of a batch that a RetinaNet pads to 64 x 96


class Patches(nn.Module):
    """Its one block's tokens are the patches' mean colours, behind a token of zeros."""

    def __init__(self, side: int = 8):
        super().__init__()
        self.blocks = nn.ModuleList([nn.Identity()])
        self.side = side
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        means = F.avg_pool2d(images * self.scale, self.side).flatten(2).transpose(1, 2)
        return self.blocks[0](torch.cat([torch.zeros_like(means[:, :1]), means], 1))


def plain(**arguments) -> FeatureTeacher:
    """A teacher that sees colours as they are."""
    known = {"blocks": "blocks", "patch": 8, "prefix": 1, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return FeatureTeacher(Patches(), **known | arguments)


def grid_of(teacher, images, size=None, place="grid"):
    with torch.no_grad(), Taps(teacher, [place]) as seen:
        teacher(images, size)
    return seen[place]


@pytest.mark.parametrize(
    ("library", "family"),
    [*(("timm", f) for f in tiny_vits.TIMM), *(("hf", f) for f in tiny_vits.TRANSFORMERS)],
)
def test_every_family_teaches_a_detector_and_stops_behind_the_last_block_read(library, family):
    make = tiny_vits.of_timm if library == "timm" else tiny_vits.of_transformers
    teacher = FeatureTeacher(make(family))
    ran = tiny_vits.blocks_run(teacher.get_submodule(f"model.{teacher.layout.blocks}"))
    hint = methods.PKD({"P4": "grid.1"}, adapter="conv")
    pair = Distillation(small_models.retinanet(), teacher, {"hint": hint})
    ran.clear()
    images, targets = batches.photographs(*SIZES), batches.detection_batch()[1]
    _, steps = pair.run(images, targets)
    assert ran == [0, 1]
    patch = teacher.layout.patch
    found = steps["hint"].taught.features["P4"]
    assert found.shape == (2, tiny_vits.CHANNELS, round(64 / patch), round(96 / patch))
    assert pair(images, targets).total.isfinite()


def test_the_last_norm_is_a_place_and_nothing_runs_behind_it():
    network = tiny_vits.of_timm(num_classes=4)
    teacher = FeatureTeacher(network)
    heads = tiny_vits.blocks_run([network.head])
    images = batches.pictures(2, 64)
    taps = Taps(teacher, ["grid", "grid.2"], stop_early=True)
    with torch.no_grad():
        taps.learn(lambda: teacher(images))
        heads.clear()
        _, seen = taps.read(lambda: teacher(images))
    taps.close()
    assert heads == []
    with torch.no_grad():
        tokens = network.forward_features((images - teacher.mean) / teacher.std)
    expected = tokens[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, (4, 4))
    assert torch.equal(seen["grid"], expected)
    norm = network.norm(seen["grid.2"].flatten(2).transpose(1, 2))
    assert torch.allclose(norm.transpose(1, 2).unflatten(2, (4, 4)), expected, atol=1e-6)


def test_the_centres_of_tokens_lie_where_it_is_said():
    """Pixels that hold their own places, resized, give tokens that hold theirs."""
    height, width = 64, 96
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    image = torch.stack([rows, columns, torch.zeros(height, width)])
    for size in (None, (32, 32), (96, 128)):
        found = grid_of(plain(size=size), [image])[0]
        h, w = found.shape[1:]
        inside = (slice(1, -1), slice(1, -1))  # beyond the border there is nothing to average
        i, j = torch.meshgrid(
            (torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing="ij"
        )
        assert torch.allclose(found[0][inside], i[inside], atol=1e-5)
        assert torch.allclose(found[1][inside], j[inside], atol=1e-5)


def test_a_list_is_padded_to_the_students_frame_with_the_mean_colour():
    teacher = plain(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.5))
    images = batches.photographs((16, 24), (24, 16))
    prepared = teacher.prepared(images, (32, 32))
    assert prepared.shape == (2, 3, 32, 32)
    for image, found in zip(images, prepared, strict=True):
        _, height, width = image.shape
        expected = (image - teacher.mean) / teacher.std
        assert torch.equal(found[:, :height, :width], expected)
        assert not found[:, height:].any()
        assert not found[:, :, width:].any()
    assert teacher.prepared(images).shape == (2, 3, 24, 24)


@pytest.mark.parametrize(
    ("frame", "size", "expected"),
    [
        ((64, 96), None, (64, 96)),
        ((60, 83), None, (64, 80)),  # the nearest multiples
        ((3, 90), None, (8, 88)),
        ((64, 96), (32, 48), (32, 48)),
    ],
)
def test_frames_are_resized_to_what_the_network_takes(frame, size, expected):
    images = torch.rand(2, 3, *frame)
    teacher = plain(size=size)
    assert teacher.prepared(images).shape[2:] == expected
    assert teacher.prepared(list(images)).shape[2:] == expected
    whole = F.interpolate(images, expected, mode="bilinear", align_corners=False, antialias=True)
    assert torch.equal(teacher.prepared(images), images if frame == expected else whole)


def test_a_network_of_one_size_is_given_that():
    network = tiny_vits.of_timm("siglip", dynamic_img_size=False, img_size=48)
    teacher = FeatureTeacher(network)
    assert grid_of(teacher, batches.pictures(1, 64)).shape == (1, tiny_vits.CHANNELS, 3, 3)
    assert own_size(teacher) is None
    with pytest.raises(ValueError, match=r"size is \(64, 64\), and the V.*takes \(48, 48\) alone"):
        FeatureTeacher(network, size=(64, 64))


def test_it_sees_the_frame_of_the_student():
    student = small_models.retinanet()
    pair = Distillation(student, plain(), [methods.FeatureCosine({"P3": "grid"})])
    images, targets = batches.photographs(*SIZES), batches.detection_batch()[1]
    for divisor, width in ((32, 96), (64, 128)):
        student.transform.size_divisible = divisor
        _, steps = pair.run(images, targets)  # where frames are compared
        found = steps["FeatureCosine"].taught.features["P3"]
        assert found.shape == (2, 3, 8, width // 8)


def test_a_network_that_takes_a_list_is_given_one():
    class Listed(Patches):
        def forward(self, images):
            assert isinstance(images, list)
            return super().forward(torch.stack(images))

    known = {"blocks": "blocks", "patch": 8, "prefix": 1}
    images = batches.pictures(2, 32)
    listed = FeatureTeacher(Listed(), listed=True, **known)
    assert torch.equal(grid_of(listed, images), grid_of(FeatureTeacher(Patches(), **known), images))


def test_a_network_without_tokens_has_its_own_landmarks():
    network = small_models.resnet()
    teacher = FeatureTeacher(network)
    found = landmarks(teacher)
    assert {"frame", "C4", "C5.pre"} <= found.keys()
    assert "logits" not in found
    assert found["C4"].path == "model.layer3"
    images = [torch.rand(3, 60, 90)]
    pair = Distillation(small_models.retinanet(), teacher, [methods.FitNet({"P4": "C4"})])
    _, steps = pair.run(images, batches.detection_batch(1)[1])
    assert steps["FitNet"].taught.features["P4"].shape == (1, 64, 4, 6)


def test_a_classifier_learns_from_tokens_too():
    methods_ = [methods.FeatureCosine({"C4": "grid"})]
    pair = Distillation(small_models.resnet(), FeatureTeacher(tiny_vits.of_timm()), methods_)
    batch = batches.pictures(), batches.labels()
    losses = pair(*batch)
    assert list(losses) == ["student/cross_entropy", "FeatureCosine/C4"]
    assert copy.deepcopy(pair)(*batch).total.item() == losses.total.item()
    assert pair.raw


@pytest.mark.parametrize("make", [tiny_vits.of_timm, small_models.resnet])
def test_a_bare_network_under_a_detector_is_told_what_to_be(make):
    with pytest.raises(
        FormError,
        match=r"the teacher \(\w+\) was given a list of 1 images.*ended with \w+Error.*takes a "
        r"batch \(B, 3, H, W\).*limbeck.models.FeatureTeacher",
    ):
        Distillation(small_models.retinanet(), make(), [methods.PKD({"P4": "C4"}, adapter="conv")])


def test_tokens_are_no_map_without_it():
    with pytest.raises(ValueError, match=r"\(1, 69, 16\); expected a map.*FeatureTeacher"):
        Distillation(small_models.resnet(), tiny_vits.of_timm(), [methods.PKD(["C4"])])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prefix": 0}, r"gave tokens \(1, 65, 3\); expected 0 before those of 8 x 8 patches"),
        ({"patch": 4}, r"gave tokens \(1, 65, 3\); expected 1 before those of 16 x 16"),
    ],
)
def test_tokens_that_are_not_as_stated(arguments, said):
    with pytest.raises(TapError, match=said):
        grid_of(plain(**arguments), batches.pictures(1, 64))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"patch": 8}, "blocks is None and patch 8; expected both"),
        ({"prefix": 1}, "norm and prefix are of tokens; expected blocks and patch"),
        ({"blocks": "layers", "patch": 8}, "Patches has no module 'layers'"),
        ({"blocks": "blocks", "patch": 8, "size": (20, 16)}, "expected multiples of the patch, 8"),
        ({"weights": "file.pth"}, "network is a Patches that is built. Leave them out"),
        ({"std": (0.0, 1.0, 1.0)}, "FeatureTeacher's std"),
    ],
)
def test_arguments_that_do_not_suit(arguments, said):
    with pytest.raises(ValueError, match=said):
        FeatureTeacher(Patches(), **arguments)


def test_what_normalises_its_images_itself_needs_none():
    for network in (tiny_models.classifier(), FeatureTeacher(tiny_vits.of_timm())):
        with pytest.raises(ValueError, match=r"would see them normalised twice"):
            FeatureTeacher(network)


@pytest.mark.parametrize(
    "name", ["xcit_nano_12_p16_224", "cait_xxs24_224", "vit_tiny_r_s16_p8_224"]
)
def test_what_has_tokens_elsewhere_or_other_patches_is_not_recognised(name):
    with torch.device("meta"):
        assert layout_of(timm.create_model(name)) is None


@pytest.mark.parametrize("name", ["eva02_tiny_patch14_224", "beit_base_patch16_224"])
def test_timm_s_further_transformers_are_recognised(name):
    with torch.device("meta"):
        layout = layout_of(timm.create_model(name))
    patch = 14 if "14" in name else 16
    assert layout == Layout("blocks", "norm", prefix=1, patch=patch, size=(224, 224))


def test_a_detector_needs_none():
    with pytest.raises(ValueError, match=r"network is a RetinaNet, a detector.*Give the detector"):
        FeatureTeacher(small_models.retinanet())


def test_compiled_it_gives_the_same(monkeypatch):
    from limbeck.training.compilation import compile_trunks

    monkeypatch.setattr(torch, "compile", lambda function: function)
    pair = Distillation(
        tiny_models.classifier(),
        FeatureTeacher(tiny_vits.of_timm()),
        [methods.FeatureCosine({"C4": "grid.0"})],
    )
    batch = batches.pictures(), batches.labels()
    expected = pair(*batch).total.item()
    compile_trunks(pair)
    assert pair.teacher.model._compiled_call_impl is not None
    assert pair(*batch).total.item() == pytest.approx(expected, rel=1e-5)
