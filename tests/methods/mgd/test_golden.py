"""Matching Guided Distillation against the authors' code."""

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from limbeck.methods import KD, MGD
from limbeck.methods.mgd.margins import margin_of, norm_before, partial_distance
from limbeck.methods.mgd.reducers import REDUCERS, guides
from tests.methods.mgd.steps import batch_norm, step_of

CLOSE = {"rtol": 2e-5, "atol": 2e-6}
STAGES = (0, 1, 2)
# The published names of the reducers.
NAMES = {"amp": "amp", "sp": "sp_max", "sp_mean": "sp_avg", "rd": "rd", "sm": "sm"}


def load(path):
    with np.load(path) as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}


def sets(flow):
    return [set(row) for row in flow.tolist()]


def test_margins(shared):
    golden = load(shared / "golden/mgd/margins.npz")
    margin = margin_of(batch_norm(golden["weight"], golden["bias"]))
    torch.testing.assert_close(margin, golden["margin"], **CLOSE)
    assert golden["is_fallback"].any()


def test_margins_of_a_resnet(shared):
    """The norms behind C2.pre to C5.pre are those that the original takes."""
    golden = load(shared / "golden/mgd/arch_features.npz")
    model = torchvision.models.resnet50()
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d | nn.Linear)]
    for number, layer in enumerate(layers):
        generator = torch.Generator().manual_seed(10_000 + number)
        if isinstance(layer, nn.BatchNorm2d):
            layer.weight.data = 0.5 + torch.rand(layer.weight.shape, generator=generator)
            layer.bias.data = 0.2 * torch.randn(layer.bias.shape, generator=generator)
    for i in range(4):
        margin = margin_of(norm_before(model, f"C{i + 2}.pre"))
        torch.testing.assert_close(margin, golden[f"resnet50.margin{i}"], **CLOSE)


@pytest.mark.parametrize("shape", ["8x16", "8x8"])
class TestFlow:
    @pytest.fixture
    def golden(self, shared, shape):
        return load(shared / f"golden/mgd/flow_{shape}.npz")

    def observed(self, golden, reducer="amp"):
        """The method after both tracked batches, not solved yet."""
        teacher = nn.ModuleDict({"bn": batch_norm(golden["t_bn_weight"], golden["t_bn_bias"])})
        method = MGD({"C4": "bn"}, reducer)
        for i in (0, 1):
            step = step_of({"C4": golden[f"s_feat_{i}"]}, {"C4": golden[f"t_feat_{i}"]}, teacher)
            if i == 0:
                method.setup(step)
            method.observe(step)
            torch.testing.assert_close(
                method.stages["C4"].cost, golden[f"adj_after_{i}"], rtol=1e-5, atol=1e-5
            )
            assert method.observed == golden[f"num_imgs_after_{i}"]
        return method

    def test_tracking_and_matching(self, golden):
        method = self.observed(golden)
        method.solve()
        stage = method.stages["C4"]
        assert sets(stage.flow) == sets(golden["guided_sets"])
        torch.testing.assert_close(stage.margin, golden["margin"].flatten(), **CLOSE)
        cost = golden["mean_cost"].gather(1, stage.flow).sum()
        torch.testing.assert_close(cost, golden["float_opt_cost"])

    def test_sparse_matching(self, golden):
        method = self.observed(golden, "sm")
        method.solve()
        assert torch.equal(method.stages["C4"].flow[:, 0], golden["sm_guided_inds"])

    @pytest.mark.parametrize("reducer", NAMES)
    def test_reducers_and_losses(self, golden, reducer):
        name, channels = NAMES[reducer], len(golden["guided_sets"])
        indices = golden["sm_guided_inds"] if reducer == "sm" else golden["guided_inds"]
        flow = indices.view(-1, channels).T
        of_feature, of_margin = REDUCERS[reducer]
        torch.manual_seed(77)
        feature = of_feature(guides(golden["t_feat_1"], flow))
        margin = of_margin(guides(golden["margin"], flow))
        torch.testing.assert_close(feature, golden[f"{name}_t"], **CLOSE)
        torch.testing.assert_close(margin, golden[f"{name}_m"], **CLOSE)
        loss = partial_distance(golden["s_feat_1"], feature, margin)
        torch.testing.assert_close(loss, golden[f"loss_{name}"], **CLOSE)


