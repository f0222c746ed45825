import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from limbeck import Distillation
from limbeck.methods import KD, Calibration, Method, Side, Step
from limbeck.methods.base import Epochs
from limbeck.schedules import Decay
from tests import batches, observation, small_models


class Centre(Method):
    """Pulls logits to the teacher's mean over the calibration images."""

    calibration = Calibration(Epochs(1), images=4, transform="evaluation")

    def __init__(self):
        super().__init__()
        self.student_taps = self.teacher_taps = {"logits": ""}
        self.weights = {"centre": 1.0}
        self.seen = []
        self.register_buffer("centre", torch.zeros(small_models.CLASSES))

    def observe(self, step):
        modes = step.student.model.training, step.taught.model.training, torch.is_grad_enabled()
        assert modes == (False, False, False)
        self.seen.append(step.taught.features["logits"])

    def solve(self):
        self.centre = torch.cat(self.seen).mean(0)
        self.seen = []

    def forward(self, step):
        return {"centre": (step.student.features["logits"].float() - self.centre).square().mean()}


def test_calibration_over_batches_restores_modes():
    batch = batches.pictures(), batches.labels()
    pair = Distillation(
        small_models.resnet(), small_models.resnet(Bottleneck), [Centre(), KD()]
    ).train()
    pair.student.bn1.eval()
    before = observation.snapshot(pair.student)
    more = batches.pictures(4)[2:]
    pair.observe(*batch)
    pair.observe(more, batches.labels())
    pair.solve()
    expected = pair.teacher(torch.cat([batch[0], more])).mean(0)
    assert torch.allclose(pair.methods["Centre"].centre, expected, atol=1e-6)
    assert observation.same(before, observation.snapshot(pair.student))
    assert pair.student.layer1.training
    assert not pair.student.bn1.training
    assert pair.methods.training
    losses = pair(*batch)
    assert losses["Centre/centre"].requires_grad


def test_calibration_of_detectors():
    class Sizes(Centre):
        def __init__(self):
            super().__init__()
            self.student_taps, self.teacher_taps = {"frame": "frame"}, {"fpn": "fpn"}

        def observe(self, step):
            self.seen.append((step.student.features["frame"].image_sizes, len(step.targets)))

        def forward(self, step):
            return {"centre": step.student.outputs["classification"] * 0}

    pair = Distillation(small_models.retinanet(), small_models.retinanet(), [Sizes()]).train()
    pair.observe(*batches.detection_batch())
    assert pair.methods["Sizes"].seen == [(((64, 64), (64, 64)), 2)]
    assert pair.student.training


def test_weights_are_numbers_or_schedules():
    method = Centre()
    method.weights = {"a": 2, "b": Decay(1.0, 4)}
    assert method.weights_at(1) == {"a": 2.0, "b": 0.75}


def test_a_step_without_a_teacher_says_so():
    step = Step([], None, Side(nn.Identity(), {}), None, number=0, world_size=1)
    with pytest.raises(ValueError, match="this method needs a teacher"):
        _ = step.taught


def test_a_generator_goes_by_its_place_in_the_run_alone() -> None:
    """A loop of one's own that sets no seed has the seed 0."""
    pair = Distillation(small_models.resnet(), None, []).train()
    assert pair.seed == 0
    step = Step(torch.zeros(2), None, Side(nn.Identity(), {}), None, number=3, world_size=1)
    numbers = torch.rand(4, generator=step.generator(1, 2))
    torch.manual_seed(5)
    assert torch.equal(torch.rand(4, generator=step.generator(1, 2)), numbers)
    assert not torch.equal(torch.rand(4, generator=step.generator(1)), numbers)
