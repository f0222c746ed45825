from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from limbeck.methods import MGD
from limbeck.methods.mgd.matching import channel_distances, cheapest_columns
from tests.methods.mgd.steps import calibrated, flow_of, random_step, step_of
from tests.observation import Allocated


@st.composite
def costs(draw):
    """A cost matrix (S, T) and k = T // S or less; whole numbers, so that there are ties."""
    channels, count, more = (
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(0, 2)),
    )
    teachers = min(channels * count, 6) + more
    values = st.lists(
        st.integers(0, 20), min_size=channels * teachers, max_size=channels * teachers
    )
    return np.array(draw(values), float).reshape(channels, teachers), teachers // channels


@settings(max_examples=60)
@given(costs())
def test_the_assignment_is_the_cheapest_there_is(drawn):
    cost, count = drawn
    channels, teachers = cost.shape
    flow = cheapest_columns(cost, count)
    assert flow.shape == (channels, count)
    assert len(set(flow.flatten().tolist())) == channels * count
    copies = np.tile(np.arange(channels), count)
    cheapest = min(
        sum(cost[copies, list(chosen)]) for chosen in permutations(range(teachers), len(copies))
    )
    assert np.take_along_axis(cost, flow, axis=1).sum() == cheapest


def test_distances_are_of_channels_of_length_one():
    features = random_step()
    student, teacher = features.student.features["C4"], features.teacher.features["C4"]
    student[0, 1] = 0  # a dead channel
    expected = torch.zeros(4, 8)
    for image in range(3):
        for i in range(4):
            for j in range(8):
                a, b = student[image, i].flatten(), teacher[image, j].flatten()
                cosine = 0 if not a.any() else a @ b / a.norm() / b.norm()
                expected[i, j] += 2 - 2 * cosine
    torch.testing.assert_close(channel_distances(student, teacher), expected)


def test_costs_add_up_over_batches():
    """Of different numbers of images, and of different sizes."""
    first, second = random_step(images=3), random_step(images=1, seed=1)
    wide = step_of({"C4": torch.randn(2, 4, 7, 3)}, {"C4": torch.randn(2, 8, 7, 3)})
    method = MGD(["C4"])
    method.setup(first)
    for step in (first, second, wide):
        method.observe(step)
    total = sum(
        channel_distances(step.student.features["C4"], step.teacher.features["C4"]).double()
        for step in (first, second, wide)
    )
    torch.testing.assert_close(method.stages["C4"].cost, total)
    assert method.stages["C4"].cost.dtype is torch.float64
    assert method.observed == 6


def test_every_calibration_starts_from_nothing():
    first, second = random_step(), random_step(seed=1)
    method = calibrated(MGD(["C4"]), first)
    method.observe(second)
    method.solve()
    assert torch.equal(flow_of(method), flow_of(calibrated(MGD(["C4"]), second)))
    assert not torch.equal(flow_of(method), flow_of(calibrated(MGD(["C4"]), first)))
    assert method.found_on == 3


def test_the_norm_of_the_student_has_no_part_in_the_flow():
    step = random_step()
    method = MGD(["C4"])
    method.setup(step)
    nn.init.normal_(method.stages["C4"].norm.weight)
    method.observe(step)
    method.solve()
    assert torch.equal(flow_of(method), flow_of(calibrated(MGD(["C4"]), step)))
    assert method.stages["C4"].norm.num_batches_tracked == 0


def test_costs_are_exact_under_autocast():
    step, method = random_step(), MGD(["C4"])
    method.setup(step)
    with torch.autocast("cpu", torch.bfloat16):
        method.observe(step)
    expected = channel_distances(step.student.features["C4"], step.teacher.features["C4"])
    assert torch.equal(method.stages["C4"].cost, expected.double())


@pytest.mark.parametrize(("remainder", "sign"), [("cost", -1), ("index", 1)])
def test_the_remainder_is_cut_by_cost_or_by_index(remainder, sign):
    """The last teacher channel is the student's own, the first one its opposite."""
    maps = torch.randn(2, 3, 4, 4)
    teacher = torch.cat([-maps[:, :1], torch.randn(2, 5, 4, 4), maps[:, :1]], dim=1)
    method = calibrated(MGD(["C4"], remainder=remainder), step_of({"C4": maps}, {"C4": teacher}))
    assert (6 in flow_of(method)[0]) == (sign == -1)
    assert (6 in flow_of(method)) == (sign == -1)
    assert flow_of(method).shape == (3, 2)


def test_sparse_matching_chooses_among_all_channels():
    maps = torch.randn(2, 3, 4, 4)
    teacher = torch.cat([torch.randn(2, 5, 4, 4), maps], dim=1)
    method = MGD(["C4"], "sm", remainder="index")
    calibrated(method, step_of({"C4": maps}, {"C4": teacher}))
    assert flow_of(method).tolist() == [[5], [6], [7]]


def test_matching_keeps_no_product_for_each_image():
    student, teacher = torch.randn(16, 64, 3, 3), torch.randn(16, 256, 3, 3)
    with Allocated() as new:
        channel_distances(student, teacher)
    product = 16 * 64 * 256 * 4
    inputs = student.nbytes + teacher.nbytes
    result = 64 * 256 * 4
    assert sum(new.sizes) <= 3 * inputs + 2 * result < product
