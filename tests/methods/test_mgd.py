import math
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn
from torch.multiprocessing import start_processes
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from limbeck import Distillation
from limbeck.methods import KD, MGD
from limbeck.methods.base import Calibration, Epochs, Side, Step, Steps
from limbeck.methods.mgd.margins import margin_of
from limbeck.methods.mgd.matching import channel_distances, cheapest_columns
from limbeck.methods.mgd.method import Stage
from limbeck.methods.mgd.reducers import REDUCERS, guides
from tests import small

PLACES = ["C4.pre", "C5.pre"]
STANDARD = -math.sqrt(2 / math.pi)  # E[X | X < 0] of the standard normal distribution


def batch_norm(weight, bias):
    """A batch norm with this gain and shift."""
    norm = nn.BatchNorm2d(len(weight))
    norm.load_state_dict({"weight": weight, "bias": bias}, strict=False)
    return norm


def step_of(student, teacher, model=None):
    """A step in which both models gave these features."""
    images = next(iter(student.values()))  # counted, never looked at
    model = model or nn.ModuleDict({name: nn.Identity() for name in teacher})
    sides = [Side(nn.Identity(), student), Side(model, teacher)]
    return Step(images, None, *sides, number=0, world_size=1)


def random_step(channels=4, teachers=8, images=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (images, channels, 5, 6), (images, teachers, 5, 6)
    student, teacher = (torch.randn(shape, generator=generator) for shape in shapes)
    return step_of({"C4": student}, {"C4": teacher})


def calibrated(method, *steps):
    """The method set up for these steps and calibrated on them."""
    method.setup(steps[0])
    for step in steps:
        method.observe(step)
    method.solve()
    return method


def flow_of(method):
    return method.stages["C4"].flow


def pair_of(methods, seed=0):
    """A small ResNet taught by one with four times the channels."""
    torch.manual_seed(7)
    teacher = small.resnet(Bottleneck)
    torch.manual_seed(seed)
    return Distillation(small.resnet(norm=FrozenBatchNorm2d), teacher, methods)


def calibrated_pair(methods, seed=0):
    pair = pair_of(methods, seed)
    pair.observe(small.pictures(4), None)
    pair.solve()
    return pair


# -- matching -------------------------------------------------------------------------------------


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


# -- reduction ------------------------------------------------------------------------------------

FLOW = torch.tensor([[6, 0, 3], [1, 5, 2]])


def of_plain_loop(feature, choose):
    """(B, T, H, W) to (B, S, H, W), element by element."""
    result = torch.empty(len(feature), len(FLOW), *feature.shape[2:])
    for image, row, y, x in np.ndindex(*result.shape):
        result[image, row, y, x] = choose([feature[image, t, y, x].item() for t in FLOW[row]])
    return result


@pytest.mark.parametrize(
    ("reducer", "choose", "choose_margin"),
    [
        ("amp", partial(max, key=abs), np.mean),
        ("sp", max, max),
        ("sp_mean", np.mean, np.mean),
    ],
)
def test_reducers_against_a_plain_loop(reducer, choose, choose_margin):
    feature, margin = torch.randn(2, 7, 3, 4), torch.randn(1, 7, 1, 1)
    of_feature, of_margin = REDUCERS[reducer]
    torch.testing.assert_close(of_feature(guides(feature, FLOW)), of_plain_loop(feature, choose))
    expected = of_plain_loop(margin, choose_margin)
    torch.testing.assert_close(of_margin(guides(margin, FLOW)), expected)


def test_random_drop_takes_any_of_them_at_each_position_anew():
    feature = torch.arange(7.0)[None, :, None, None].expand(2, 7, 30, 30)
    drop, drop_margin = REDUCERS["rd"]
    drawn = drop(guides(feature, FLOW))
    for row, members in enumerate(FLOW):
        values, counts = drawn[:, row].unique(return_counts=True)
        assert values.tolist() == sorted(members.tolist())
        assert counts.min() > 500  # of 1800 / 3
    assert not torch.equal(drawn, drop(guides(feature, FLOW)))
    assert drop_margin(guides(feature[:1, :, :1, :1], FLOW)).shape == (1, 2, 1, 1)


@pytest.mark.parametrize("reducer", REDUCERS)
def test_one_channel_each_is_a_permutation(reducer):
    feature, flow = torch.randn(2, 4, 3, 3), torch.tensor([[2], [0], [3], [1]])
    for reduce in REDUCERS[reducer]:
        assert torch.equal(reduce(guides(feature, flow)), feature[:, flow[:, 0]])


# -- margins --------------------------------------------------------------------------------------


def test_margin_is_the_mean_of_the_negative_part():
    gamma, beta = torch.tensor([1.0, -0.5, 2.0, 1.0]), torch.tensor([0.0, 0.3, -4.0, 3.0])
    mean, scale = beta.numpy(), gamma.abs().numpy()
    expected = torch.tensor(stats.truncnorm.mean(-np.inf, -mean / scale, mean, scale)).float()
    torch.testing.assert_close(margin_of(batch_norm(gamma, beta)), expected)


def test_margin_of_a_constant_channel_is_the_limit():
    beta = torch.tensor([-2.0, 0.0, 2.0])
    assert margin_of(batch_norm(torch.zeros(3), beta)).tolist() == [-2.0, 0.0, 0.0]
    narrow = margin_of(batch_norm(torch.full((3,), 1e-7), beta))
    torch.testing.assert_close(narrow, torch.tensor([-2.0, 0.0, 0.0]), rtol=0, atol=1e-6)


def test_norms_of_any_kind():
    gamma, beta = torch.rand(32) + 0.5, torch.randn(32)
    expected = margin_of(batch_norm(gamma, beta))
    for norm in (FrozenBatchNorm2d(32), nn.SyncBatchNorm(32), nn.GroupNorm(4, 32)):
        norm.load_state_dict({"weight": gamma, "bias": beta}, strict=False)
        assert torch.equal(margin_of(norm), expected)
    for norm in (None, nn.BatchNorm2d(32, affine=False)):
        assert margin_of(norm).item() == pytest.approx(STANDARD)


def test_margins_are_of_the_teacher_as_it_is_when_calibrated():
    pair = calibrated_pair([MGD(PLACES)])
    stage, norm = pair.methods["MGD"].stages["C5_pre"], pair.teacher.layer4[-1].bn3
    assert torch.equal(stage.margin, margin_of(norm))
    nn.init.normal_(norm.weight)
    pair.observe(small.pictures(), None)
    pair.solve()
    assert torch.equal(stage.margin, margin_of(norm))


def test_places_without_a_norm_have_the_standard_margin():
    student, teacher = small.retinanet(), small.retinanet(Bottleneck, channels=64)
    pair = Distillation(student, teacher, [MGD(["C5.pre", "P3"])])
    stages = pair.methods["MGD"].stages
    nn.init.normal_(teacher.backbone.body.layer4[-1].bn3.weight)
    pair.observe(*small.detection_batch())
    assert stages["P3"].margin.tolist() == pytest.approx([STANDARD] * 64)
    assert torch.equal(stages["C5_pre"].margin, margin_of(teacher.backbone.body.layer4[-1].bn3))


# -- the method -----------------------------------------------------------------------------------


def test_a_step_without_a_flow_says_how_to_get_one():
    pair = pair_of([MGD(PLACES)])
    with pytest.raises(RuntimeError, match=r"no flow yet.*observe\(images, targets\).*solve\(\)"):
        pair(small.pictures(), small.labels())


def test_gradient_reaches_the_student_and_its_norms_only():
    step = random_step()
    student, teacher = step.student.features["C4"], step.teacher.features["C4"]
    method = calibrated(MGD(["C4"]), step)
    student.requires_grad_()
    method(step)["C4"].backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None
    assert all(p.grad is not None for p in method.parameters())
    assert [name for name, _ in method.named_parameters()] == [
        "stages.C4.norm.weight",
        "stages.C4.norm.bias",
    ]


def test_the_mean_over_processes_is_that_of_the_global_batch(monkeypatch):
    """Two processes, of 3 images here and 9 elsewhere."""
    step = random_step()
    method = calibrated(MGD(["C4"]), step)
    total = method(step)["C4"] * 3
    monkeypatch.setattr(Step, "global_batch", torch.tensor(12))
    torch.testing.assert_close(method(replace(step, world_size=2))["C4"], total * 2 / 12)


def test_what_is_compared_can_be_looked_at():
    step = random_step()
    method = calibrated(MGD(["C4"]), step).eval()
    student, reduced, flow = method.matched(step, "C4")
    assert torch.equal(flow, flow_of(method))
    assert torch.equal(student, method.adapter_of("C4")(step.student.features["C4"]))
    of_feature, _ = REDUCERS["amp"]
    assert torch.equal(reduced, of_feature(guides(step.teacher.features["C4"], flow)))


def test_classification_weights_halve_from_the_last_stage():
    assert MGD().weights == {"C2.pre": 1.25e-5, "C3.pre": 2.5e-5, "C4.pre": 5e-5, "C5.pre": 1e-4}
    assert MGD(["C3.pre", "C5.pre"]).weights == {"C3.pre": 5e-5, "C5.pre": 1e-4}


def test_detection_divides_by_a_factor_of_each_stage():
    places = ["C2.pre", "C3.pre", "C4.pre", "C5.pre"]
    weights = MGD(places, stage_weights=[1, 1, 10, 10], factor=5e7).weights
    published = [5e7, 5e7, 5e6, 5e6]
    assert [1 / weight for weight in weights.values()] == pytest.approx(published)


def test_when_and_on_what_it_is_calibrated():
    assert MGD().calibration == Calibration(Epochs(2), 20_000, "evaluation")
    method = MGD(every_steps=5000, slow_from=20_000, slow_every=31_000, transform="training")
    expected = Calibration(Steps(5000, 20_000, 31_000), 20_000, "training")
    assert method.calibration == expected


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("batch", nn.BatchNorm2d), ("synchronised", nn.SyncBatchNorm), ("group", nn.GroupNorm)],
)
def test_the_norm_of_the_student(norm, kind):
    method = MGD(["C4"], norm=norm)
    method.setup(random_step(32, 64))
    assert type(method.adapter_of("C4")) is kind
    assert type(pair_of([MGD(PLACES, norm=norm)]).methods["MGD"].adapter_of("C5.pre")) is kind


