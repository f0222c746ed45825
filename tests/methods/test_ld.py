import math

import pytest
import torch

from limbeck import Distillation
from limbeck.methods import HEAD, LD
from limbeck.methods.base import Side, Step
from limbeck.methods.ld import divergence, valuable_region
from limbeck.models import GFL, BasicBlocks
from limbeck.models.detection.parts.atss import ATSSMatcher, cells_inside
from limbeck.models.detection.parts.matcher import IGNORED
from tests import batches, small_models
from tests.methods.modern import assert_gradient, assert_loss, case_of
from tests.models.detection.parts.test_atss import COUNTS, anchors_of, boxes_of, oracle, plain_iou

BINS, CLASSES = 17, 3


# -- the published numbers -------------------------------------------------------------------------


def test_distributions_at_positives_cost_what_the_authors_say(shared):
    case = case_of(shared, "ld.npz", "main")
    student = case["student"].requires_grad_()
    sides = divergence(student, case["teacher"], case["temperature"].item()).view(7, 4)
    loss = (case["weight"][:, None] * sides).sum() / 4
    assert_loss(loss, case["loss"])
    assert_loss(LD().weights["main"] * loss, case["loss_weighted"])
    loss.backward()
    assert_gradient(student.grad, case["grad_student"])
    region = case_of(shared, "ld.npz", "vlr")["loss_weighted"]
    assert_loss(LD().weights["region"] * loss / 4, region)


def test_classes_at_positives_cost_what_the_authors_say(shared):
    case = case_of(shared, "ld.npz", "kd")
    student = case["student"].requires_grad_()
    loss = divergence(student, case["teacher"], case["temperature"].item()).mean()
    weight = LD().weights["classification"]
    assert weight == case["loss_weight"]
    assert_loss(weight * loss, case["loss_weighted"])
    loss.backward()
    assert_gradient(student.grad, case["grad_student"])


@pytest.mark.parametrize(("region_by", "key"), [("published", "vlr"), ("diou", "vlr_true_diou")])
@pytest.mark.parametrize("name", ["one", "two", "overlapping"])
def test_the_valuable_region_is_the_authors(shared, name, region_by, key):
    regions = case_of(shared, "ld.npz", "regions")
    case = case_of(shared, "ld.npz", f"regions.{name}")
    anchors, boxes = regions["anchors"], case["boxes"]
    matcher = ATSSMatcher(int(regions["topk"]))
    _, thresholds = matcher.with_thresholds(
        [{"boxes": boxes}], anchors, regions["per_level"].tolist()
    )
    image = torch.zeros(len(boxes), dtype=torch.long)
    found = valuable_region(boxes, image, anchors, thresholds, 1, region_by)
    assert (case["vlr"] > 0).sum() != (case["vlr_true_diou"] > 0).sum()
    torch.testing.assert_close(found[0], case[key])


# -- a whole step ----------------------------------------------------------------------------------


class Student(torch.nn.Module):
    """What LD asks of a student but for its features."""

    proposal_matcher = ATSSMatcher()


def step_of(images, seed=0):
    """A step in which heads gave random numbers for the anchors of ``anchors_of``."""
    generator = torch.Generator().manual_seed(seed)
    anchors = anchors_of()

    def head():
        return {
            "cls_logits": torch.randn(len(images), len(anchors), CLASSES, generator=generator),
            "bbox_regression": torch.randn(len(images), len(anchors), 68, generator=generator),
        }

    student, teacher = head(), head()
    for value in student.values():
        value.requires_grad_()
    features = {"head": student, "anchors": [list(anchors.split(COUNTS))] * len(images)}
    targets = [{"boxes": boxes} for boxes in images]
    sides = Side(Student(), features), Side(torch.nn.Identity(), {"head": teacher})
    return Step([], targets, *sides, number=0, world_size=1)


def plain_divergence(student, teacher, temperature):
    def softmax(z):
        shares = [math.exp(v / temperature) for v in z]
        return [v / sum(shares) for v in shares]

    p, q = softmax(teacher), softmax(student)
    terms = [a * math.log(a / b) for a, b in zip(p, q, strict=True)]
    return temperature**2 * sum(terms) / len(terms)


