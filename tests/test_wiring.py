import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation, NotAliveError, TapError
from limbeck.balancing import balance
from limbeck.methods import KD, FitNet, Method
from limbeck.schedules import WarmUp
from limbeck.wiring import Connection, check
from tests import batches, observation, small_models


def make_pair(methods, student=None):
    return Distillation(student or small_models.resnet(), small_models.resnet(Bottleneck), methods)


def optimizer_for(parameters):
    return torch.optim.SGD(list(parameters), 0.1)


@pytest.fixture
def batch():
    return batches.pictures(), batches.labels()


class Part(Method):
    """A loss made of the student's logits by a function."""

    def __init__(self, function, weights=("part",)):
        super().__init__()
        self.student_taps = self.teacher_taps = {"logits": ""}
        self.weights = dict.fromkeys(weights, 1.0)
        self.function = function
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, step):
        self.steps = self.steps + 1  # replaced, not overwritten in place
        return {"part": self.function(step.student.features["logits"])}


# -- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda logits: logits.detach().square().mean(),
        lambda logits: torch.zeros(()),
        lambda logits: torch.zeros((), requires_grad=True) * 2,
    ],
    ids=["detached", "constant", "of something else"],
)
def test_part_that_is_not_connected_to_the_student(batch, function):
    pair = make_pair({"mine": Part(function)})
    with pytest.raises(
        NotAliveError, match=r"mine/part is not connected to the student.*student taps: <model>"
    ):
        pair.check(*batch)


def test_frozen_student(batch):
    student = small_models.resnet()
    pair = make_pair([KD()], student)
    student.requires_grad_(False)
    with pytest.raises(NotAliveError, match="no parameter of the student is trained"):
        pair.check(*batch)


def test_one_dead_level_among_living_ones(batch):
    """The trunk is frozen as far as C3: its hint trains an adapter and nothing else."""
    student = small_models.resnet()
    for part in (student.conv1, student.bn1, student.layer1, student.layer2):
        part.requires_grad_(False)
    make_pair({"hint": FitNet(["C4"])}, student).check(*batch)
    with pytest.raises(NotAliveError, match=r"hint/C3 is not connected to the student"):
        make_pair({"hint": FitNet(["C4", "C3"])}, student).check(*batch)


def test_warm_up_is_no_excuse(batch):
    """The first step weighs 0: what is checked is the loss without its weight."""
    make_pair([KD(weight=WarmUp(1.0, 10))]).check(*batch)
    dead = Part(lambda logits: logits.detach().mean())
    dead.weights = {"part": WarmUp(1.0, 10)}
    with pytest.raises(NotAliveError, match="Part/part is not connected"):
        make_pair([dead]).check(*batch)


def test_part_without_a_weight(batch):
    pair = make_pair({"mine": Part(torch.mean, weights=("other",))})
    for call in (pair.check, pair):
        with pytest.raises(
            ValueError, match=r"mine/part: the method gives this loss no weight; self.weights of"
        ):
            call(*batch)


def test_differentiable_nothing_is_alive(batch):
    """An imitation loss without any object is 0 and still connected."""
    make_pair({"mine": Part(lambda logits: (logits * 0).sum())}).check(*batch)


