import gc
import pickle
import weakref

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation, TapError
from limbeck.methods import DKD, KD, FitNet
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


# -- names ----------------------------------------------------------------------------------------


def test_methods_in_a_list_go_by_their_class_numbered():
    methods = [FitNet(["C4"]), KD(), FitNet(["C5"]), FitNet(["C3"])]
    pair = Distillation(small_models.resnet(), small_models.resnet(), methods)
    assert list(pair.methods) == ["FitNet", "KD", "FitNet2", "FitNet3"]


def test_the_students_name_is_taken():
    with pytest.raises(ValueError, match="'student' names the student's own losses"):
        Distillation(small_models.resnet(), small_models.resnet(), {"student": KD()})


def test_methods_of_nearly_one_name_do_not_mix(batch):
    methods = {"a": FitNet(["C4"]), "a b": FitNet(["C5"])}
    losses = Distillation(small_models.resnet(), small_models.resnet(), methods)(*batch)
    assert list(losses) == ["student/cross_entropy", "a/C4", "a b/C5"]


def test_one_method_is_no_list_of_methods():
    with pytest.raises(TypeError, match="methods is one KD; expected a list of methods"):
        Distillation(small_models.resnet(), small_models.resnet(), KD())


# -- the teacher is frozen ------------------------------------------------------------------------


def test_what_student_and_teacher_share_is_not_frozen_in_silence():
    student, teacher = small_models.resnet(), small_models.resnet()
    student.layer1 = teacher.layer1
    with pytest.raises(
        ValueError, match=r"'layer1.0.conv1.weight' is 'layer1.0.conv1.weight' of the teacher"
    ):
        Distillation(student, teacher, [KD()])
    assert all(parameter.requires_grad for parameter in student.parameters())
    teacher.layer1.requires_grad_(False)  # a student that is to keep a part of its teacher
    Distillation(student, teacher, [KD()])


def test_a_part_of_the_teacher_in_training_mode_is_brought_back(pair, batch):
    before = observation.snapshot(pair.teacher)
    pair.teacher.layer1.train()
    pair(*batch)
    assert observation.same(before, observation.snapshot(pair.teacher))
    assert not any(module.training for module in pair.teacher.modules())


def test_teacher_does_not_change(pair, batch):
    before = observation.snapshot(pair.teacher)
    student = observation.snapshot(pair.student)
    pair.train()
    for _ in range(2):
        small_models.train_step(pair, batch)
    assert observation.same(before, observation.snapshot(pair.teacher))
    assert not observation.same(student, observation.snapshot(pair.student))
    assert all(p.grad is None and not p.requires_grad for p in pair.teacher.parameters())


def test_teacher_stays_in_evaluation_mode(pair, batch):
    statistics = observation.snapshot(pair.teacher)
    nn.ModuleList([pair]).train()
    assert pair.training
    assert pair.student.training
    assert not any(module.training for module in pair.teacher.modules())
    pair.teacher.train()
    pair(*batch)
    assert not any(module.training for module in pair.teacher.modules())
    assert observation.same(statistics, observation.snapshot(pair.teacher))
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
    pair = Distillation(small_models.resnet(), small_models.resnet(), transfer={"fc": "fc"})
    with observation.calls_of(pair.teacher) as calls:
        pair(*batch)
    assert calls == []


def test_teacher_stops_after_its_last_tap(detectors):
    teacher = detectors.teacher
    with (
        observation.calls_of(teacher.backbone) as needed,
        observation.calls_of(teacher.head) as rest,
    ):
        detectors(*batches.detection_batch())
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
    widths = 4 * small_models.WIDTHS[2], small_models.CLASSES  # of layer3 and of the logits
    assert {tensor.shape[1] for tensor in alive} == set(widths)
    assert len({tensor.data_ptr() for tensor in alive}) == len(widths)


# -- a step of both models ------------------------------------------------------------------------


def test_run_gives_the_students_outputs_and_each_methods_step(pair, batch):
    pair.eval()
    logits, steps = pair.run(*batch)
    assert torch.equal(logits, pair.student(batch[0]))
    assert list(steps) == [name for name, _ in pair.named_methods()] == ["soft", "hint"]
    assert set(steps["hint"].student.features) == set(steps["hint"].teacher.features) == {"C4"}
    expected = pair(*batch).raw
    for name, method in pair.named_methods():
        for part, loss in method(steps[name]).items():
            assert loss == expected[f"{name}/{part}"]


def test_run_in_training_mode_gives_a_detectors_losses(detectors):
    losses, _ = detectors.train().run(*batches.detection_batch())
    assert set(losses) == {"classification", "bbox_regression"}