def plain_diou(box, anchor):
    hull = [*map(min, box[:2], anchor[:2]), *map(max, box[2:], anchor[2:])]
    diagonal = (hull[2] - hull[0]) ** 2 + (hull[3] - hull[1]) ** 2
    apart = sum((box[i] + box[i + 2] - anchor[i] - anchor[i + 2]) ** 2 / 4 for i in (0, 1))
    return plain_iou(box, anchor) - apart / diagonal


def plain_losses(step):
    """The three losses in loops, with the paper's DIoU; and the sum of the positives' scores."""
    anchors = torch.cat(step.student.features["anchors"][0]).tolist()
    ends = [sum(COUNTS[: i + 1]) for i in range(len(COUNTS))]
    student, teacher = (
        {n: v.tolist() for n, v in side.features["head"].items()}
        for side in (step.student, step.teacher)
    )
    main = region = total = 0.0
    of_level = [[] for _ in COUNTS]
    for i, target in enumerate(step.targets):
        boxes = target["boxes"].tolist()
        owner, thresholds = oracle(boxes, anchors, COUNTS)
        for a, anchor in enumerate(anchors):
            ours, theirs = (side["bbox_regression"][i][a] for side in (student, teacher))
            spans = [slice(k * BINS, (k + 1) * BINS) for k in range(4)]
            sides = sum(plain_divergence(ours[span], theirs[span], 10.0) for span in spans)
            near = [
                plain_iou(box, anchor)
                for box, theta in zip(boxes, thresholds, strict=True)
                if theta / 4 <= plain_diou(box, anchor) < theta
            ]
            region += max(near, default=0.0) * sides / 16
            if owner[a] >= 0:
                score = max(1 / (1 + math.exp(-v)) for v in student["cls_logits"][i][a])
                main += score * sides / 4
                total += score
                classes = (side["cls_logits"][i][a] for side in (student, teacher))
                level = next(k for k, end in enumerate(ends) if a < end)
                of_level[level].append(plain_divergence(*classes, 2.0))
    classes = sum(sum(each) / len(each) for each in of_level if each)
    return {"main": main, "region": region, "classification": classes}, total


@pytest.fixture
def step():
    generator = torch.Generator().manual_seed(1)
    return step_of([boxes_of(4, generator), torch.zeros(0, 4), boxes_of(3, generator)])


@pytest.mark.parametrize("divided", [False, True])
def test_losses_are_those_of_loops_over_all_anchors(step, divided):
    found = LD(region_by="diou", divided=divided)(step)
    expected, total = plain_losses(step)
    assert total > 2
    assert list(found) == ["main", "region", "classification"]
    for part, loss in found.items():
        divisor = total if divided and part != "classification" else 1.0
        assert loss.item() == pytest.approx(expected[part] / divisor, rel=1e-4), part


def test_gradients_go_to_distributions_and_to_the_classes_at_positives_alone(step):
    losses = LD()(step)
    outputs = step.student.features["head"]
    (losses["main"] + losses["region"]).backward()
    assert outputs["cls_logits"].grad is None
    losses["classification"].backward()
    matched, region = LD().chosen(step)
    assert outputs["bbox_regression"].grad.any(dim=2).equal((matched >= 0) | (region > 0))
    assert outputs["cls_logits"].grad.any(dim=2).equal(matched >= 0)


@pytest.mark.parametrize("divided", [False, True])
def test_a_batch_without_boxes_costs_nothing(divided):
    """The original raises there."""
    step = step_of([torch.zeros(0, 4)] * 2)
    losses = LD(divided=divided)(step)
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0, 0.0]
    sum(losses.values()).backward()
    outputs = step.student.features["head"]
    assert all(not value.grad.any() for value in outputs.values())


def test_undivided_losses_grow_with_the_batch_and_divided_ones_do_not():
    images = [boxes_of(3, torch.Generator().manual_seed(2))]
    for divided, times in ((False, 2.0), (True, 1.0)):
        once, twice = step_of(images), step_of(images * 2)
        for name in ("cls_logits", "bbox_regression"):
            for one, two in ((once.student, twice.student), (once.teacher, twice.teacher)):
                two.features["head"][name] = torch.cat([one.features["head"][name]] * 2)
        one, two = (LD(divided=divided)(step) for step in (once, twice))
        torch.testing.assert_close(two["main"], times * one["main"])
        torch.testing.assert_close(two["region"], times * one["region"])
        torch.testing.assert_close(two["classification"], one["classification"])


