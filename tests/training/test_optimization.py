import math

import numpy as np
import pytest
import torch
from timm.layers.norm import RmsNorm
from torch import nn

from limbeck.models import RetinaNet
from limbeck.models.norms import AffineBatchNorm2d
from limbeck.training.optimization import LearningRate, Optimizer, norm_parameters


class Named(nn.Module):
    """A student with a pretrained trunk and a head, and an adapter beside it."""

    def __init__(self) -> None:
        super().__init__()
        convs = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        trunk = nn.ModuleDict({"conv": convs[0], "norm": nn.BatchNorm2d(4), "conv2": convs[1]})
        self.student = nn.ModuleDict({"trunk": trunk, "head": nn.Linear(4, 2)})
        self.adapter = nn.Conv2d(4, 8, 1)


def groups_of(optimizer: Optimizer) -> dict[str, tuple[float, float]]:
    """(learning rate, weight decay) by parameter name."""
    model = Named()
    built = optimizer.build(model.named_parameters(), norm_parameters(model))
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        names[id(p)]: (group["lr"], group["weight_decay"])
        for group in built.param_groups
        for p in group["params"]
    }
    assert found.keys() == dict(model.named_parameters()).keys()
    return found


def test_everything_learns_alike_by_default() -> None:
    assert set(groups_of(Optimizer(lr=0.3, weight_decay=0.2)).values()) == {(0.3, 0.2)}


def test_a_factor_holds_for_its_prefix_and_the_longest_prefix_wins() -> None:
    factors = {"trunk": 0.1, "trunk.conv": 0.5}
    found = groups_of(Optimizer(lr=2.0, weight_decay=0.0, lr_factors=factors))
    rates = {name: rate for name, (rate, _) in found.items()}
    assert rates["student.trunk.conv.weight"] == pytest.approx(1.0)
    assert rates["student.trunk.conv2.weight"] == pytest.approx(0.2)  # a name, not its beginning
    assert rates["student.trunk.norm.bias"] == pytest.approx(0.2)
    assert rates["student.head.weight"] == rates["adapter.weight"] == 2.0


def test_norms_may_decay_otherwise() -> None:
    decays = {n: d for n, (_, d) in groups_of(Optimizer(norm_weight_decay=0.0)).items()}
    free = {name for name, decay in decays.items() if decay == 0.0}
    assert free == {"student.trunk.norm.weight", "student.trunk.norm.bias"}
    assert {decay for name, decay in decays.items() if name not in free} == {0.01}


@pytest.mark.parametrize("norm", [nn.RMSNorm(4), RmsNorm(4)])
def test_root_mean_square_norms_are_norms(norm: nn.Module) -> None:
    model = nn.Sequential(nn.Linear(4, 4), norm)
    assert norm_parameters(model) == {id(parameter) for parameter in norm.parameters()}


BIASES = {
    "student.trunk.conv.bias",
    "student.trunk.conv2.bias",
    "student.head.bias",
    "adapter.bias",
}


def test_biases_may_decay_otherwise_and_learn_faster_and_norms_have_none() -> None:
    """Faster R-CNN's: twice the rate and no decay, of the student and of adapters alike."""
    optimizer = Optimizer("sgd", 0.1, 5e-4, bias_weight_decay=0.0, bias_lr_factor=2.0)
    found = groups_of(optimizer)
    assert {name for name, group in found.items() if group == (0.2, 0.0)} == BIASES
    assert {group for name, group in found.items() if name not in BIASES} == {(0.1, 5e-4)}


def test_a_bias_has_its_prefix_s_factor_too() -> None:
    found = groups_of(Optimizer(lr=1.0, bias_lr_factor=2.0, lr_factors={"trunk": 0.25}))
    assert {name: found[name] for name in BIASES} == {
        name: (0.5 if "trunk" in name else 2.0, 0.01) for name in BIASES
    }
    assert found["student.trunk.norm.bias"] == (0.25, 0.01)


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(4), nn.GroupNorm(2, 4), nn.LayerNorm(4), nn.SyncBatchNorm(4)]
)
def test_every_kind_of_norm_is_one(norm: nn.Module) -> None:
    assert norm_parameters(nn.Sequential(nn.Linear(4, 4), norm)) == {
        id(parameter) for parameter in norm.parameters()
    }


def test_a_factor_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lr_factors names bckbone, trunk\.con, with which no"):
        groups_of(Optimizer(lr_factors={"trunk.con": 0.1, "bckbone": 0.1, "head": 0.5}))


