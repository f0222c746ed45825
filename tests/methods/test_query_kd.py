"""Distillation by queries, beside a plain loop over them."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limbeck import Distillation
from limbeck.methods import QueryKD
from limbeck.methods.base import Side, Step
from limbeck.methods.query_kd import matched
from tests import batches, small_models, tiny_detrs

pytest.importorskip("transformers")


def sides(seed: int, queries: int, classes: int = 3, images: int = 2) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    centres, sizes = torch.rand(2, images, queries, 2).mul(0.5).add(0.25)
    boxes = torch.cat([centres, sizes], dim=-1)
    return {"logits": 3 * torch.randn(images, queries, classes), "boxes": boxes}


def step(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> Step:
    model = torch.nn.Identity()
    images = torch.zeros(len(student["boxes"]), 3, 8, 8)
    return Step(images, None, Side(model, student), Side(model, teacher), 0, 1)


def divergence(p: float, logit: Tensor) -> Tensor:
    q = logit.sigmoid()
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def giou(first: Tensor, second: Tensor) -> Tensor:
    (x1, y1), (x2, y2) = first[:2] - first[2:] / 2, first[:2] + first[2:] / 2
    (u1, v1), (u2, v2) = second[:2] - second[2:] / 2, second[:2] + second[2:] / 2
    width = (torch.minimum(x2, u2) - torch.maximum(x1, u1)).clamp(min=0)
    common = width * (torch.minimum(y2, v2) - torch.maximum(y1, v1)).clamp(min=0)
    union = first[2] * first[3] + second[2] * second[3] - common
    hull = (torch.maximum(x2, u2) - torch.minimum(x1, u1)) * (
        torch.maximum(y2, v2) - torch.minimum(y1, v1)
    )
    return common / union - (hull - union) / hull


def by_hand(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every assignment is tried, and its parts are added up one by one."""
    sums = {"class": torch.zeros(()), "l1": torch.zeros(()), "giou": torch.zeros(())}
    weights = torch.zeros(())
    for image in range(len(student["boxes"])):
        theirs = teacher["logits"][image].sigmoid()
        pairs = {}
        for q, r in itertools.product(range(len(theirs)), range(len(student["boxes"][image]))):
            ours = student["boxes"][image][r], teacher["boxes"][image][q]
            kl = sum(
                divergence(theirs[q][k].item(), student["logits"][image][r][k])
                for k in range(theirs.shape[1])
            )
            pairs[q, r] = kl, (ours[0] - ours[1]).abs().sum(), 1 - giou(*ours)
        confidence = theirs.amax(dim=1)
        costs = {pair: float(2 * kl + 5 * l1 + 2 * iou) for pair, (kl, l1, iou) in pairs.items()}
        most = max(costs.values())
        costs = {(q, r): float(confidence[q]) * (cost - most) for (q, r), cost in costs.items()}
        rows, columns = len(theirs), len(student["boxes"][image])
        few, many = min(rows, columns), max(rows, columns)
        options = (
            list(zip(order, range(few), strict=True) if rows > columns else enumerate(order))
            for order in itertools.permutations(range(many), few)
        )
        best = min(options, key=lambda option: sum(costs[pair] for pair in option))
        for q, r in best:
            weights = weights + confidence[q]
            for name, part in zip(sums, pairs[q, r], strict=True):
                sums[name] = sums[name] + confidence[q] * part
    return {name: total / weights for name, total in sums.items()}


@pytest.mark.parametrize(("ours", "theirs"), [(4, 4), (3, 5), (5, 3)])
def test_it_is_what_a_plain_loop_over_all_assignments_gives(ours: int, theirs: int) -> None:
    student, teacher = sides(1, ours), sides(2, theirs)
    for value in student.values():
        value.requires_grad_()
    losses = QueryKD()(step(student, teacher))
    found = torch.autograd.grad(sum(losses.values()), list(student.values()))
    expected = by_hand(student, teacher)
    wanted = torch.autograd.grad(sum(expected.values()), list(student.values()))
    for name in ("class", "l1", "giou"):
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-4, atol=1e-5)
    for ours_, theirs_ in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-3, atol=1e-5)