def test_extreme_logits_are_finite():
    student = torch.tensor([[500.0, 0.0, -500.0]], requires_grad=True)
    loss = divergence(student, torch.tensor([[-500.0, 0.0, 500.0]]), 1.0)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert student.grad.isfinite().all()


# -- pairs -----------------------------------------------------------------------------------------


def gfl(classes=small_models.CLASSES, **arguments):
    shape = BasicBlocks((1, 1, 1, 1), (8, 8, 8, 8))
    return GFL(shape, classes, **{"fpn_channels": 32, "head_depth": 1} | arguments)


@pytest.mark.parametrize("parts", [{"region": None, "classification": None}, {"main": None}])
def test_parts_that_have_no_weight_are_left_out(parts):
    pair = Distillation(gfl(), gfl(), {"ld": LD(**parts)})
    losses = pair.train()(*batches.detection_batch(2, 128))
    found = [name.removeprefix("ld/") for name in losses if name.startswith("ld/")]
    assert found == [p for p in ("main", "region", "classification") if p not in parts]


def test_cells_on_the_padding_of_smaller_images_are_left_out():
    pair = Distillation(gfl(), gfl(), {"ld": LD()}).train()
    images = [torch.rand(3, 128, 160), torch.rand(3, 64, 96)]
    _, targets = batches.detection_batch(2)
    step = pair.run(images, targets)[1]["ld"]
    matched, region = pair.methods["ld"].chosen(step)
    inside = cells_inside(step.targets, torch.cat(step.student.features["anchors"][0]))
    assert inside[0].all()
    assert not inside[1].all()
    assert (matched == IGNORED).equal(~inside)
    assert (region > 0)[1].any()
    assert not region[~inside].any()


def test_a_pair_of_unequal_channels_is_distilled_without_adapters():
    pair = Distillation(gfl(), gfl(fpn_channels=64, head_depth=2), [LD()])
    assert not list(pair.methods["LD"].parameters())
    losses = pair.train()(*batches.detection_batch(2, 128))
    losses.total.backward()
    assert all(losses.raw[f"LD/{part}"] > 0 for part in ("main", "region", "classification"))


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (lambda: (small_models.retinanet(), gfl()), "the student is a RetinaNet"),
        (lambda: (gfl(), small_models.retinanet()), "the teacher is a RetinaNet"),
        (lambda: (gfl(), None), "this method needs a teacher"),
        (lambda: (gfl(), gfl(levels=(3, 5))), r"the student's gives \d+ x 68 .* \d+ x 68"),
        (lambda: (gfl(), gfl(classes=7)), "of classes the student's gives .* x 4 .* x 7"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(pair, message):
    with pytest.raises(ValueError, match=message):
        Distillation(*pair(), [LD()])


def test_a_teacher_of_other_classes_teaches_where_boxes_lie():
    pair = Distillation(gfl(), gfl(classes=7), [LD(classification=None)])
    assert "LD/main" in pair.train()(*batches.detection_batch(2, 128))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "LD's temperature"),
        ({"class_temperature": -1.0}, "LD's class_temperature"),
        ({"region_by": "iou"}, "region_by is 'iou'; expected published or diou"),
        ({"main": None, "region": None, "classification": None}, "nothing is distilled"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LD(**arguments)


def test_the_picture_shows_the_distilled_cells_of_each_level():
    pair = Distillation(gfl(), gfl(), {"ld": LD()})
    images, targets = batches.detection_batch(2, 128)
    picture = pair.picture(images, targets, "ld")
    assert list(picture.columns) == [f"stride {s}" for s in (8, 16, 32, 64, 128)]
    assert all(len(column) == 2 for column in picture.columns.values())
    assert picture.columns["stride 8"][0].shape == (128, 128)
    shown = torch.cat([of_image.flatten() for of_image in picture.columns["stride 8"]])
    assert set(shown.tolist()) == {0.0, 0.5, 1.0}  # the region and the main part


def test_a_gfl_is_a_student_of_head_and_no_teacher_of_its_mirror():
    teacher = small_models.faster_rcnn()
    pair = Distillation(gfl(), teacher, {"head": HEAD(akd=1.0, ckd=1.0, transfer=False)})
    losses = pair.train()(*batches.detection_batch(2, 128))
    losses.total.backward()
    assert losses.raw["head/ckd"] > 0
    with pytest.raises(ValueError, match="the teacher GFL is no RetinaNet"):
        Distillation(small_models.faster_rcnn(), gfl(), {"head": HEAD()})
