"""Steps and calibrated methods, for the tests of MGD."""

import math

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import FrozenBatchNorm2d

from limbeck import Distillation
from limbeck.methods.base import Side, Step
from tests import batches, small_models

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
    teacher = small_models.resnet(Bottleneck)
    torch.manual_seed(seed)
    return Distillation(small_models.resnet(norm=FrozenBatchNorm2d), teacher, methods)


def calibrated_pair(methods, seed=0):
    pair = pair_of(methods, seed)
    pair.observe(batches.pictures(4), None)
    pair.solve()
    return pair