def test_a_student_that_says_the_same_in_another_order_has_nothing_to_learn() -> None:
    teacher = sides(3, 6)
    order = torch.randperm(6)
    student = {name: value[:, order] for name, value in teacher.items()}
    losses = QueryKD()(step(student, teacher))
    assert all(loss.abs() < 1e-5 for loss in losses.values())


def test_of_more_queries_those_are_left_over_of_which_the_teacher_is_least_sure() -> None:
    teacher, student = sides(4, 6, images=1), sides(5, 2, images=1)
    teacher["logits"] = torch.full((1, 6, 3), -12.0)
    teacher["logits"][0, [1, 4], 0] = 6.0
    student["boxes"] = teacher["boxes"][:, [4, 1]].clone()
    losses = QueryKD()(step(student, teacher))
    assert losses["l1"] < 1e-3


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_matching_is_one_to_one_and_no_other_costs_less(rows: int, columns: int, seed: int) -> None:
    torch.manual_seed(seed)
    costs = torch.rand(2, rows, columns)
    image, row, column = matched(costs)
    assert len(image) == 2 * min(rows, columns)
    for number in range(2):
        own = image == number
        assert len(set(row[own].tolist())) == len(set(column[own].tolist())) == int(own.sum())
        total = costs[number, row[own], column[own]].sum()
        few, many = min(rows, columns), max(rows, columns)
        square = costs[number] if rows <= columns else costs[number].T
        least = min(
            sum(square[at, each] for at, each in enumerate(order))
            for order in itertools.permutations(range(many), few)
        )
        torch.testing.assert_close(total, least)


def test_costs_that_are_not_finite_are_avoided() -> None:
    costs = torch.tensor([[[float("inf"), 1.0], [float("nan"), float("inf")]]])
    _, row, column = matched(costs)
    assert (0, 1) in set(zip(row.tolist(), column.tolist(), strict=True))


@pytest.mark.parametrize(
    ("student", "teacher"), itertools.pairwise([*tiny_detrs.CONFIGS, "rt_detr"])
)
def test_any_two_families_are_a_pair(student: str, teacher: str) -> None:
    torch.manual_seed(0)
    pair = Distillation(tiny_detrs.detector(student), tiny_detrs.detector(teacher), [QueryKD()])
    pair.train()
    losses = pair(*batches.detection_batch(2, size=64))
    for part in ("class", "l1", "giou"):
        assert losses[f"QueryKD/{part}"].isfinite()
    (losses["QueryKD/class"] + losses["QueryKD/giou"]).backward()
    reached = [n for n, p in pair.student.named_parameters() if p.grad is not None]
    assert any("backbone" in name or "conv_encoder" in name for name in reached)


def test_a_detector_without_queries_is_refused() -> None:
    with pytest.raises(ValueError, match="the student, a RetinaNet, has none"):
        Distillation(small_models.retinanet(), tiny_detrs.detector(), [QueryKD()])


def test_other_numbers_of_classes_are_refused() -> None:
    pair = tiny_detrs.detector("rt_detr"), tiny_detrs.detector("rt_detr", num_classes=4)
    with pytest.raises(ValueError, match=r"3 classes, the teacher 4|it has 4 of them"):
        Distillation(*pair, [QueryKD()])


def test_a_negative_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="QueryKD's costs"):
        QueryKD(costs=(1.0, -1.0, 1.0))


def test_queries_of_one_model_are_drawn_on_each_other() -> None:
    """Those of which it is half as sure as of its surest, in pixels."""
    model = sides(seed=2, queries=6)
    with torch.no_grad():
        shown = QueryKD().picture(step(model, model))
    teacher, student = shown.columns.values()
    confidence = model["logits"].sigmoid().amax(dim=-1)
    for image, (there, here) in enumerate(zip(teacher, student, strict=True)):
        assert torch.equal(there["boxes"], here["boxes"])
        assert torch.equal(there["labels"], here["labels"])
        sure = confidence[image] >= confidence[image].max() / 2
        assert len(there["boxes"]) == sure.sum()
        centre = 8 * model["boxes"][image, sure][:, :2]
        torch.testing.assert_close((there["boxes"][:, :2] + there["boxes"][:, 2:]) / 2, centre)
