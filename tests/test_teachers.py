"""Several teachers by name: each method learns from its own, and each stops behind its last tap."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from limbeck import Distillation, NotAliveError
from limbeck.methods import HEAD, KD, CrossKD, FitNet, Method, Step
from limbeck.models import FeatureTeacher
from limbeck.teachers import measured
from tests import batches, observation, small_models, tiny_models, tiny_vits


def classifiers(**others: nn.Module) -> Distillation:
    """A classifier that learns from a teacher without a name, and from another one."""
    torch.manual_seed(4)
    return Distillation(
        tiny_models.classifier(),
        tiny_models.classifier(),
        {"soft": KD(), "hint": FitNet(["C4"], teacher="dino", adapter="conv")},
        teachers={"dino": tiny_models.classifier()} | others,
    )


@pytest.fixture(scope="module")
def pair() -> Distillation:
    return tiny_vits.taught_by_two()


@pytest.fixture(scope="module")
def batch():
    return batches.detection_batch()


def test_each_teacher_runs_once_as_far_as_its_own_methods_read(pair, batch):
    dino, detector = pair.teachers["dino"], pair.teachers["detector"]
    ran = tiny_vits.blocks_run(dino.model.blocks)
    trunks = tiny_vits.blocks_run([detector.backbone.body])
    heads = tiny_vits.blocks_run([detector.head])
    losses = pair(*batch)
    assert (ran, trunks, heads) == ([0, 1], [0], [])
    own = ["directions/P4", "first/P5", "hint/P3", "hint/C4"]
    assert [name for name in losses if not name.startswith("student/")] == own


def test_each_method_sees_its_own_teacher(pair, batch):
    _, steps = pair.run(*batch)
    assert steps["directions"].taught.model is steps["first"].taught.model is pair.teachers["dino"]
    assert steps["hint"].taught.model is pair.teachers["detector"]
    assert steps["hint"].taught.features["C4"].shape[1] == 256
    shown = str(pair.check(*batch))
    assert "grid.1" in shown
    assert "C4" in shown


def test_the_losses_are_those_of_either_teacher_alone(pair, batch):
    images, targets = batch
    expected = pair(images, targets).raw
    for name in ("dino", "detector"):
        own = {key: copy.deepcopy(pair.method(key)) for key in pair.pupils(name)}
        for method in own.values():
            method.teacher = None
        alone = Distillation(copy.deepcopy(pair.student), pair.teachers[name], own)
        for key, method in own.items():  # setup has made new adapters
            method.load_state_dict(pair.method(key).state_dict())
        found = alone(images, targets).raw
        for key in found:
            assert found[key].item() == pytest.approx(expected[key].item(), rel=1e-6), key


def test_all_are_frozen_and_evaluate(pair, batch):
    before = observation.snapshot(pair.teachers)
    pair.train()
    small_models.train_step(pair, batch)
    assert observation.same(before, observation.snapshot(pair.teachers))
    assert not any(module.training for module in pair.teachers["dino"].modules())
    trained = [name for name, _ in pair.named_trainable_parameters()]
    assert not [name for name in trained if name.startswith("teacher")]
    held = torch.optim.SGD(pair.teachers["dino"].parameters(), 0.1)
    with pytest.raises(NotAliveError, match=r"teacher 'dino' parameter .* is in the optimizer"):
        pair.check(*batch, held)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_scripted_modules_are_refused():
    scripted, partly = torch.jit.script(small_models.resnet()), small_models.resnet()
    partly.layer1 = torch.jit.script(partly.layer1)
    for student, teacher, side in (
        (small_models.resnet(), scripted, "teacher"),
        (small_models.resnet(), partly, "teacher"),
        (scripted, small_models.resnet(), "student"),
    ):
        with pytest.raises(TypeError, match=rf"the {side} is or holds a module of torch\.jit\.scr"):
            Distillation(student, teacher, [KD()])


def test_the_state_holds_checksums_of_all_and_no_weights(batch):
    first = tiny_vits.taught_by_two()
    small_models.train_step(first, batch)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    assert {key.split(".")[0] for key in state} == {"student", "methods", "_extra_state"}
    assert state["_extra_state"]["teachers"].keys() == {"dino", "detector"}
    assert state["_extra_state"]["teacher"] is None
    other = tiny_vits.taught_by_two()
    other.load_state_dict(state)
    assert observation.same(observation.snapshot(first), observation.snapshot(other))
    with torch.no_grad():
        other.teachers["dino"].model.norm.weight.add_(1)
    other._checksums = None
    with pytest.raises(ValueError, match="trained with another teacher 'dino'"):
        other.load_state_dict(state)


def test_one_teacher_has_the_state_that_it_had():
    pair = small_models.hinted_classifiers()
    assert pair.state_dict()["_extra_state"].keys() == {"number", "teacher"}
    assert all(name.startswith("teacher.") for name in pair.teacher_names())


def test_a_state_with_further_teachers_is_another_one():
    named, alone = classifiers().state_dict(), classifiers(other=tiny_models.classifier())
    with pytest.raises(ValueError, match=r"another teacher 'other'.*checksum None"):
        alone.load_state_dict(named)


def test_copies_are_independent():
    pair = classifiers()
    batch = batches.pictures(), batches.labels()
    for other in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        assert other(*batch).total.item() == pair(*batch).total.item()
        assert other.teachers["dino"] is not pair.teachers["dino"]


def test_a_teacher_without_a_name_stands_beside_those_with_one():
    pair = classifiers()
    assert pair.teacher_of("soft") is pair.teacher
    assert pair.teacher_of("hint") is pair.teachers["dino"]
    batch = batches.pictures(), batches.labels()
    assert list(pair(*batch)) == ["student/cross_entropy", "soft/logits", "hint/C4"]
    pair.close()
    assert not any(m._forward_hooks for m in pair.modules())


def test_transfer_names_the_teacher():
    torch.manual_seed(0)
    teachers = {"other": tiny_models.classifier()}
    students = [tiny_models.classifier() for _ in range(2)]
    teacher = tiny_models.classifier()
    for student, source, of in (
        (students[0], "other:network", teachers["other"]),
        (students[1], "network", teacher),
    ):
        Distillation(student, teacher, teachers=teachers, transfer={"network": source})
        assert observation.same(
            observation.snapshot(student.network), observation.snapshot(of.network)
        )
    with pytest.raises(ValueError, match=r"from 'none:network', which is of no.*teachers: other:"):
        Distillation(students[0], teacher, teachers=teachers, transfer={"network": "none:network"})


@pytest.mark.parametrize(
    ("method", "teachers", "said"),
    [
        (KD(teacher="dino"), {}, "method 'KD': its teacher is 'dino'.*teachers: none"),
        (KD(teacher="dyno"), {"dino": 1}, "its teacher is 'dyno'.*of model.teachers: dino"),
        (KD(), {"dino": 1}, "method 'KD': it does not say which teacher.*teachers: dino"),
        (KD(), {"a.b": 1}, "model.teachers has the name 'a.b'.*Give the teacher another name"),
        (KD(), {"items": 1}, "model.teachers has the name 'items', which torch uses itself"),
    ],
)
def test_names_that_are_of_no_teacher(method, teachers, said):
    made = {name: tiny_models.classifier() for name in teachers}
    with pytest.raises(ValueError, match=said):
        Distillation(tiny_models.classifier(), methods=[method], teachers=made)


class Unread(Method):
    """A method without taps, which looks at the teacher alone."""

    def setup(self, step: Step) -> None:
        assert step.taught.model is not None

    def forward(self, step: Step) -> dict[str, Tensor]:
        return {}


@pytest.mark.parametrize("method", [CrossKD, HEAD, Unread])
def test_a_method_that_finds_its_places_by_its_teacher_is_told_which_there_are(
    method: type[Method],
) -> None:
    named = {"large": small_models.retinanet(), "small": small_models.retinanet()}
    said = "it does not say which teacher.*model.teachers: large, small. Set its argument teacher"
    with pytest.raises(ValueError, match=said):
        Distillation(small_models.retinanet(), methods=[method()], teachers=named)
    with pytest.raises(ValueError, match=r"needs a teacher.*and there is none. Give one \(model"):
        Distillation(small_models.retinanet(), methods=[method()])


def test_the_first_that_predicts_is_measured():
    classifier = tiny_models.classifier()
    assert measured({None: FeatureTeacher(tiny_vits.of_timm()), "b": classifier}) is classifier
    assert measured({None: classifier, "b": tiny_models.classifier()}) is classifier
    assert measured({"a": FeatureTeacher(tiny_vits.of_timm())}) is None
    assert measured({}) is None
