"""ReviewKD against the authors' modules, and at places that they do not take."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck, ResNet

from limbeck import Distillation
from limbeck.methods import ReviewKD, Step
from limbeck.methods.reviewkd import (
    OneValueBatchNorm2d,
    OneValueSyncBatchNorm,
    hierarchical_loss,
)
from limbeck.models import Classifier
from limbeck.schedules import Staircase
from tests import batches, small_models
from tests.methods.modern import assert_gradient, assert_loss, case_of, step_of

CASES = ["cls_same", "cls_other_strides", "det"]
WRITTEN = {"reduce": "conv1", "attention": "att_conv.0", "expand": "conv2"}


def written(own: str, levels: int) -> str:
    """The original's name of a parameter or buffer of ours: its levels begin at the coarsest."""
    _, level, layer, inside = own.split(".", 3)
    return f"{levels - 1 - int(level.removeprefix('fpn_'))}.{WRITTEN[layer]}.{inside}"


def golden(shared: Path, name: str) -> tuple[dict[str, Tensor], ReviewKD, Step, list[Tensor]]:
    """The case, the method with the authors' parameters, the step, and the student's maps."""
    case = case_of(shared, "reviewkd.npz", name)
    levels = range(sum(key.startswith("student.") for key in case))
    students = [case[f"student.{i}"].requires_grad_() for i in levels]
    teachers = [case[f"teacher.{i}"] for i in levels]
    if name != "det":  # the last is a vector
        teachers[-1] = teachers[-1].flatten(1)
    stairs = int(case.get("warmup_epochs", 1))
    method = ReviewKD(["fpn"], Staircase(float(case.get("weight", 1)), stairs, every=1, first=0))
    maps = [*students[:-1], students[-1] if name == "det" else students[-1].flatten(1)]
    step = step_of({"fpn": maps}, {"fpn": teachers})
    method.setup(step)
    with torch.no_grad():
        for own, parameter in method.named_parameters():
            parameter.copy_(case[f"param.{written(own, len(levels))}"])
    return case, method.train(), step, students


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_the_authors(shared: Path, name: str) -> None:
    case, method, step, students = golden(shared, name)
    losses = method(step)
    for level, loss in enumerate(losses.values()):
        assert_loss(loss, case[f"loss.{level}"])
    total = sum(losses.values())
    assert_loss(total, case["loss"])
    total.backward()
    for level, student in enumerate(students):
        assert_gradient(student.grad, case[f"grad_student.{level}"])
    for own, parameter in method.named_parameters():
        assert_gradient(parameter.grad, case[f"grad.{written(own, len(students))}"])


@pytest.mark.parametrize("name", CASES)
def test_results_and_statistics_are_the_authors(shared: Path, name: str) -> None:
    case, method, step, students = golden(shared, name)
    for level, result in enumerate(method.reviewed(step).values()):
        torch.testing.assert_close(result, case[f"result.{level}"], rtol=1e-4, atol=1e-4)
    if name != "det":
        for own, buffer in method.named_buffers():
            if "running" in own:
                expected = case[f"after.{written(own, len(students))}"]
                torch.testing.assert_close(buffer, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["cls_same", "cls_other_strides"])
def test_weight_and_channels_are_the_authors(shared: Path, name: str) -> None:
    case, method, step, _ = golden(shared, name)
    (weight,) = set(method.weights_at(int(case["epoch"])).values())  # a step is an epoch here
    assert_loss(weight * sum(method(step).values()), case["loss_weighted"])
    assert method.fusions["fpn.0"].expand[0].in_channels == int(case["mid_channels"])


def classifiers(method: ReviewKD) -> Distillation:
    return Distillation(small_models.resnet(), small_models.resnet(Bottleneck), {"it": method})


@pytest.mark.parametrize("count", [1, 2])
def test_the_pooled_vector_of_any_number_of_images(count: int) -> None:
    """A channel of one value has no variance: a plain batch norm raises an error there."""
    pair = classifiers(ReviewKD(mid_channels=8)).train()
    pair.student.eval()  # its own norms would raise it too
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        nn.BatchNorm2d(3).train()(torch.rand(1, 3, 1, 1))
    losses = pair(batches.pictures(count), batches.labels(count))
    parts = [name for name in losses if name.startswith("it/")]
    assert parts == [f"it/{place}" for place in ("C2", "C3", "C4", "C5", "pooled")]
    losses.total.backward()
    assert all(p.grad.isfinite().all() for p in pair.methods.parameters())
    assert pair.methods["it"].fusions["pooled"].reduce[0].weight.grad.abs().sum() > 0


