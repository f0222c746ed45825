from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation, Taps
from limbeck.frame import network_frame
from limbeck.methods import DKD, DetectorDKD, ReviewKD
from limbeck.methods.dkd import decoupled
from limbeck.methods.kd import soft_divergence
from limbeck.models import BasicBlocks, FasterRCNN, FasterRCNNC4
from limbeck.models.detection.parts.roi_heads import region_labels
from tests import batches, small_models
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of


def losses_of(method, case):
    """The parts, and the total by the method's weights with its gradient in the student."""
    student = case["student"].requires_grad_()
    parts = method(step_of({"logits": student}, {"logits": case["teacher"]}, case["labels"]))
    weights = method.weights_at(0)
    total = sum(weights[part] * loss for part, loss in parts.items())
    total.backward()
    return parts, total, student.grad


@pytest.mark.parametrize("name", ["cifar", "imagenet", "detector", "confident"])
def test_losses_and_gradients_are_the_authors(shared, name):
    """In `confident` the logits lie 120 to 140 apart, where the original in float32 is NaN."""
    case = case_of(shared, "dkd.npz", name)
    alpha, beta, temperature = (case[key].item() for key in ("alpha", "beta", "temperature"))
    parts, total, gradient = losses_of(DKD(alpha, beta, temperature), case)
    assert_loss(parts["tckd"], case["loss_tckd"])
    assert_loss(parts["nckd"], case["loss_nckd"])
    assert_loss(total, case["loss_total"])
    assert_gradient(gradient, case["grad_student"])
    assert ("loss_original_float32" in case) == (name == "confident")


def test_the_mean_over_the_batch_is_the_authors_and_no_sum(shared):
    """The published configuration of another library sums where it says that it averages."""
    case = case_of(shared, "dkd.npz", "cifar")
    _, total, _ = losses_of(DKD(), case)
    assert_loss(total, case["loss_mmrazor_batchmean"])
    assert case["loss_mmrazor_mean"] == pytest.approx(8 * total.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["cifar", "t3"])
def test_standardised_losses_and_gradients_are_the_authors(shared, name):
    case = case_of(shared, "logit_standardization.npz", name)
    alpha, beta, temperature = (
        case[key].item() for key in ("dkd_alpha", "dkd_beta", "temperature")
    )
    _, total, gradient = losses_of(DKD(alpha, beta, temperature, standardise=True), case)
    assert_loss(total, case["loss_dkd"])
    assert_gradient(gradient, case["grad_student_dkd"])


@pytest.mark.parametrize("gap", [150.0, 1e4])
def test_teachers_and_students_that_are_sure_have_finite_gradients(gap):
    student = torch.tensor([[gap, 0.0, -gap], [0.0, gap, 0.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, gap, 1.0], [gap, 0.0, -gap]])
    losses = decoupled(student, teacher, torch.tensor([0, 2]), 1.0)
    sum(losses).backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses)
    assert student.grad.isfinite().all()


def test_together_they_are_the_divergence_of_kd():
    """KD = TCKD + (1 - p_y) NCKD, for each image."""
    student, teacher = torch.randn(1, 7) * 3, torch.randn(1, 7) * 3
    tckd, nckd = decoupled(student, teacher, torch.tensor([4]), 2.0)
    rest = 1 - (teacher / 2.0).softmax(1)[0, 4]
    torch.testing.assert_close(tckd + rest * nckd, soft_divergence(student, teacher, 2.0))


def test_two_classes_leave_no_other_to_compare():
    tckd, nckd = decoupled(torch.randn(3, 2), torch.randn(3, 2), torch.tensor([0, 1, 1]), 1.0)
    assert tckd > 0
    assert nckd.item() == pytest.approx(0, abs=1e-6)


def test_it_needs_labels():
    pair = Distillation(
        small_models.resnet(), small_models.resnet(), [DKD()], student_loss=lambda *_: {}
    )
    with pytest.raises(TypeError, match=r"DKD needs one class for each image.*NoneType"):
        pair.eval()(batches.pictures(), None)
    with pytest.raises(TypeError, match=r"probabilities of classes\. Leave augmentations out"):
        DKD._labels(SimpleNamespace(targets=torch.rand(2, 4)))
    assert DKD._labels(SimpleNamespace(targets=torch.ones(2).byte())).dtype is torch.int64


SMALL, WIDE = BasicBlocks((1, 1, 1, 1), (8, 8, 16, 16)), BasicBlocks((1, 1, 1, 1), (16, 16, 32, 32))


def pyramid(preset, shape):
    return FasterRCNN(shape, 4, preset=preset, fpn_channels=16, box_head_channels=16)


def one_map(preset, shape):
    return FasterRCNNC4(shape, 4, preset=preset, anchor_sizes=[[16, 32, 64]])


PAIRS = {
    "torchvision's own": lambda: (
        small_models.faster_rcnn(),
        small_models.faster_rcnn(Bottleneck, channels=48),
    ),
    "torchvision": lambda: (pyramid("torchvision", SMALL), pyramid("torchvision", WIDE)),
    "detectron2": lambda: (pyramid("detectron2", SMALL), pyramid("detectron2", WIDE)),
    "mmdetection": lambda: (pyramid("mmdetection", SMALL), pyramid("mmdetection", WIDE)),
    "one map": lambda: (one_map("torchvision", SMALL), one_map("torchvision", WIDE)),
    "one map, fgfi": lambda: (one_map("fgfi", SMALL), one_map("fgfi", WIDE)),
    "one map of a pyramid": lambda: (one_map("torchvision", SMALL), pyramid("torchvision", WIDE)),
}