def test_partial_distance(shared):
    golden = load(shared / "golden/mgd/loss.npz")
    source = golden["source"].requires_grad_()
    loss = partial_distance(source, golden["target"], golden["margin"])
    torch.testing.assert_close(loss.detach(), golden["loss"], **CLOSE)
    loss.backward()
    torch.testing.assert_close(source.grad, golden["grad_source"], **CLOSE)
    assert not source.grad[golden["mask"] == 0].any()


@pytest.mark.parametrize(
    ("file", "reducer"),
    [("amp", "amp"), ("amp_ignore0", "amp"), ("sp_max", "sp"), ("sm", "sm")],
)
def test_whole(shared, file, reducer):
    """Flow, losses, gradients and statistics of three stages, with KD and cross-entropy.

    The third stage has 6 and 16 channels; the published code cuts the last four.
    """
    golden = load(shared / f"golden/mgd/toy_{file}.npz")
    stages = [i for i in STAGES if i not in golden["ignore"].tolist()]
    norms = {f"bn{i}": batch_norm(golden[f"t_bn_w{i}"], golden[f"t_bn_b{i}"]) for i in stages}
    teacher = nn.ModuleDict(norms)

    def step(student, taught):
        return step_of(
            {f"C{i}": golden[f"{student}{i}"] for i in stages},
            {f"C{i}": golden[f"{taught}{i}"] for i in stages},
            teacher,
        )

    method = MGD({f"C{i}": f"bn{i}" for i in stages}, reducer, remainder="index")
    for number in (0, 1):
        tracked = step(f"track{number}_s", f"track{number}_t")
        if number == 0:
            method.setup(tracked)
        method.observe(tracked)
    method.solve()
    for i in stages:
        stage = method.stages[f"C{i}"]
        assert sets(stage.flow) == sets(golden[f"inds{i}"].view(-1, len(stage.flow)).T)
        torch.testing.assert_close(stage.margin, golden[f"margin{i}"].flatten(), **CLOSE)
        stage.norm.load_state_dict(
            {"weight": golden[f"bn_w{i}"], "bias": golden[f"bn_b{i}"]}, strict=False
        )

    for i in stages:
        golden[f"in_s{i}"].requires_grad_()
    logits = golden["s_logits"].requires_grad_()
    losses = method(step("in_s", "in_t"))
    weighted = sum(losses[part] * method.weights_at(0)[part] for part in losses)
    distill = golden["loss_distill"] / 4 / 1e4
    torch.testing.assert_close(weighted.detach(), distill, **CLOSE)
    logits_step = step_of({"logits": logits}, {"logits": golden["t_logits"]})
    kd = KD(temperature=1.5)(logits_step)["logits"]
    torch.testing.assert_close(kd.detach(), golden["loss_kd"], **CLOSE)
    total = nn.functional.cross_entropy(logits, golden["labels"]) + kd + weighted
    torch.testing.assert_close(total.detach(), golden["loss_total"], **CLOSE)
    total.backward()
    torch.testing.assert_close(logits.grad, golden["grad_s_logits"], **CLOSE)
    for i in stages:
        norm = method.stages[f"C{i}"].norm
        torch.testing.assert_close(golden[f"in_s{i}"].grad, golden[f"grad_s{i}"], **CLOSE)
        torch.testing.assert_close(norm.running_mean, golden[f"bn_rm{i}"], **CLOSE)
        torch.testing.assert_close(norm.running_var, golden[f"bn_rv{i}"], **CLOSE)