def test_levels_of_one_cell_in_a_detector_and_one_image() -> None:
    models = small_models.retinanet(), small_models.retinanet(Bottleneck, channels=48)
    pair = Distillation(*models, {"it": ReviewKD(["fpn"])}).train()
    losses = pair(*batches.detection_batch(1, 128))  # P7 is 1 x 1
    losses.total.backward()
    assert all(loss.isfinite() for loss in losses.raw.values())
    assert all(p.grad.isfinite().all() for p in pair.methods.parameters())


def test_synchronised_norms_of_one_process_and_one_image() -> None:
    """They fall back to plain ones, which refuse a channel of one value: C5 of 32 px is 1 x 1."""
    student = Classifier("resnet18", small_models.CLASSES, norm="synchronised")
    pair = Distillation(student, small_models.resnet(Bottleneck), {"it": ReviewKD(["C4", "C5"])})
    pair.train().student.eval()  # its own norms would raise it too
    losses = pair(batches.pictures(1, 32), batches.labels(1))
    losses.total.backward()
    assert all(loss.isfinite() for loss in losses.raw.values())
    assert all(p.grad.isfinite().all() for p in pair.methods.parameters())


@pytest.mark.parametrize("norm", [OneValueBatchNorm2d, OneValueSyncBatchNorm])
def test_a_norm_of_several_values_is_the_plain_one(norm: type[nn.Module]) -> None:
    own, plain = norm(3), nn.BatchNorm2d(3)
    values = torch.rand(1, 3, 1, 2)
    assert torch.equal(own(values), plain(values))
    assert torch.equal(own.running_var, plain.running_var)


@pytest.mark.parametrize("size", [(3, 9), (1, 4), (6, 2)])
def test_height_and_width_count_alike(size: tuple[int, int]) -> None:
    """By the height alone, a map of 3 x 9 and one of 9 x 3 have different averages."""
    student, teacher = torch.rand(2, 2, 3, *size)
    turned = hierarchical_loss(student.mT, teacher.mT)
    torch.testing.assert_close(hierarchical_loss(student, teacher), turned)


def test_the_averages_and_their_weights() -> None:
    student, teacher = torch.rand(2, 2, 3, 6, 8)

    def error(cells: int) -> Tensor:
        pooled = (nn.functional.adaptive_avg_pool2d(x, cells) for x in (student, teacher))
        return nn.functional.mse_loss(*pooled)

    whole = nn.functional.mse_loss(student, teacher)
    expected = (whole + error(4) / 2 + error(2) / 4 + error(1) / 8) / 1.875
    torch.testing.assert_close(hierarchical_loss(student, teacher), expected)
    flat = hierarchical_loss(student[..., :2, :], teacher[..., :2, :])  # 1 alone is smaller than 2
    averages = (x[..., :2, :].mean((2, 3)) for x in (student, teacher))
    error_of_all = nn.functional.mse_loss(student[..., :2, :], teacher[..., :2, :])
    torch.testing.assert_close(flat, (error_of_all + nn.functional.mse_loss(*averages) / 2) / 1.5)


def test_norms_are_synchronised_where_the_students_are() -> None:
    student = Classifier("resnet18", small_models.CLASSES, norm="synchronised")
    pair = Distillation(student, small_models.resnet(Bottleneck), {"it": ReviewKD(["C4", "C5"])})
    norms = [m for m in pair.methods.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert {type(norm) for norm in norms} == {OneValueSyncBatchNorm}
    plain = classifiers(ReviewKD(["C4", "C5"]))
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in plain.methods.modules())


def test_as_many_channels_as_the_coarsest_map_or_as_are_said() -> None:
    for mid, expected in ((None, 128), (24, 24)):
        fusions = classifiers(ReviewKD(["C4", "C5"], mid_channels=mid)).methods["it"].fusions
        assert {f.reduce[0].out_channels for f in fusions.values()} == {expected}
    wide = Distillation(*(ResNet(Bottleneck, [1] * 4) for _ in range(2)), [ReviewKD(["C5"])])
    assert wide.methods["ReviewKD"].fusions["C5"].reduce[0].out_channels == 512


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["C5", "C4"], r"maps are C5 4 x 4, C4 8 x 8; expected them from the finest"),
        ({"C4": "layer3.0", "C5": "logits"}, None),
    ],
)
def test_the_order_of_places(places: object, message: str | None) -> None:
    if message is None:  # a vector counts as a map of one cell
        assert classifiers(ReviewKD(places)).methods["it"].weights == {"C4": 1.0, "C5": 1.0}
        return
    with pytest.raises(ValueError, match=message):
        classifiers(ReviewKD(places))


def test_unequal_numbers_of_levels_and_channels_of_none_are_refused() -> None:
    models = small_models.retinanet(), small_models.retinanet()
    with pytest.raises(ValueError, match=r"ReviewKD: the student has 5 features .*, the teacher 1"):
        Distillation(*models, [ReviewKD({"fpn": "P3"})])
    with pytest.raises(ValueError, match="mid_channels is 0"):
        ReviewKD(mid_channels=0)
