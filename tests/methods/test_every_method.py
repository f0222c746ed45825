"""What every method exported from ``limbeck.methods`` has to pass.

A method joins with one line in ``CASES``.
"""

import inspect
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.multiprocessing import start_processes
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from limbeck import Distillation, methods
from limbeck.methods import Method
from limbeck.methods.base import Side, Step
from limbeck.methods.pictures import Matrices
from limbeck.training.compilation import channels_last, compile_trunks
from tests import batches, observation, small_models, tiny_detrs, tiny_vits


@dataclass(frozen=True)
class Case:
    """How to build a method, and what it distils.

    Attributes:
        make: the method.
        student: a model whose images do not depend on each other (no batch statistics).
        teacher: None for methods without one.
        batch: ``batch(count)``: images and targets.
        equal_halves: give both processes the same images: a mean over each process's own regions
            is the global mean only then.
    """

    make: Callable[[], Method]
    student: Callable[[], nn.Module]
    teacher: Callable[[], nn.Module] | None
    batch: Callable[[int], tuple[Any, Any]]
    equal_halves: bool = False

    def pair(self, seed: int = 0) -> Distillation:
        """A Distillation in training mode whose own losses weigh nothing, calibrated."""
        torch.manual_seed(7)
        teacher = None if self.teacher is None else self.teacher()
        torch.manual_seed(seed)
        pair = Distillation(self.student(), teacher, {"it": self.make()}, student_weight=0.0)
        if pair.methods["it"].calibration is not None:
            pair.observe(*self.batch(4))
            pair.solve()
        return pair.train()


class Chequered(methods.MaskedGenerative):
    """Its mask is the same in every image: what is drawn differs between processes."""

    def mask(self, aligned, step, level):
        count, _, height, width = aligned.shape
        cells = torch.arange(height)[:, None] + torch.arange(width)
        return (cells % 3 < 2).expand(count, 1, -1, -1).float()


class Awake(methods.FGD):
    """The last layers of its context blocks, which are 0 at first, let a gradient pass."""

    def setup(self, step):
        super().setup(step)
        for contexts in (self.student_context, self.teacher_context):
            for context in contexts.values():
                nn.init.normal_(context.second.weight)


def pictures_and_labels(count):
    # At 64 px one value before a ReLU is so near 0 that its sign goes by the memory format.
    return batches.pictures(count, 96), batches.labels(count)


def dark_and_bright(count):
    """Every other picture is black."""
    images, labels = pictures_and_labels(count)
    return (torch.arange(count) % 2)[:, None, None, None] * images, labels


def sharp(classifier):
    """A classifier whose logits are far from each other."""
    with torch.no_grad():
        classifier.fc.weight.mul_(64)
    return classifier


def same_student():
    """For methods that are calibrated: all processes calibrate one and the same student."""
    torch.manual_seed(5)
    return small_models.resnet(norm=FrozenBatchNorm2d)


def decided_student(*arguments):
    """For methods that rank its predictions: their scores lie apart."""
    student = small_models.retinanet(*arguments)
    for name, parameter in student.head.classification_head.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter)
    return student


def same_proposals(proposals, objectness, image_shapes, counts):
    """What an RPN proposes in each image: nothing that rounding could change."""
    boxes = torch.tensor([[2.0, 5.0, 44.0, 51.0], [60.0, 60.0, 100.0, 90.0], [0.0, 0.0, 70.0, 9.0]])
    return [boxes for _ in image_shapes], []


def steady_student():
    """For methods on its regions: they are always the same, and fewer than would be sampled."""
    student = small_models.faster_rcnn()
    student.rpn.filter_proposals = same_proposals
    return student


def sure_teacher():
    """A transformer detector that is sure of what its student does not say.

    RT-DETR's decoder says nothing in float16 on a CPU (transformers 5.24).
    """
    teacher = tiny_detrs.detector("deformable_detr")
    for classes, boxes in zip(teacher.network.class_embed, teacher.network.bbox_embed, strict=True):
        nn.init.constant_(classes.bias, 2.0)
        nn.init.constant_(boxes.layers[-1].bias, -1.0)
    return teacher


classifiers = partial(
    Case,
    student=partial(small_models.resnet, norm=FrozenBatchNorm2d),
    teacher=partial(small_models.resnet, Bottleneck),
    batch=pictures_and_labels,
)
retinanets = partial(
    Case,
    student=small_models.retinanet,
    teacher=partial(small_models.retinanet, Bottleneck, channels=48),
    # At 128 px no stride-2 convolution meets a 1x1 map, where torch 2.14's bf16 gradient on a CPU
    # is sometimes not finite.
    batch=partial(batches.detection_batch, size=128),
)