def test_beside_knowledge_distillation():
    pair = calibrated_pair([KD(temperature=1.5), MGD(PLACES)]).train()
    losses = pair(small.pictures(), small.labels())
    assert list(losses) == ["student/cross_entropy", "KD/logits", "MGD/C4.pre", "MGD/C5.pre"]
    alone = calibrated_pair([MGD(PLACES)]).train()(small.pictures(), small.labels())
    assert losses.raw["MGD/C5.pre"] == alone.raw["MGD/C5.pre"]
    losses.total.backward()


def test_distance_falls_in_training():
    pair = calibrated_pair([MGD(PLACES, factor=10.0)]).train()
    batch = small.pictures(4), small.labels(4)
    before = pair(*batch).raw
    for _ in range(10):
        small.train_step(pair, batch)
    after = pair(*batch).raw
    assert all(after[f"MGD/{place}"] < 0.8 * before[f"MGD/{place}"] for place in PLACES)


def test_a_resumed_run_has_flow_margins_and_norms():
    pair = calibrated_pair([MGD(PLACES)]).train()
    small.train_step(pair, (small.pictures(), small.labels()))
    other = pair_of([MGD(PLACES)], seed=1).train()
    other.load_state_dict(pair.state_dict())
    first, second = (p(small.pictures(), small.labels()).raw for p in (pair, other))
    assert {name: loss.item() for name, loss in first.items()} == {
        name: loss.item() for name, loss in second.items()
    }
    assert other.methods["MGD"].found_on == 4
    assert not any("cost" in name for name in pair.state_dict())