def detectors(name):
    torch.manual_seed(0)
    pair = Distillation(*PAIRS[name](), {"it": DetectorDKD()}).train()
    nn.init.normal_(pair.teacher.roi_heads.box_predictor.cls_score.weight)  # it is sure of things
    return pair


@pytest.mark.parametrize("name", PAIRS)
def test_regions_have_the_labels_that_the_box_head_is_trained_on(name, monkeypatch):
    pair = detectors(name)
    heads, trained_on = pair.student.roi_heads, {}

    def sampled(proposals, targets, sample=heads.select_training_samples):
        boxes, indices, labels, deltas = sample(proposals, targets)
        trained_on.update(boxes=boxes, labels=torch.cat(labels))
        return boxes, indices, labels, deltas

    monkeypatch.setattr(heads, "select_training_samples", sampled)
    images, targets = batches.detection_batch(3, 128)
    targets[2] = batches.nothing()
    outputs, steps = pair.run(images, targets)
    step = steps["it"]
    labels = region_labels(heads, step.student.features["regions"], step.targets)
    assert torch.equal(labels, trained_on["labels"])
    assert {0, 1, 2} <= set(labels.tolist())
    student, teacher = pair.method("it").logits_of_both(step)
    own = nn.functional.cross_entropy(student, labels)  # of the same rows
    torch.testing.assert_close(outputs["loss_classifier"], own)
    expected = decoupled(student, teacher, labels, 1.0)
    assert [*pair.method("it")(step).values()] == [*expected]


@pytest.mark.parametrize("name", PAIRS)
def test_the_teachers_box_head_looks_at_the_students_regions(name, monkeypatch):
    """As if the teacher itself had proposed them."""
    pair = detectors(name)
    images, targets = batches.detection_batch(2, 128)
    _, steps = pair.run(images, targets)
    regions = steps["it"].student.features["regions"]
    _, found = pair.method("it").logits_of_both(steps["it"])
    monkeypatch.setattr(pair.teacher.rpn, "forward", lambda *_: (regions, {}))
    with (
        torch.no_grad(),
        network_frame(pair.teacher),
        Taps(pair.teacher, ["roi_heads.box_predictor/0"]) as seen,
    ):
        pair.teacher(images)
    torch.testing.assert_close(found, seen["roi_heads.box_predictor/0"])
    assert not found.requires_grad


def test_published_values_of_a_box_head_are_the_defaults(shared):
    case = case_of(shared, "dkd.npz", "detector")
    method = DetectorDKD()
    student = case["student"].requires_grad_()
    found = decoupled(student, case["teacher"], case["labels"], method.temperature)
    parts = dict(zip(("tckd", "nckd"), found, strict=True))
    total = sum(method.weights_at(0)[part] * loss for part, loss in parts.items())
    assert_loss(total, case["loss_total"])
    total.backward()
    assert_gradient(student.grad, case["grad_student"])


def test_no_regions_at_all_cost_nothing():
    student = torch.zeros(0, 5, requires_grad=True)
    losses = decoupled(student, torch.zeros(0, 5), torch.zeros(0, dtype=torch.int64), 1.0)
    assert [loss.item() for loss in losses] == [0, 0]
    sum(losses).backward()


def test_beside_reviewkd_as_in_the_published_rows():
    methods = {"dkd": DetectorDKD(), "reviewkd": ReviewKD(["fpn"], weight=1.2)}
    pair = Distillation(*PAIRS["detectron2"](), methods).train()
    losses = pair(*batches.detection_batch(2, 128))
    parts = [name for name in losses if not name.startswith("student/")]
    assert parts == ["dkd/tckd", "dkd/nckd", *(f"reviewkd/fpn.{i}" for i in range(5))]
    losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pair.trainable_parameters())


def test_the_teacher_stops_behind_its_backbone():
    pair = detectors("torchvision")
    called = []
    hook = pair.teacher.rpn.register_forward_hook(lambda *_: called.append("rpn"))
    pair(*batches.detection_batch(2, 128))
    hook.remove()
    assert not called


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_detectors_without_a_box_head_are_refused(side):
    models = [small_models.faster_rcnn(), small_models.faster_rcnn()]
    models[side == "teacher"] = small_models.retinanet()
    with pytest.raises(ValueError, match=rf"the {side} RetinaNet has no box head .*such as CWD"):
        Distillation(*models, [DetectorDKD()])


def test_a_teacher_of_other_classes_is_refused():
    teacher = FasterRCNN(SMALL, 7, fpn_channels=16, box_head_channels=16)
    with pytest.raises(ValueError, match=r"DetectorDKD compares logits.*, 5\).*, 8\)"):
        Distillation(small_models.faster_rcnn(), teacher, [DetectorDKD()])


def test_regions_without_boxes_have_no_labels():
    pair = detectors("torchvision").eval()
    with pytest.raises(TypeError, match=r"DetectorDKD needs boxes.*NoneType"):
        pair.method("it")(pair.run(batches.detection_batch(1, 128)[0], None)[1]["it"])


def test_a_picture_has_the_true_class_on_its_dot_and_shares_of_the_rest_beside_it():
    torch.manual_seed(3)
    labels = torch.tensor([1, 0, 3])
    student, teacher = torch.randn(2, 3, 4)
    shown = DKD(temperature=2.0).picture(step_of({"logits": student}, {"logits": teacher}, labels))
    matrix = shown.matrices["teacher"]
    assert matrix.chosen.tolist() == [[0, 1], [1, 0], [2, 3]]
    probabilities = (teacher / 2).softmax(dim=1)
    true = probabilities.gather(1, labels[:, None])
    expected = (probabilities / (1 - true)).scatter(1, labels[:, None], true)
    torch.testing.assert_close(matrix.values, expected)
