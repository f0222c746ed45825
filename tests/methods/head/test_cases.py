"""HEAD and TF-HEAD where a batch or a pair is unlike the others."""

from functools import partial

import pytest
import torch
from torch import nn

from limbeck import Distillation
from limbeck.frame import Frame
from limbeck.methods import HEAD, TFHEAD, FitNet, Method
from limbeck.methods.head.assist import Assist
from limbeck.methods.head.places import pyramid_levels
from limbeck.models import FasterRCNN
from limbeck.presets import RETINANET
from tests import batches, small_models
from tests.batches import nothing
from tests.models.detection.tiny_detectors import tiny

FEW = {"proposals": 20, "samples": 40}
BATCH = partial(batches.detection_batch, size=128)
METHODS = {
    "HEAD": partial(HEAD, 1.0, 1.0, **FEW),
    "HEAD, per anchor": partial(HEAD, 1.0, 1.0, adapter="per_anchor", **FEW),
    "TF-HEAD": partial(TFHEAD, 1.0, 1.0, **FEW),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def pair_of(method: Method, student: nn.Module | None = None) -> Distillation:
    return Distillation(
        student or small_models.retinanet(), small_models.faster_rcnn(), {"it": method}
    )


def without_proposals() -> nn.Module:
    """A student whose boxes all lie beside the image."""
    student = small_models.retinanet()
    deltas = student.head.regression_head.bbox_reg
    nn.init.zeros_(deltas.weight)
    with torch.no_grad():
        deltas.bias.view(9, 4)[:, 0] = 100.0  # widths of the anchor to the right
    return student


# -- batches --------------------------------------------------------------------------------------


@every_method
def test_a_batch_without_a_region_gives_every_parameter_a_gradient(method) -> None:
    """Of 0: under DDP a process would wait for the others' otherwise."""
    pair = pair_of(method(), without_proposals())
    losses = pair(BATCH()[0], [nothing(), nothing()])
    losses.total.backward()
    assert losses.raw["it/assist.classification"] == losses.raw["it/ckd"] == 0
    assert all(p.grad is not None for p in pair.trainable_parameters())
    assert all(p.grad.isfinite().all() for p in pair.trainable_parameters())


@every_method
def test_where_there_is_ground_truth_alone_ckd_is_nothing(method) -> None:
    losses = pair_of(method(), without_proposals())(*BATCH()).raw
    assert losses["it/ckd"] == 0
    assert losses["it/assist.bbox_regression"] > 0


@every_method
def test_regions_lie_in_each_images_content(method) -> None:
    """Of images of different sizes, the second without objects."""
    pair = pair_of(method())
    boxes = []
    own = pair.methods["it"]
    assist = own.assist if isinstance(own, HEAD) else own.rcnn
    assist.box_roi_pool.register_forward_pre_hook(lambda _, inputs: boxes.extend(inputs[1]))
    sizes = (128, 100), (90, 160)
    images = [torch.rand(3, *size) for size in sizes]
    losses = pair(images, [BATCH()[1][0], nothing()])
    losses.total.backward()
    assert all(loss.isfinite() for loss in losses.raw.values())
    for found, (height, width) in zip(boxes, sizes, strict=True):
        assert len(found) >= FEW["proposals"]
        assert (found >= 0).all()
        assert (found <= torch.tensor([width, height, width, height])).all()


# -- pairs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 96, 160, 256])
def test_an_example_may_have_any_size(size: int) -> None:
    """The coarsest levels have 1 to 3 rows then, from which no stride can be told."""
    example = [torch.rand(3, size, size)]
    student, taught = small_models.retinanet(), small_models.faster_rcnn()
    pair = Distillation(student, taught, {"it": HEAD(**FEW)}, example=example)
    assert pair.methods["it"].assist.box_roi_pool.scales == [1 / 8, 1 / 16, 1 / 32, 1 / 64]


def test_a_pyramid_that_leaves_a_level_out_is_refused() -> None:
    pyramid = [torch.zeros(1, 1, rows, rows) for rows in (16, 4)]
    with pytest.raises(ValueError, match=r"levels of \[16, 4\] rows"):
        pyramid_levels(pyramid, Frame((128, 128), ((128, 128),), None))


@pytest.mark.parametrize("preset", RETINANET)
def test_a_teacher_of_other_classes(preset) -> None:
    """Teaches an assist that begins afresh, and is nothing to begin as."""
    of_three = tiny(FasterRCNN, preset, fpn_channels=32)
    with pytest.raises(ValueError, match=r"has 4 classes, the teacher 3\..*transfer false"):
        Distillation(small_models.retinanet(), of_three, [HEAD(**FEW)])
    pair = Distillation(small_models.retinanet(), of_three, {"it": HEAD(transfer=False, **FEW)})
    assert (
        pair.methods["it"].assist.box_predictor.cls_score.out_features == small_models.CLASSES + 1
    )
    images, targets = BATCH()
    last = [target | {"labels": torch.full((2,), small_models.CLASSES)} for target in targets]
    assert all(loss.isfinite() for loss in pair(images, last).raw.values())


def test_the_assist_alone_beside_another_methods_teacher() -> None:
    methods = {"assist": HEAD(None, None, transfer=False, **FEW), "fitnet": FitNet(["fpn"])}
    losses = Distillation(small_models.retinanet(), small_models.retinanet(), methods)(*BATCH())
    assert "assist/assist.classification" in losses
    with pytest.raises(ValueError, match="no box head"):
        Distillation(small_models.retinanet(), small_models.retinanet(), [HEAD(None, None)])


# -- beginnings -----------------------------------------------------------------------------------


def test_published_initial_weights() -> None:
    assist = Assist((3, 6), channels=16, classes=80, width=256)
    bound = (6 / (16 * 49 + 256)) ** 0.5  # Xavier's
    assert 0.99 * bound < assist.box_head.fc6.weight.abs().max() <= bound
    assert assist.box_predictor.cls_score.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert assist.box_predictor.bbox_pred.weight.std().item() == pytest.approx(0.001, rel=0.05)
    assert not any(p.any() for name, p in assist.named_parameters() if name.endswith("bias"))


def test_published_sizes() -> None:
    assert (HEAD().settings.proposals, HEAD().settings.samples) == (1000, 512)
    assert (TFHEAD().proposals, TFHEAD().samples) == (1000, 512)
    alone = Distillation(small_models.retinanet(), None, {"it": HEAD(None, None)}).methods["it"]
    assert alone.assist.box_head.fc7.weight.shape == (1024, 1024)
