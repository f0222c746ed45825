import copy
import gc
import io
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation, TapError
from limbeck.methods import KD, FitNet
from limbeck.schedules import EarlyStop, WarmUp
from tests import small


@pytest.fixture
def pair():
    """Two classifiers, logits and one hint."""
    methods = {"soft": KD(weight=0.5), "hint": FitNet(["C4"], weight=WarmUp(2.0, 10))}
    return Distillation(small.resnet(), small.resnet(Bottleneck), methods)


@pytest.fixture
def detectors():
    methods = [FitNet(["fpn"])]
    return Distillation(small.retinanet(), small.retinanet(Bottleneck), methods)


@pytest.fixture
def batch():
    return small.pictures(), small.labels()


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
    losses = detectors(*small.detection_batch())
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
    student, teacher = small.resnet(), small.resnet()
    pair = Distillation(student, teacher, [KD()], student_weight=EarlyStop(0.25, 1)).eval()
    losses = pair(*batch)
    assert losses["student/cross_entropy"] == 0.25 * losses.raw["student/cross_entropy"]
    pair.advance()
    pair.advance()
    assert pair(*batch).weights == {"student/cross_entropy": 0.0, "KD/logits": 1.0}


def test_plain_training(batch):
    student = small.resnet().eval()
    pair = Distillation(student).eval()
    losses = pair(*batch)
    assert dict(losses) == {"student/cross_entropy": F.cross_entropy(student(batch[0]), batch[1])}
    assert pair.trainable_parameters() == list(student.parameters())
    assert small.hook_count(student) == 0


def test_students_own_loss(batch):
    def margin(outputs, targets):
        return {"margin": F.multi_margin_loss(outputs, targets)}

    pair = Distillation(small.resnet(), student_loss=margin).eval()
    expected = F.multi_margin_loss(pair.student(batch[0]), batch[1])
    assert dict(pair(*batch)) == {"student/margin": expected}


# -- names ----------------------------------------------------------------------------------------


def test_methods_in_a_list_go_by_their_class_numbered():
    methods = [FitNet(["C4"]), KD(), FitNet(["C5"]), FitNet(["C3"])]
    pair = Distillation(small.resnet(), small.resnet(), methods)
    assert list(pair.methods) == ["FitNet", "KD", "FitNet2", "FitNet3"]


def test_the_students_name_is_taken():
    with pytest.raises(ValueError, match="'student' names the student's own losses"):
        Distillation(small.resnet(), small.resnet(), {"student": KD()})


def test_methods_of_nearly_one_name_do_not_mix(batch):
    methods = {"a": FitNet(["C4"]), "a b": FitNet(["C5"])}
    losses = Distillation(small.resnet(), small.resnet(), methods)(*batch)
    assert list(losses) == ["student/cross_entropy", "a/C4", "a b/C5"]


# -- the teacher is frozen ------------------------------------------------------------------------


def test_teacher_does_not_change(pair, batch):
    before = small.snapshot(pair.teacher)
    student = small.snapshot(pair.student)
    pair.train()
    for _ in range(2):
        small.train_step(pair, batch)
    assert small.same(before, small.snapshot(pair.teacher))
    assert not small.same(student, small.snapshot(pair.student))
    assert all(p.grad is None and not p.requires_grad for p in pair.teacher.parameters())


def test_teacher_stays_in_evaluation_mode(pair, batch):
    statistics = small.snapshot(pair.teacher)
    nn.ModuleList([pair]).train()
    assert pair.training
    assert pair.student.training
    assert not any(module.training for module in pair.teacher.modules())
    pair.teacher.train()
    pair(*batch)
    assert not any(module.training for module in pair.teacher.modules())
    assert small.same(statistics, small.snapshot(pair.teacher))
    pair.eval()
    assert not pair.student.training


def test_trainable_parameters_are_the_students_and_the_adapters(pair):
    trainable = {id(p) for p in pair.trainable_parameters()}
    adapters = pair.methods["hint"].parameters()
    assert trainable == {id(p) for p in (*pair.student.parameters(), *adapters)}
    pair.student.conv1.requires_grad_(False)
    assert len(pair.trainable_parameters()) == len(trainable) - 1
    names = [name for name, _ in pair.named_trainable_parameters()]
    assert "methods.hint.adapters.C4.weight" in names
    assert not [name for name in names if name.startswith("teacher")]


def test_teacher_is_not_run_when_nothing_is_tapped(batch):
    pair = Distillation(small.resnet(), small.resnet(), transfer={"fc": "fc"})
    with small.calls_of(pair.teacher) as calls:
        pair(*batch)
    assert calls == []


def test_teacher_stops_after_its_last_tap(detectors):
    teacher = detectors.teacher
    with small.calls_of(teacher.backbone) as needed, small.calls_of(teacher.head) as rest:
        detectors(*small.detection_batch())
    assert (len(needed), len(rest)) == (1, 0)


def test_teacher_runs_first(pair, batch):
    order = []
    for name in ("teacher", "student"):
        getattr(pair, name).register_forward_pre_hook(lambda *_, name=name: order.append(name))
    pair(*batch)
    assert order == ["teacher", "student"]


def test_teachers_features_are_detached(pair, batch):
    seen = []
    hint = pair.methods["hint"]
    hint.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    pair(batch[0].requires_grad_(), batch[1])
    assert not seen[0].teacher.features["C4"].requires_grad
    assert seen[0].student.features["C4"].requires_grad
    assert seen[0].teacher.outputs is None or not seen[0].teacher.outputs.requires_grad