# -- wrappers -------------------------------------------------------------------------------------


@pytest.fixture
def process_group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_wrapped_teacher_is_unwrapped_and_wrapped_student_refused(batch):
    teacher, student = small_models.resnet(Bottleneck), small_models.resnet()
    wrapped = nn.parallel.DistributedDataParallel(teacher)
    pair = Distillation(student, wrapped, [KD()])
    assert pair.teacher is teacher
    assert pair(*batch).raw["KD/logits"] > 0
    with pytest.raises(ValueError, match=r"DistributedDataParallel.*wrap the whole"):
        Distillation(nn.parallel.DistributedDataParallel(small_models.resnet()), teacher, [KD()])


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
    teacher, student = small_models.resnet(), small_models.resnet()
    if compiled == "in place":
        teacher.compile(backend="eager")
        wrapped = teacher
    else:
        wrapped = compiled(teacher)
        with pytest.raises(ValueError, match=r"student is wrapped \(OptimizedModule\)"):
            Distillation(compiled(student), small_models.resnet(), [KD()])
    with pytest.raises(TapError, match=r"compile it afterwards"):
        Distillation(student, wrapped, [KD()])


# -- the frame ------------------------------------------------------------------------------------


def test_different_frames_are_refused(detectors):
    images, targets = batches.detection_batch(size=72)
    assert detectors(images, targets).total.isfinite()
    detectors.teacher.transform.size_divisible = 64
    with pytest.raises(
        ValueError, match=r"student pads .*\(96, 96\).*teacher to \(128, 128\).*the same preset"
    ):
        detectors(images, targets)


def test_methods_see_targets_in_the_frame(detectors):
    seen = []
    detectors.methods["FitNet"].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    images, targets = batches.detection_batch()
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


def test_close_leaves_the_plain_models(pair):
    assert observation.hook_count(pair.student) == observation.hook_count(pair.teacher) == 2
    pair.close()
    assert observation.hook_count(pair.student) == observation.hook_count(pair.teacher) == 0
    pickle.loads(pickle.dumps(pair.student))


# -- images without labels ------------------------------------------------------------------------


def calls_of(module):
    """Counts, in a list, how often a module is called."""
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_a_detector_without_labels_ends_behind_its_last_tap(detectors):
    images, targets = batches.detection_batch()
    heads = calls_of(detectors.student.head)
    detectors.train()
    outputs, steps = detectors.run(images, None)
    assert (outputs, heads) == (None, [])
    seen = steps["FitNet"].student.features
    assert steps["FitNet"].targets is None
    labelled, steps = detectors.run(images, targets)
    assert labelled.keys() == {"classification", "bbox_regression"}
    assert len(heads) == 1
    assert all(map(torch.equal, seen["fpn"], steps["FitNet"].student.features["fpn"]))


def test_a_detector_that_is_evaluated_without_labels_detects(detectors):
    with torch.no_grad():
        outputs, _ = detectors.eval().run(batches.detection_batch()[0], None)
    assert outputs[0].keys() == {"boxes", "labels", "scores"}


def test_a_classifier_without_labels_gives_its_logits_and_no_loss_of_its_own(pair, batch):
    outputs, steps = pair.train().run(batch[0], None)
    assert outputs.shape == (2, small_models.CLASSES)
    assert steps["soft"].targets is None
    losses = pair(batch[0], None)
    assert list(losses) == ["soft/logits", "hint/C4"]
    losses.total.backward()
    assert all(parameter.grad is not None for parameter in pair.student.parameters())


def test_what_no_method_reads_is_left_as_it_is_without_labels(batch):
    pair = Distillation(small_models.resnet(), small_models.resnet(), [FitNet(["C4"])]).train()
    optimizer = torch.optim.SGD(pair.trainable_parameters(), 0.1, weight_decay=0.1)
    head = observation.snapshot(pair.student.fc)
    pair(batch[0], None).total.backward()
    optimizer.step()
    assert observation.same(head, observation.snapshot(pair.student.fc))


def test_all_methods_that_need_labels_are_named_where_there_are_none(batch):
    methods = {"a": DKD(), "hint": FitNet(["C4"]), "b": DKD()}
    pair = Distillation(small_models.resnet(), small_models.resnet(), methods)
    message = r"targets is None.*these methods need labels: a \(DKD\), b \(DKD\)\."
    with pytest.raises(ValueError, match=message):
        pair(batch[0], None)


def test_a_student_without_methods_needs_labels(batch):
    with pytest.raises(ValueError, match="there is no method: the student learns nothing"):
        Distillation(small_models.resnet())(batch[0], None)