CASES: dict[type[Method], Case] = {
    methods.AT: classifiers(methods.AT),
    methods.KD: classifiers(methods.KD),
    # P7 is one position at 128 px, where there is nothing to compare.
    methods.CWD: retinanets(lambda: methods.CWD(["P3", "P4", "P5", "P6"])),
    methods.CrossKD: retinanets(
        lambda: methods.CrossKD(held=3),
        student=decided_student,
        teacher=partial(decided_student, Bottleneck),
        # What a batch's losses are divided by, and its maps' scale, are of a process.
        equal_halves=True,
    ),
    methods.DIST: classifiers(
        methods.DIST,
        # Its correlations over images are of a process: equal only where the images are, and only
        # where these differ so much that the 1e-8 in the denominator is nothing beside it.
        student=lambda: sharp(small_models.resnet(norm=FrozenBatchNorm2d)),
        teacher=lambda: sharp(small_models.resnet(Bottleneck)),
        batch=dark_and_bright,
        equal_halves=True,
    ),
    methods.DKD: classifiers(methods.DKD),
    methods.FeatureCosine: retinanets(lambda: methods.FeatureCosine(["P3", "P4"])),
    methods.DetectorDKD: retinanets(
        methods.DetectorDKD,
        student=steady_student,
        teacher=partial(small_models.faster_rcnn, Bottleneck),
        # At 128 px one value before a ReLU is so near 0 that its sign goes by the memory format.
        batch=partial(batches.detection_batch, size=96),
    ),
    methods.FitNet: retinanets(lambda: methods.FitNet(["fpn", "C4.pre"])),
    methods.FineGrainedImitation: retinanets(
        methods.FineGrainedImitation,
        # Its normaliser counts the positions of a process: equal only where the images are.
        equal_halves=True,
    ),
    methods.LD: retinanets(
        # Undivided, its sums over the objects of a batch are twice those of a half.
        lambda: methods.LD(divided=True),
        student=small_models.gfl,
        teacher=lambda: small_models.gfl((16, 16, 32, 32)),
        equal_halves=True,
    ),
    # At P7 there is one cell, to which a context block gives everything whatever its weights are.
    methods.FGD: retinanets(lambda: Awake(["P3", "P4"])),
    methods.MaskedGenerative: retinanets(Chequered),
    methods.PKD: classifiers(
        # Of little weight: the gradient of the adapter's bias is 0, but for rounding.
        lambda: methods.PKD(["C2"], weight=2.5, adapter="conv"),
        # Its loss is (n - 1) / n times what it would be of infinitely many values: n is 2048 here.
        batch=lambda count: (batches.pictures(count, 128), batches.labels(count)),
        equal_halves=True,
    ),
    methods.QueryKD: Case(
        methods.QueryKD,
        student=partial(tiny_detrs.detector, "detr"),  # its norms are frozen
        teacher=sure_teacher,
        batch=partial(batches.detection_batch, size=64),
        # Its normaliser is the confidence of a process's queries.
        equal_halves=True,
    ),
    methods.MGD: classifiers(
        lambda: methods.MGD(["C4.pre", "C5.pre"], factor=100.0, norm="group"),
        student=same_student,
    ),
    methods.ReviewKD: classifiers(
        # Larger images, so that a channel has enough values at C5.
        lambda: methods.ReviewKD(["C3", "C4", "C5"], mid_channels=16),
        batch=lambda count: (batches.pictures(count, 128), batches.labels(count)),
        # Its norms go by the statistics of a process.
        equal_halves=True,
    ),
    methods.HEAD: retinanets(
        # More samples than candidates: none is drawn. The few best proposals are always the same.
        lambda: methods.HEAD(akd=2.0, ckd=2.0, proposals=16, samples=100),
        student=decided_student,
        teacher=partial(small_models.faster_rcnn, Bottleneck),
        equal_halves=True,
    ),
    methods.TFHEAD: retinanets(
        lambda: methods.TFHEAD(1.0, 1.0, 1.0, 1.0, proposals=16, samples=100, box_head_channels=24),
        student=decided_student,
        teacher=None,
        equal_halves=True,
    ),
}
EXPORTED = [
    exported
    for exported in vars(methods).values()
    if inspect.isclass(exported) and issubclass(exported, Method) and exported is not Method
]


def test_every_exported_method_has_a_case():
    assert sorted(m.__name__ for m in CASES) == sorted(m.__name__ for m in EXPORTED)


@pytest.fixture(params=CASES, ids=lambda method: method.__name__)
def case(request):
    return CASES[request.param]


def losses_of(pair, batch):
    """The step's losses with one and the same randomness."""
    torch.manual_seed(3)
    return pair(*batch)


def gradients_of(pair, batch):
    """The gradients of one step, by name."""
    pair.zero_grad()
    losses_of(pair, batch).total.backward()
    return {n: p.grad.clone() for n, p in pair.named_trainable_parameters() if p.grad is not None}