def test_no_graph_is_kept(pair, batch):
    refs = []
    pair.student.layer3.register_forward_hook(lambda _, __, out: refs.append(weakref.ref(out)))
    losses = pair(*batch)
    assert refs[0]() is not None
    del losses
    gc.collect()
    assert refs[0]() is None


def test_of_the_teacher_only_what_is_read_outlives_its_forward(pair, batch):
    refs = {}
    alive = []

    def note(module, _, output):
        refs[weakref.ref(output)] = module

    def look(*_):
        alive.extend(ref() for ref in refs if ref() is not None)

    for module in pair.teacher.modules():
        module.register_forward_hook(note)
    pair.student.conv1.register_forward_pre_hook(look)
    pair(*batch)
    assert len(refs) > 20
    widths = 64 * 4 * 4, small.CLASSES  # of layer3 and of the logits
    assert {tensor.shape[1] for tensor in alive} == set(widths)
    assert len({tensor.data_ptr() for tensor in alive}) == len(widths)


# -- wrappers -------------------------------------------------------------------------------------


@pytest.fixture
def process_group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_wrapped_teacher_is_unwrapped_and_wrapped_student_refused(batch):
    teacher, student = small.resnet(Bottleneck), small.resnet()
    wrapped = nn.parallel.DistributedDataParallel(teacher)
    pair = Distillation(student, wrapped, [KD()])
    assert pair.teacher is teacher
    assert pair(*batch).raw["KD/logits"] > 0
    with pytest.raises(ValueError, match=r"DistributedDataParallel.*wrap or compile the whole"):
        Distillation(nn.parallel.DistributedDataParallel(small.resnet()), teacher, [KD()])


@pytest.mark.usefixtures("process_group")
def test_ddp_leaves_the_teacher_alone(pair, batch):
    wrapped = nn.parallel.DistributedDataParallel(pair)
    ignored = wrapped.parameters_to_ignore
    everything = [*pair.named_parameters(), *pair.named_buffers()]
    assert ignored == {name for name, _ in everything if name.startswith("teacher.")}
    wrapped(*batch).total.backward()
    assert pair.student.fc.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("compiled", [lambda m: torch.compile(m, backend="eager"), "in place"])
def test_compiled_models_are_refused(compiled):
    teacher, student = small.resnet(), small.resnet()
    if compiled == "in place":
        teacher.compile(backend="eager")
        wrapped = teacher
    else:
        wrapped = compiled(teacher)
        with pytest.raises(ValueError, match=r"student is wrapped \(OptimizedModule\)"):
            Distillation(compiled(student), small.resnet(), [KD()])
    with pytest.raises(TapError, match=r"compile it afterwards"):
        Distillation(student, wrapped, [KD()])


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
    small.train_step(pair, batch)
    state = file_of(pair)
    assert not [key for key in state if key.startswith("teacher.")]
    assert {key.split(".")[0] for key in state} == {"student", "methods", "_extra_state"}
    methods = {"soft": KD(weight=0.5), "hint": FitNet(["C4"], weight=WarmUp(2.0, 10))}
    other = Distillation(small.resnet(), teacher, methods)
    assert not small.same(small.snapshot(pair.student), small.snapshot(other.student))
    other.load_state_dict(state)
    assert other.number == 1
    assert small.same(small.snapshot(pair), small.snapshot(other))
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
    other = Distillation(small.resnet(), small.resnet(Bottleneck), methods)
    with pytest.raises(ValueError, match=r"trained with another teacher.*Load the same weights"):
        other.load_state_dict(state)


def test_copies_are_independent(pair, batch):
    for other in (copy.deepcopy(pair), pickle.loads(pickle.dumps(pair))):
        expected = {k: v.item() for k, v in pair.eval()(*batch).items()}
        assert {k: v.item() for k, v in other.eval()(*batch).items()} == expected
        before = small.snapshot(pair)
        small.train_step(other.train(), batch)
        assert small.same(before, small.snapshot(pair))


def test_close_leaves_the_plain_models(pair):
    assert small.hook_count(pair.student) == small.hook_count(pair.teacher) == 2
    pair.close()
    assert small.hook_count(pair.student) == small.hook_count(pair.teacher) == 0
    pickle.loads(pickle.dumps(pair.student))


# -- the frame ------------------------------------------------------------------------------------


def test_different_frames_are_refused(detectors):
    images, targets = small.detection_batch(size=72)
    assert detectors(images, targets).total.isfinite()
    detectors.teacher.transform.size_divisible = 64
    with pytest.raises(
        ValueError, match=r"student pads .*\(96, 96\).*teacher to \(128, 128\).*the same preset"
    ):
        detectors(images, targets)


def test_methods_see_targets_in_the_frame(detectors):
    seen = []
    detectors.methods["FitNet"].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images, targets = small.detection_batch()
    detectors(images, targets)
    step = seen[0]
    assert all(
        torch.equal(a["boxes"], b["boxes"]) for a, b in zip(step.targets, targets, strict=True)
    )
    assert (step.global_batch, step.world_size, step.number) == (2, 1, 0)
    assert step.teacher.model is detectors.teacher
    assert step.student.model is detectors.student
    assert set(step.student.outputs) == {"classification", "bbox_regression"}
    assert step.images is images
