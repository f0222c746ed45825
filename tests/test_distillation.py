import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import KD, FitNet
from limbeck.schedules import EarlyStop, WarmUp
from tests import batches, observation, small_models


@pytest.fixture
def pair():
    return small_models.hinted_classifiers()


@pytest.fixture
def detectors():
    return small_models.hinted_detectors()


@pytest.fixture
def batch():
    return batches.pictures(), batches.labels()


# -- losses ---------------------------------------------------------------------------------------


def test_losses_by_name_raw_and_weighted(pair, batch):
    pair.number = 5
    pair.eval()
    losses = pair(*batch)
    assert list(losses) == ["student/cross_entropy", "soft/logits", "hint/C4"]
    assert losses.weights == {"student/cross_entropy": 1.0, "soft/logits": 0.5, "hint/C4": 1.0}
    logits = pair.student(batch[0])
    assert losses["student/cross_entropy"] == F.cross_entropy(logits, batch[1])
    assert losses["soft/logits"] == 0.5 * losses.raw["soft/logits"]
    total = sum(loss.item() for loss in losses.values())
    assert losses.total.item() == pytest.approx(total, rel=1e-6)


def test_detectors_losses_by_name(detectors):
    losses = detectors(*batches.detection_batch())
    assert list(losses)[:2] == ["student/classification", "student/bbox_regression"]
    assert list(losses)[2:] == [f"FitNet/fpn.{level}" for level in range(5)]
    assert losses.total.isfinite()


def test_schedules_move_on_with_advance(pair, batch):
    weights = []
    for _ in range(3):
        weights.append(pair(*batch).weights["hint/C4"])
        pair(*batch)  # a second batch of the same step changes nothing
        pair.advance()
    assert weights == [0.0, 0.2, 0.4]


def test_student_weight(batch):
    student, teacher = small_models.resnet(), small_models.resnet()
    pair = Distillation(student, teacher, [KD()], student_weight=EarlyStop(0.25, 1)).eval()
    losses = pair(*batch)
    assert losses["student/cross_entropy"] == 0.25 * losses.raw["student/cross_entropy"]
    pair.advance()
    pair.advance()
    assert pair(*batch).weights == {"student/cross_entropy": 0.0, "KD/logits": 1.0}


def test_plain_training(batch):
    student = small_models.resnet().eval()
    pair = Distillation(student).eval()
    losses = pair(*batch)
    assert dict(losses) == {"student/cross_entropy": F.cross_entropy(student(batch[0]), batch[1])}
    assert pair.trainable_parameters() == list(student.parameters())
    assert observation.hook_count(student) == 0


def test_students_own_loss(batch):
    def margin(outputs, targets):
        return {"margin": F.multi_margin_loss(outputs, targets)}

    pair = Distillation(small_models.resnet(), student_loss=margin).eval()
    expected = F.multi_margin_loss(pair.student(batch[0]), batch[1])
    assert dict(pair(*batch)) == {"student/margin": expected}


def test_the_whole_distillation_is_compiled(pair, batch):
    pair.eval()
    expected = {name: loss.item() for name, loss in pair(*batch).raw.items()}
    pair.compile(backend="eager")
    assert {name: loss.item() for name, loss in pair(*batch).raw.items()} == expected


# -- state ----------------------------------------------------------------------------------------


def file_of(pair):
    buffer = io.BytesIO()
    torch.save(pair.state_dict(), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def test_state_holds_all_but_the_teacher_and_loads_strictly(pair, batch):
    teacher = copy.deepcopy(pair.teacher)
    small_models.train_step(pair, batch)
    state = file_of(pair)
    assert not [key for key in state if key.startswith("teacher.")]
    assert {key.split(".")[0] for key in state} == {"student", "methods", "_extra_state"}
    methods = {"soft": KD(weight=0.5), "hint": FitNet(["C4"], weight=WarmUp(2.0, 10))}
    other = Distillation(small_models.resnet(), teacher, methods)
    assert not observation.same(
        observation.snapshot(pair.student), observation.snapshot(other.student)
    )
    other.load_state_dict(state)
    assert other.number == 1
    assert observation.same(observation.snapshot(pair), observation.snapshot(other))
    assert dict(other.eval()(*batch)) == dict(pair.eval()(*batch))


@pytest.mark.parametrize(
    "key", ["student.fc.weight", "methods.hint.adapters.C4.bias", "_extra_state"]
)
def test_loading_is_strict(pair, key):
    state = pair.state_dict()
    del state[key]
    with pytest.raises(RuntimeError, match=rf"Missing key\(s\) in state_dict: \"{key}\""):
        pair.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: \"other\""):
        pair.load_state_dict(pair.state_dict() | {"other": torch.zeros(1)})


def test_state_inside_a_larger_module(pair):
    outer = nn.ModuleDict({"pair": pair})
    state = outer.state_dict()
    assert not [key for key in state if "teacher." in key]
    outer.load_state_dict(state)


def test_state_of_another_teacher_is_refused(pair):
    state = file_of(pair)
    methods = {"soft": KD(), "hint": FitNet(["C4"])}
    other = Distillation(small_models.resnet(), small_models.resnet(Bottleneck), methods)
    with pytest.raises(ValueError, match=r"trained with another teacher.*Load the same weights"):
        other.load_state_dict(state)


def test_copies_are_independent(pair, batch):
    for other in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        expected = {k: v.item() for k, v in pair.eval()(*batch).items()}
        assert {k: v.item() for k, v in other.eval()(*batch).items()} == expected
        before = observation.snapshot(pair)
        small_models.train_step(other.train(), batch)
        assert observation.same(before, observation.snapshot(pair))