def test_weights_of_a_prefix_may_decay_otherwise() -> None:
    """ShuffleDet's: the kernels of its head and of the adapter alone."""
    decays = {"head": 5e-4, "adapter": 5e-4}
    optimizer = Optimizer("sgd", 0.1, 0.0, bias_weight_decay=0.0, weight_decays=decays)
    found = {name for name, (_, decay) in groups_of(optimizer).items() if decay}
    assert found == {"student.head.weight", "adapter.weight"}


def test_a_decay_for_nothing_is_refused_unless_it_is_a_method_s() -> None:
    with pytest.raises(ValueError, match="weight_decays names haed, with which no"):
        groups_of(Optimizer(weight_decays={"haed": 0.1}))
    groups_of(Optimizer(weight_decays={"methods": 0.1}, lr_factors={"methods.imitation": 2.0}))


def test_each_gradient_is_clipped_by_itself() -> None:
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    gradients = [(3.0, 4.0), (0.3, 0.4)]
    for parameter, gradient in zip(parameters, gradients, strict=False):
        parameter.grad = torch.tensor(gradient)  # the third has none
    sgd = torch.optim.SGD(parameters, 1.0)
    Optimizer(clip_each=1.0).clip(sgd)
    assert torch.allclose(parameters[0].grad, torch.tensor([0.6, 0.8]), atol=1e-5)
    assert parameters[1].grad.tolist() == pytest.approx([0.3, 0.4])
    Optimizer().clip(sgd)
    assert parameters[1].grad.tolist() == pytest.approx([0.3, 0.4])


def test_a_student_without_anything_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is trained: every parameter of the student is"):
        Optimizer().build([], set())


def test_sgd_and_adamw_get_their_own_arguments() -> None:
    parameters = [("w", nn.Parameter(torch.ones(1)))]
    sgd = Optimizer(name="sgd", lr=0.1, momentum=0.8, nesterov=True).build(parameters, set())
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.param_groups[0]["momentum"], sgd.param_groups[0]["nesterov"]) == (0.8, True)
    assert isinstance(Optimizer().build(parameters, set()), torch.optim.AdamW)


# -- learning rates -----------------------------------------------------------------------------


TRAINED = [("w", nn.Parameter(torch.zeros(1)))]


def course(rate: LearningRate, total: int, per_epoch: int = 10, peak: float = 0.01) -> list[float]:
    """The learning rate of each step of a run."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak, momentum=0.9)
    scheduler = rate.build(optimizer, total, per_epoch)
    rates = []
    for _ in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_step_with_warm_up_is_head_s() -> None:
    """mmdetection: linear from 0.001 over 500 iterations, a tenth from epochs 8 and 11 on."""
    rate = LearningRate("step", warm_up=500, warm_up_factor=0.001, milestones=(8, 11))
    found = course(rate, total=1200, per_epoch=100)
    for i, lr in enumerate(found):
        warm = 1 - (1 - i / 500) * 0.999 if i < 500 else 1.0
        decay = 0.1 if 800 <= i < 1100 else 0.01 if i >= 1100 else 1.0
        assert lr == pytest.approx(0.01 * warm * decay, rel=1e-9)
    assert found[0] == pytest.approx(0.01 * 0.001)


def test_milestones_in_steps() -> None:
    rate = LearningRate("step", warm_up=0, milestones=(7, 3), unit="steps", gamma=0.5)
    assert course(rate, total=10) == pytest.approx([0.01] * 3 + [0.005] * 4 + [0.0025] * 3)


def test_cosine_may_end_at_a_factor() -> None:
    """TensorFlow's cosine_decay with alpha."""
    rate = LearningRate("cosine", warm_up=0.0, end_factor=0.2)
    expected = [0.2 + 0.8 * 0.5 * (1 + math.cos(math.pi * i / 40)) for i in range(40)]
    assert course(rate, total=40, peak=1.0) == pytest.approx(expected, rel=1e-9)


def test_cosine_goes_to_zero_after_the_warm_up() -> None:
    found = course(LearningRate("cosine", warm_up=0.2, warm_up_factor=0.1), total=50)
    for i, lr in enumerate(found):
        falling = 0.5 * (1 + math.cos(math.pi * (i - 10) / 40))
        expected = 0.1 + 0.9 * i / 10 if i < 10 else falling
        assert lr == pytest.approx(0.01 * expected, rel=1e-9)
    assert found[-1] < 0.01 * 0.002