def test_a_checkpoint_from_before_the_first_calibration_has_no_flow():
    pair = calibrated_pair([MGD(PLACES)])
    pair.load_state_dict(pair_of([MGD(PLACES)]).state_dict())
    with pytest.raises(RuntimeError, match="no flow yet"):
        pair(small.pictures(), small.labels())


def test_a_checkpoint_without_a_flow_is_refused():
    pair = calibrated_pair([MGD(PLACES)])
    state = pair.state_dict()
    state.pop("methods.MGD.stages.C4_pre.flow")
    with pytest.raises(RuntimeError, match=r"C4_pre\.flow"):
        pair.load_state_dict(state)


@pytest.mark.parametrize("reducer", REDUCERS)
def test_compiles_in_one_graph(reducer):
    torch.compiler.reset()
    stage = Stage(nn.BatchNorm2d(4), (4, 1 if reducer == "sm" else 2), 8)
    stage.flow.copy_(torch.randperm(8)[: stage.flow.numel()].view(stage.flow.shape))
    student, teacher = torch.randn(2, 4, 5, 5, requires_grad=True), torch.randn(2, 8, 5, 5)
    compiled = torch.compile(stage, backend="aot_eager", fullgraph=True)
    found = []
    for run in (stage, compiled):
        torch.manual_seed(3)
        loss = run(student, teacher, reducer)
        found.append((loss.detach(), *torch.autograd.grad(loss, student)))
    torch.testing.assert_close(found[0], found[1])
    torch.compiler.reset()


# -- memory ---------------------------------------------------------------------------------------