def test_gradient_reaches_student_and_adapters_only(case):
    pair = case.pair()
    pair.methods["it"].weights = dict.fromkeys(pair.methods["it"].weights, 1.0)
    found = gradients_of(pair, case.batch(2))
    assert any(g.abs().sum() > 0 for name, g in found.items() if name.startswith("student."))
    own = {f"methods.it.{name}" for name, _ in pair.methods["it"].named_parameters()}
    assert own <= found.keys()
    assert all(found[name].abs().sum() > 0 for name in own)
    if pair.teacher is not None:
        assert all(p.grad is None for p in pair.teacher.parameters())


def test_a_method_that_compares_classes_can_be_told_to_take_others(case):
    """Its refusal of a teacher of other classes says so."""
    method = case.make()
    if method.compares_classes:
        assert not type(method)(other_classes=True).compares_classes


def test_a_picture_explains_itself(case):
    """It lies over each image, or is matrices, and says in sentences what is seen."""
    images, targets = case.batch(2)
    shown = case.pair().picture(images, targets, "it")
    assert shown.caption.endswith(".")
    if isinstance(shown, Matrices):
        values = torch.cat([matrix.values.flatten() for matrix in shown.matrices.values()])
        assert -1 <= values.min() < values.max() <= 1
        return
    assert all(len(of_images) == 2 for of_images in shown.columns.values())
    items = [each for column in shown.columns.values() for each in zip(images, column, strict=True)]
    maps = [(image, each) for image, each in items if isinstance(each, torch.Tensor)]
    assert all(each.shape == image.shape[1:] for image, each in maps)
    assert all(each.min() >= 0 and each.max() <= 1 for _, each in maps)
    boxes = [each["boxes"] for _, each in items if not isinstance(each, torch.Tensor)]
    assert any(each.any() for _, each in maps) or any(len(each) for each in boxes)


def test_finite(case):
    pair = case.pair()
    losses = losses_of(pair, case.batch(2))
    parts = [name for name in losses if name.startswith("it/")]
    assert parts
    assert all(losses.raw[name].isfinite() and losses.raw[name].dim() == 0 for name in parts)
    assert all(g.isfinite().all() for g in gradients_of(pair, case.batch(2)).values())


def test_alive_under_check(case):
    pair = case.pair()
    optimizer = torch.optim.SGD(pair.trainable_parameters(), 0.1)
    assert {c.method for c in pair.check(*case.batch(2), optimizer).connections} == {"it"}


def test_images_without_labels_give_the_same_losses_or_are_refused(case):
    pair, (images, targets) = case.pair(), case.batch(2)
    if pair.methods["it"].needs_targets:
        name = type(pair.methods["it"]).__name__
        with pytest.raises(ValueError, match=rf"need labels: it \({name}\)"):
            pair(images, None)
        return
    expected = losses_of(pair, (images, targets)).raw
    found = losses_of(pair, (images, None)).raw
    assert found.keys() == {name for name in expected if name.startswith("it/")}
    for name, loss in found.items():
        assert loss.item() == pytest.approx(expected[name].item(), rel=1e-5, abs=1e-7), name
    optimizer = torch.optim.SGD(pair.trainable_parameters(), 0.1)
    assert {c.method for c in pair.check(images, None, optimizer).connections} == {"it"}
    pair.zero_grad()
    losses_of(pair, (images, None)).total.backward()
    reached = {name for name, p in pair.named_trainable_parameters() if p.grad is not None}
    assert any(name.startswith("student.") for name in reached)


@pytest.mark.parametrize(
    "half",
    [
        pytest.param(torch.bfloat16, id="bf16"),
        pytest.param(torch.float16, id="fp16", marks=pytest.mark.slow),
    ],
)
def test_losses_are_float32_under_autocast(case, half):
    pair, batch = case.pair(), case.batch(2)
    exact = losses_of(pair, batch)
    with torch.autocast("cpu", half):
        losses = losses_of(pair, batch)
    assert {loss.dtype for loss in losses.raw.values()} == {torch.float32}
    for name in losses:
        if name.startswith("it/"):
            assert losses.raw[name].item() == pytest.approx(exact.raw[name].item(), rel=0.1)
    losses.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pair.trainable_parameters())


def assert_unchanged(pair, batch, losses, gradients):
    """The step gives the losses and gradients that it gave."""
    found = losses_of(pair, batch).raw
    for name, loss in losses.raw.items():
        assert found[name].item() == pytest.approx(loss.item(), rel=1e-4, abs=1e-6), name
    found = gradients_of(pair, batch)
    assert found.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-5), name


def test_channels_last_computes_the_same(case):
    pair, batch = case.pair(), case.batch(2)
    expected = losses_of(pair, batch), gradients_of(pair, batch)
    channels_last(pair)
    assert_unchanged(pair, batch, *expected)


