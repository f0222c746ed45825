import numpy as np
import pytest

from limbeck.schedules import (
    Constant,
    Decay,
    EarlyStop,
    LateStart,
    Product,
    Ramp,
    Schedule,
    Staircase,
    StepDecay,
    WarmUp,
    as_schedule,
)

GOLDEN = {
    "warmup_v2_i2000": WarmUp(2.0, 2000),
    "warmup_v1_i500": WarmUp(1.0, 500),
    "earlystop_v3_i1000": EarlyStop(3.0, 1000),
    "decay_v3_i1000": Decay(3.0, 1000),
    "constant_v4": Constant(4.0),
    "linear_1to5_500to1500": Ramp(1.0, 5.0, 500, 1500),
    "step_v2_iters1_1000_2000_r01": StepDecay(2.0, (1, 1000, 2000), 0.1),
    "chained_warmup2x_decay1_v05": Product([Constant(0.5), WarmUp(2.0, 2000), Decay(1.0, 1000)]),
}


def test_every_scheduler_of_heads_library(shared):
    golden = np.load(shared / "golden/head/schedulers.npz")
    steps = golden["iters"].tolist()
    assert set(golden.files) == {"iters", *GOLDEN}
    for name, schedule in GOLDEN.items():
        ours = [schedule.at(step) for step in steps]
        np.testing.assert_allclose(ours, golden[name], rtol=1e-12, err_msg=name)


def test_first_step_of_a_warm_up_weighs_exactly_nothing():
    assert WarmUp(2.0, 10).at(0) == 0.0
    assert [WarmUp(2.0, 4).at(step) for step in range(6)] == [0, 0.5, 1.0, 1.5, 2.0, 2.0]


def test_ends_are_exact():
    assert (EarlyStop(3.0, 10).at(10), EarlyStop(3.0, 10).at(11)) == (3.0, 0.0)
    assert (Decay(3.0, 10).at(0), Decay(3.0, 10).at(10), Decay(3.0, 10).at(11)) == (3.0, 0.0, 0.0)
    assert [StepDecay(2.0, (2, 4), 0.5).at(step) for step in range(6)] == [0, 0, 2, 2, 1, 1]


def test_a_staircase_of_epochs_is_the_published_warm_up(shared):
    golden = np.load(shared / "golden/modern/dkd.npz")
    schedule = Staircase(8.0, stairs=20, every=782)
    for epoch, factor in zip(golden["warmup20.epoch"], golden["warmup20.factor"], strict=True):
        first, last = (int(epoch) - 1) * 782, int(epoch) * 782 - 1
        assert schedule.at(first) == schedule.at(last) == pytest.approx(8.0 * factor, rel=1e-12)


def test_a_staircase_stands_still_between_its_steps():
    at = [Staircase(2.0, stairs=4, every=2).at(step) for step in range(9)]
    assert at == [0.5, 0.5, 1.0, 1.0, 1.5, 1.5, 2.0, 2.0, 2.0]
    from_zero = [Staircase(2.0, stairs=2, every=1, first=0).at(step) for step in range(4)]
    assert from_zero == [0, 1, 2, 2]
    assert Staircase(3.0, stairs=1, every=5).at(0) == 3.0


@pytest.mark.parametrize("weight", [2, 2.0])
def test_a_number_is_a_constant(weight):
    schedule = as_schedule(weight)
    assert isinstance(schedule, Schedule)
    assert schedule.at(0) == schedule.at(10**6) == 2.0


def test_a_schedule_stays_itself():
    schedule = WarmUp(1.0, 2)
    assert as_schedule(schedule) is schedule


@pytest.mark.parametrize(
    "make",
    [
        lambda: as_schedule(-1.0),
        lambda: Constant(float("nan")),
        lambda: Ramp(1.0, -5.0, 0, 10),
        lambda: Ramp(1.0, 5.0, 10, 5),
        lambda: Ramp(1.0, 5.0, -10, 5),
        lambda: WarmUp(-2.0, 10),
        lambda: WarmUp(2.0, -10),
        lambda: Decay(1.0, -1),
        lambda: EarlyStop(1.0, -1),
        lambda: LateStart(-1.0, 1),
        lambda: Staircase(-1.0, 20, 782),
        lambda: Staircase(1.0, 0, 782),
        lambda: Staircase(1.0, 20, 0),
        lambda: Staircase(1.0, 20, 782, first=-1),
        lambda: StepDecay(1.0, (1, -2), 0.5),
        lambda: StepDecay(1.0, (1, 2), -0.5),
    ],
)
def test_weights_and_steps_are_not_negative_and_ends_come_last(make):
    with pytest.raises(ValueError, match=r"is .*; expected"):
        make()