def test_constant_is_constant_after_the_warm_up() -> None:
    found = course(LearningRate("constant", warm_up=4, warm_up_factor=0.0), total=8)
    assert found == pytest.approx([0, 0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01, 0.01])


def root(done: float) -> float:
    return math.sqrt(1 - done)


def test_a_shape_is_any_function_of_the_share_that_is_done() -> None:
    found = course(LearningRate(root, warm_up=10, warm_up_factor=0.1), total=50)
    for i, lr in enumerate(found):
        expected = 0.1 + 0.9 * i / 10 if i < 10 else math.sqrt(1 - (i - 10) / 40)
        assert lr == pytest.approx(0.01 * expected, rel=1e-9)


def test_a_function_moves_by_epochs_too_and_gets_shares_alone() -> None:
    shares: list[float] = []

    def note(done: float) -> float:
        shares.append(done)
        return 1 - done

    found = course(LearningRate(note, warm_up=0, interval="epoch"), total=40, per_epoch=10)
    assert found == pytest.approx([0.01] * 10 + [0.0075] * 10 + [0.005] * 10 + [0.0025] * 10)
    assert min(shares) == 0
    assert max(shares) == 1


def test_a_function_goes_on_exactly_where_a_run_is_resumed() -> None:
    def begun() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
        return optimizer, LearningRate(root, warm_up=3).build(optimizer, 20, 10)

    optimizer, scheduler = begun()
    rates = []
    for step in range(20):
        if step == 7:
            saved = optimizer.state_dict(), scheduler.state_dict()
            optimizer, scheduler = begun()
            optimizer.load_state_dict(saved[0])
            scheduler.load_state_dict(saved[1])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == course(LearningRate(root, warm_up=3), total=20)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"learning_rate\.shape is 'cosin'; expected constant, step"
    ):
        LearningRate("cosin")  # type: ignore[arg-type]


def test_one_cycle_goes_up_and_down_by_cosines() -> None:
    """Smith and Topin in torch's form: from a 25th to the peak, then down to 4e-6 of it."""
    total, up = 40, 10
    found = course(LearningRate("one_cycle", warm_up=0.25), total)

    def between(start: float, end: float, share: float) -> float:
        return end + (start - end) / 2 * (1 + math.cos(math.pi * share))

    for i, lr in enumerate(found):
        if i <= up - 1:
            expected = between(1 / 25, 1, i / (up - 1))
        else:
            expected = between(1, 1 / 25e4, (i - up + 1) / (total - up))
        assert lr == pytest.approx(0.01 * expected, rel=1e-6)


def test_one_cycle_moves_momentum_the_other_way() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = LearningRate("one_cycle", warm_up=5).build(optimizer, 10, 10)
    momenta = []
    for _ in range(10):
        momenta.append(optimizer.param_groups[0]["momentum"])
        optimizer.step()
        scheduler.step()
    assert momenta[0] == pytest.approx(0.95)
    assert min(momenta) == pytest.approx(0.85)
    assert momenta.index(min(momenta)) == 4


@pytest.mark.parametrize("total", [1, 2, 3, 10, 11])
@pytest.mark.parametrize("warm_up", [0, 0.1, 0.5, 1, 500])
def test_one_cycle_survives_runs_of_any_length(total: int, warm_up: float) -> None:
    found = course(LearningRate("one_cycle", warm_up=warm_up), total)
    assert all(0 <= lr <= 0.01 for lr in found)
    if total > 2:
        assert max(found) > 0.005


def test_groups_keep_their_proportion() -> None:
    for shape in ("constant", "cosine", "one_cycle"):
        parameters = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.1, 0.02)]
        optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        scheduler = LearningRate(shape).build(optimizer, 20, 10)
        for _ in range(20):
            fast, slow = (group["lr"] for group in optimizer.param_groups)
            assert slow == pytest.approx(fast / 5)
            optimizer.step()
            scheduler.step()