def test_state_round_trip(case):
    pair, batch = case.pair(), case.batch(2)
    optimizer = torch.optim.SGD(pair.trainable_parameters(), 1e-3)
    gradients_of(pair, batch)
    optimizer.step()
    pair.advance()
    buffer = io.BytesIO()
    torch.save(pair.state_dict(), buffer)
    buffer.seek(0)
    other = case.pair(seed=1)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert observation.same(observation.snapshot(pair), observation.snapshot(other))
    first, second = losses_of(pair, batch), losses_of(other, batch)
    assert {k: v.item() for k, v in first.raw.items()} == {
        k: v.item() for k, v in second.raw.items()
    }
    assert first.weights == second.weights


# Taps of every kind: of logits, on a pyramid, before an activation, of a transformer.
DIFFERENTIATED = (methods.KD, methods.FitNet, methods.MGD, methods.QueryKD)


@pytest.mark.slow
@pytest.mark.parametrize("method", CASES, ids=lambda method: method.__name__)
def test_compiled_after_construction(method, monkeypatch):
    """What taps can break is tracing; the trace is differentiated ahead for one of each kind."""
    case = CASES[method]
    pair, batch = case.pair(), case.batch(2)
    expected = losses_of(pair, batch), gradients_of(pair, batch)
    torch.compiler.reset()
    counters.clear()
    backend = "aot_eager" if method in DIFFERENTIATED else "eager"
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    compile_trunks(pair)
    for _ in range(2):
        assert_unchanged(pair, batch, *expected)
        # One graph a trunk, and no more after the first step.
        assert counters["stats"]["unique_graphs"] == 1 + (pair.teacher is not None)
    torch.compiler.reset()


# -- two processes --------------------------------------------------------------------------------


SIDE = Side(nn.Identity(), {})


def halves(case):
    """The global batch of 4, and each process's 2."""
    images, targets = case.batch(4)
    if case.equal_halves:
        images = torch.cat([images[:2]] * 2) if torch.is_tensor(images) else images[:2] * 2
        targets = torch.cat([targets[:2]] * 2) if torch.is_tensor(targets) else targets[:2] * 2
    return (images, targets), [(images[:2], targets[:2]), (images[2:], targets[2:])]


def process(rank, folder):
    """One of two processes: a step of every method; the first writes the gradients down."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    found = {}
    for method, case in CASES.items():
        pair = case.pair(seed=rank)  # DDP gives all processes the first one's weights
        wrapped = nn.parallel.DistributedDataParallel(pair)
        torch.manual_seed(3)
        wrapped(*halves(case)[1][rank]).total.backward()
        named = pair.named_trainable_parameters()
        found[method.__name__] = {n: p.grad for n, p in named if p.grad is not None}
    wrapped = nn.parallel.DistributedDataParallel(tiny_vits.taught_by_two(seed=rank))
    images, targets = batches.detection_batch(4)
    half = slice(2 * rank, 2 * rank + 2)
    wrapped(images[half], targets[half]).total.backward()
    named = wrapped.module.named_trainable_parameters()
    found["several teachers"] = {n: p.grad for n, p in named if p.grad is not None}
    uneven = Step([torch.zeros(1)] * (rank + 2), None, SIDE, None, number=0, world_size=2)
    found["global batch"] = uneven.global_batch
    found["mean over processes"] = uneven.mean_over_processes(torch.tensor(rank + 2.0))
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    """Gradients of one step in two processes, by method."""
    folder = tmp_path_factory.mktemp("distributed")
    start_processes(process, (folder,), nprocs=2, start_method="forkserver")
    return torch.load(folder / "gradients.pt")


@pytest.mark.slow
def test_the_global_batch_counts_uneven_parts(distributed):
    assert distributed["global batch"] == 2 + 3


@pytest.mark.slow
def test_a_mean_over_processes(distributed):
    assert distributed["mean over processes"] == (2 + 3) / 2


@pytest.mark.slow
@pytest.mark.parametrize("method", CASES, ids=lambda method: method.__name__)
def test_two_processes_equal_one(method, distributed):
    case = CASES[method]
    expected = gradients_of(case.pair(), halves(case)[0])
    assert_equal_gradients(distributed[method.__name__], expected)


@pytest.mark.slow
def test_two_processes_of_several_teachers_equal_one(distributed):
    pair = tiny_vits.taught_by_two(seed=0)
    expected = gradients_of(pair, batches.detection_batch(4))
    assert_equal_gradients(distributed["several teachers"], expected)


def assert_equal_gradients(found, expected):
    """Gradients of two processes are those of one."""
    assert found.keys() == expected.keys()
    assert any(gradient.abs().sum() > 0 for gradient in found.values())
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-6), name