def test_tap_that_caught_nothing(batch):
    class Switch(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = small_models.resnet(), small_models.resnet()

        def forward(self, x):
            return self.a(x) if self.a.training else self.b(x)

    method = Part(torch.mean)
    method.student_taps = {"logits": "b.fc"}
    pair = make_pair({"mine": method}, Switch())
    with pytest.raises(TapError, match=r"b.fc never fired"):
        pair.check(*batch)


def test_teacher_that_would_be_trained(batch):
    pair = make_pair([KD()])
    everything = optimizer_for([*pair.trainable_parameters(), *pair.teacher.parameters()])
    with pytest.raises(
        NotAliveError, match=r"teacher parameter 'conv1.weight'.*is in the optimizer"
    ):
        pair.check(*batch, everything)
    pair.teacher.layer2.requires_grad_(True)
    with pytest.raises(NotAliveError, match=r"'layer2.0.conv1.weight'.*requires a gradient"):
        pair.check(*batch)


def test_adapter_that_is_not_in_the_optimizer(batch):
    pair = make_pair({"hint": FitNet(["C4"])})
    with pytest.raises(
        NotAliveError, match=r"2 trainable parameters.*methods.hint.adapters.C4.weight"
    ):
        pair.check(*batch, optimizer_for(pair.student.parameters()))
    pair.check(*batch, optimizer_for(pair.trainable_parameters()))


def test_frozen_parameters_need_not_be_in_the_optimizer(batch):
    student = small_models.resnet()
    student.layer1.requires_grad_(False)
    pair = make_pair([KD()], student)
    pair.check(*batch, optimizer_for(pair.trainable_parameters()))


def test_different_frames():
    pair = Distillation(
        small_models.retinanet(), small_models.retinanet(Bottleneck), [FitNet(["fpn"])]
    )
    pair.teacher.transform.size_divisible = 128
    with pytest.raises(ValueError, match="different frames"):
        pair.check(*batches.detection_batch())


# -- nothing is changed ---------------------------------------------------------------------------


@pytest.mark.parametrize("action", [check, balance])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_is_changed(batch, action, training):
    student = small_models.resnet()
    student.fc = nn.Sequential(nn.Dropout(), student.fc)
    pair = make_pair([KD(), FitNet(["C4"]), Part(torch.mean)], student).train(training)
    student.layer1.eval()
    before, state = observation.snapshot(pair), pair.state_dict()["_extra_state"]
    modes = [module.training for module in pair.modules()]
    random, others = torch.get_rng_state(), np.random.get_state()[2]  # noqa: NPY002
    pair.student.layer2.register_forward_hook(lambda *_: np.random.rand() and None)  # noqa: NPY002
    action(pair, *batch)
    assert np.random.get_state()[2] == others  # noqa: NPY002
    assert observation.same(before, observation.snapshot(pair))
    assert [module.training for module in pair.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(p.grad is None for p in pair.parameters())
    assert pair.state_dict()["_extra_state"] == state


def test_nothing_is_changed_by_a_check_that_fails(batch):
    pair = make_pair([Part(lambda logits: logits.detach().mean())]).eval()
    before, random = observation.snapshot(pair), torch.get_rng_state()
    with pytest.raises(NotAliveError):
        pair.check(*batch)
    assert observation.same(before, observation.snapshot(pair))
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module.training for module in pair.modules())


def test_gradients_that_are_there_stay(batch):
    pair = make_pair([KD()])
    pair(*batch).total.backward()
    before = [p.grad.clone() for p in pair.student.parameters()]
    pair.check(*batch)
    balance(pair, *batch)
    assert all(
        torch.equal(p.grad, g) for p, g in zip(pair.student.parameters(), before, strict=True)
    )


def test_a_student_in_evaluation_mode_is_warned_of(batch, caplog):
    pair = make_pair([KD()])
    pair.check(*batch)
    assert "evaluation mode" not in caplog.text
    pair.student.eval()
    pair.check(*batch)
    assert "The student is in evaluation mode" in caplog.text
    assert not pair.student.training


def test_works_where_gradients_are_off(batch):
    with torch.no_grad():
        make_pair([KD()]).check(*batch)


# -- what is told ---------------------------------------------------------------------------------


def test_wiring_says_who_is_connected_to_whom(batch, capsys):
    methods = {"soft": KD(weight=0.5), "hint": FitNet({"C4.pre": "C4.pre"}, WarmUp(2.0, 8))}
    pair = make_pair(methods)
    pair.number = 2
    wiring = pair.check(*batch)
    hint = "C4.pre", "2x256x4x4", "C4.pre", "2x64x4x4", "conv 1x1 64 to 256", "0.5"
    assert wiring.connections[1] == Connection("hint", *hint)
    assert (wiring.connections[0].adapter, wiring.connections[0].student_tap) == ("-", "<model>")
    assert (wiring.connections[0].method, wiring.connections[0].weight) == ("soft", "0.5")
    assert wiring.connections[0].student_shape == f"2x{small_models.CLASSES}"
    printed = capsys.readouterr().out
    for text in ("hint", "2x256x4x4", "2x64x4x4"):
        assert text in printed
        assert text in str(wiring)


def test_wiring_of_levels():
    pair = Distillation(
        small_models.retinanet(channels=16), small_models.retinanet(Bottleneck), [FitNet(["fpn"])]
    )
    connection = check(pair, *batches.detection_batch()).connections[0]
    assert (connection.student_shape, connection.teacher_shape) == (
        "2x16x8x8 (+4)",
        "2x32x8x8 (+4)",
    )
    assert connection.adapter == "conv 1x1 16 to 32"