class Allocated(TorchDispatchMode):
    """The bytes of every new tensor within; their sum is more than is ever held at once."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        known = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if (
                isinstance(tensor, torch.Tensor)
                and tensor.untyped_storage().data_ptr() not in known
            ):
                self.sizes.append(tensor.untyped_storage().nbytes())
        return result


def test_matching_keeps_no_product_for_each_image():
    student, teacher = torch.randn(16, 64, 3, 3), torch.randn(16, 256, 3, 3)
    with Allocated() as new:
        channel_distances(student, teacher)
    product = 16 * 64 * 256 * 4
    inputs = student.nbytes + teacher.nbytes
    result = 64 * 256 * 4
    assert sum(new.sizes) <= 3 * inputs + 2 * result < product


@pytest.mark.parametrize(("reducer", "times"), [("amp", 3), ("sp", 2), ("sp_mean", 2), ("rd", 3)])
def test_reduction_takes_a_small_multiple_of_the_feature(reducer, times):
    teacher, flow = torch.randn(4, 64, 8, 8), torch.randperm(64).view(16, 4)
    with Allocated() as new:
        REDUCERS[reducer][0](guides(teacher, flow))
    assert sum(new.sizes) <= times * teacher.nbytes


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"reducer": "avg"}, "reducer is 'avg'; there are amp, sp, sp_mean, rd, sm"),
        ({"norm": "layer"}, "norm is 'layer'; there are batch, group, synchronised"),
        ({"remainder": "first"}, "remainder is 'first'; there are cost, index"),
        ({"stage_weights": [1.0]}, r"4 places \(C2.pre, .*\) and 1 stage_weights"),
    ],
)
def test_arguments_that_mean_nothing(arguments, says):
    with pytest.raises(ValueError, match=says):
        MGD(**arguments)


@pytest.mark.parametrize(
    ("student", "teacher", "arguments", "says"),
    [
        ((1, 8, 4, 4), (1, 6, 4, 4), {}, "the teacher has 6 channels and the student 8"),
        ((1, 8, 4, 4), (1, 8, 2, 2), {}, r"\(1, 8, 4, 4\).*\(1, 8, 2, 2\) differ in height"),
        ((1, 8), (1, 8), {}, r"the student gives torch.Size\(\[1, 8\]\) where one map"),
        ((1, 48, 4, 4), (1, 96, 4, 4), {"norm": "group"}, "48 channels do not make 32 groups"),
    ],
)
def test_features_that_do_not_fit_are_named(student, teacher, arguments, says):
    step = step_of({"C4": torch.zeros(student)}, {"C4": torch.zeros(teacher)})
    with pytest.raises(ValueError, match=rf"student's C4, teacher's C4: .*{says}"):
        MGD(["C4"], **arguments).setup(step)


def test_a_list_over_levels_is_refused():
    with pytest.raises(ValueError, match="gives list where one map"):
        Distillation(small.retinanet(), small.retinanet(), [MGD(["fpn"])])


def test_a_norm_over_other_channels_is_refused():
    model = nn.ModuleDict({"C4": nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 8, 1))})
    step = step_of({"C4": torch.zeros(1, 4, 2, 2)}, {"C4": torch.zeros(1, 8, 2, 2)}, model)
    with pytest.raises(ValueError, match=r"feature has 8 channels and the norm .* 3"):
        MGD(["C4"]).setup(step)


def test_solving_without_images():
    method = calibrated(MGD(["C4"]), random_step())
    with pytest.raises(RuntimeError, match="observed no image"):
        method.solve()


def test_features_that_are_not_finite_leave_the_flow_as_it_was():
    step = random_step()
    method = calibrated(MGD(["C4"]), step)
    flow = flow_of(method).clone()
    step.student.features["C4"][0, 0, 0, 0] = torch.nan
    method.observe(step)
    with pytest.raises(ValueError, match="not finite at C4"):
        method.solve()
    assert torch.equal(flow_of(method), flow)
    assert method.stages["C4"].cost is None


# -- two processes --------------------------------------------------------------------------------


def process(rank, folder):
    """One of two processes: three images and one, then four and none."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    pair = pair_of([MGD(PLACES)])
    found = []
    for first, images in ((3, small.pictures(4)), (4, small.pictures(4).flip(3))):
        part = images[:first] if rank == 0 else images[first:]
        if len(part):
            pair.observe(part, None)
        pair.solve()
        found.append((pair.methods["MGD"].found_on, small.snapshot(pair.methods["MGD"])))
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_find_the_flow_of_one(tmp_path):
    start_processes(process, (tmp_path,), nprocs=2, start_method="forkserver")
    by_rank = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    pair = pair_of([MGD(PLACES)])
    for number, images in enumerate((small.pictures(4), small.pictures(4).flip(3))):
        pair.observe(images, None)
        pair.solve()
        expected = small.snapshot(pair.methods["MGD"])
        for found in by_rank:
            assert found[number][0] == 4
            assert small.same(found[number][1], expected)
    first, second = (calibration[1]["stages.C5_pre.flow"] for calibration in by_rank[0])
    assert not torch.equal(first, second)
