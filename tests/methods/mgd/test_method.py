from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.multiprocessing import start_processes

from limbeck import Distillation
from limbeck.methods import KD, MGD
from limbeck.methods.base import Calibration, Epochs, Step, Steps
from limbeck.methods.mgd.method import Stage
from limbeck.methods.mgd.reducers import REDUCERS, guides
from tests import batches, observation, small_models
from tests.methods.mgd.steps import (
    PLACES,
    calibrated,
    calibrated_pair,
    flow_of,
    pair_of,
    random_step,
    step_of,
)


def test_a_step_without_a_flow_says_how_to_get_one():
    pair = pair_of([MGD(PLACES)])
    with pytest.raises(RuntimeError, match=r"no flow yet.*observe\(images, targets\).*solve\(\)"):
        pair(batches.pictures(), batches.labels())


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


def test_the_picture_is_the_flow_over_how_alike_channels_are():
    step = random_step(channels=3, teachers=7)  # two for each, and one for none
    method = MGD(["C4"])
    method.setup(step)
    with pytest.raises(ValueError, match=r"MGD has no flow yet.*--checkpoint"):
        method.picture(step)
    shown = calibrated(method, step).picture(step)
    assert "found on 3 images" in shown.caption
    (matrix,) = shown.matrices.values()
    student, teacher = (side.features["C4"].flatten(2) for side in (step.student, step.teacher))
    alike = torch.cosine_similarity(student[:, :, None], teacher[:, None], dim=3).mean(0)
    torch.testing.assert_close(matrix.values, alike)
    rows, columns = matrix.chosen.T
    assert rows.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(columns.view(3, 2), flow_of(method))


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


@pytest.mark.slow
def test_beside_knowledge_distillation():
    pair = calibrated_pair([KD(temperature=1.5), MGD(PLACES)]).train()
    losses = pair(batches.pictures(), batches.labels())
    assert list(losses) == ["student/cross_entropy", "KD/logits", "MGD/C4.pre", "MGD/C5.pre"]
    alone = calibrated_pair([MGD(PLACES)]).train()(batches.pictures(), batches.labels())
    assert losses.raw["MGD/C5.pre"] == alone.raw["MGD/C5.pre"]
    losses.total.backward()


def test_distance_falls_in_training():
    pair = calibrated_pair([MGD(PLACES, factor=10.0)]).train()
    batch = batches.pictures(4), batches.labels(4)
    before = pair(*batch).raw
    for _ in range(10):
        small_models.train_step(pair, batch)
    after = pair(*batch).raw
    assert all(after[f"MGD/{place}"] < 0.8 * before[f"MGD/{place}"] for place in PLACES)


def test_a_resumed_run_has_flow_margins_and_norms():
    pair = calibrated_pair([MGD(PLACES)]).train()
    small_models.train_step(pair, (batches.pictures(), batches.labels()))
    other = pair_of([MGD(PLACES)], seed=1).train()
    other.load_state_dict(pair.state_dict())
    first, second = (p(batches.pictures(), batches.labels()).raw for p in (pair, other))
    assert {name: loss.item() for name, loss in first.items()} == {
        name: loss.item() for name, loss in second.items()
    }
    assert other.methods["MGD"].found_on == 4
    assert not any("cost" in name for name in pair.state_dict())


def test_a_checkpoint_from_before_the_first_calibration_has_no_flow():
    pair = calibrated_pair([MGD(PLACES)])
    pair.load_state_dict(pair_of([MGD(PLACES)]).state_dict())
    with pytest.raises(RuntimeError, match="no flow yet"):
        pair(batches.pictures(), batches.labels())


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
        Distillation(small_models.retinanet(), small_models.retinanet(), [MGD(["fpn"])])


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
    for first, images in ((3, batches.pictures(4)), (4, batches.pictures(4).flip(3))):
        part = images[:first] if rank == 0 else images[first:]
        if len(part):
            pair.observe(part, None)
        pair.solve()
        found.append((pair.methods["MGD"].found_on, observation.snapshot(pair.methods["MGD"])))
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_find_the_flow_of_one(tmp_path):
    start_processes(process, (tmp_path,), nprocs=2, start_method="forkserver")
    by_rank = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    pair = pair_of([MGD(PLACES)])
    for number, images in enumerate((batches.pictures(4), batches.pictures(4).flip(3))):
        pair.observe(images, None)
        pair.solve()
        expected = observation.snapshot(pair.methods["MGD"])
        for found in by_rank:
            assert found[number][0] == 4
            assert observation.same(found[number][1], expected)
    first, second = (calibration[1]["stages.C5_pre.flow"] for calibration in by_rank[0])
    assert not torch.equal(first, second)