@pytest.mark.parametrize(
    ("key", "peak", "rate"),
    [
        (
            "imagenet_mobilenetv1_lr",
            0.1,
            LearningRate("step", 10, warm_up_factor=0.1, interval="epoch", milestones=(41, 71, 91)),
        ),
        ("cub_lr", 0.01, LearningRate("step", 0, milestones=(31, 61, 81))),
        ("base_lr", 0.1, LearningRate("step", 0, milestones=(30, 60, 90))),
    ],
)
def test_courses_of_mgd_s_classification(shared, key: str, peak: float, rate) -> None:
    """By epoch, from the published code: the same in every step of an epoch."""
    epochs = np.load(shared / "golden/mgd/schedules.npz")[key]
    found = course(rate, total=3 * len(epochs), per_epoch=3, peak=peak)
    np.testing.assert_allclose(found, epochs.repeat(3), rtol=1e-9)


def test_detectron2_s_90_000_steps() -> None:
    """Linear from a thousandth over 1000 steps; a tenth from 60 000 on, a hundredth from 80 000."""
    rate = LearningRate("step", warm_up=1000, milestones=(60_000, 80_000), unit="steps")
    scheduler = rate.build(Optimizer("sgd").build(TRAINED, set()), 90_000, 7_329)
    (factor,) = scheduler.lr_lambdas
    assert [factor(step) for step in (0, 500, 999)] == pytest.approx([0.001, 0.5005, 0.999001])
    assert [factor(step) for step in (1000, 59_999, 60_000, 79_999)] == pytest.approx(
        [1.0, 1.0, 0.1, 0.1]
    )
    assert [factor(step) for step in (80_000, 89_999)] == pytest.approx([0.01, 0.01])


def test_a_share_of_the_run_warms_up_by_epochs_too() -> None:
    rate = LearningRate("cosine", warm_up=0.5, warm_up_factor=0.0, interval="epoch")
    assert course(rate, total=12, per_epoch=3) == pytest.approx(
        [0.0] * 3 + [0.005] * 3 + [0.01] * 3 + [0.005] * 3
    )


def test_a_one_cycle_by_epochs_is_refused() -> None:
    with pytest.raises(ValueError, match="a one_cycle moves every step"):
        LearningRate("one_cycle", interval="epoch")


@pytest.mark.parametrize("key", ["interval", "unit"])
def test_an_unknown_unit_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.learning_rate\.{key} is 'days'; expected"):
        LearningRate("step", milestones=[8], **{key: "days"})


def test_step_without_milestones_is_refused() -> None:
    with pytest.raises(ValueError, match=r"give model\.learning_rate\.milestones, in epochs or"):
        LearningRate("step")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", 0.0),
        ("lr", -0.001),
        ("lr", math.nan),
        ("lr", math.inf),
        ("lr", 1e30),
        ("weight_decay", -0.1),
        ("norm_weight_decay", -0.1),
        ("bias_weight_decay", math.nan),
        ("bias_lr_factor", -2.0),
        ("momentum", 1.0),
        ("momentum", -0.9),
        ("lr_factors", {"backbone": -0.1}),
        ("weight_decays", {"methods": -0.1}),
        ("clip_each", 0.0),
        ("clip_each", -1.0),
    ],
)
def test_an_optimizer_s_numbers_have_ranges(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^model\.optimizer\.{name} is .*; expected .*\. Give"):
        Optimizer(**{name: value})  # type: ignore[arg-type]


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(ValueError, match=r"nesterov is true, but .*momentum is 0.* Give one"):
        Optimizer("sgd", momentum=0.0, nesterov=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warm_up", -5),
        ("warm_up", math.nan),
        ("warm_up_factor", -0.1),
        ("milestones", (8, -1)),
        ("gamma", -0.1),
        ("end_factor", -1.0),
    ],
)
def test_a_learning_rate_s_numbers_have_ranges(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^model\.learning_rate\.{name} is .*; expected .*Give"):
        LearningRate(**{name: value})  # type: ignore[arg-type]


def test_a_warm_up_longer_than_the_run_is_told(caplog: pytest.LogCaptureFixture) -> None:
    course(LearningRate("cosine", warm_up=3), total=4)
    assert not caplog.records
    course(LearningRate("cosine", warm_up=1000), total=4)
    assert (
        "warm_up is 1000 (steps), and the whole run has 4 steps: the learning rate still rises"
        in caplog.text
    )


def test_norms_with_fixed_statistics_have_affine_parameters_like_any_other() -> None:
    detector = RetinaNet("resnet18", 3, norm="affine")
    affine = {
        id(parameter)
        for module in detector.modules()
        if isinstance(module, AffineBatchNorm2d)
        for parameter in module.parameters()
    }
    assert len(affine) == 40
    assert norm_parameters(detector) == affine
