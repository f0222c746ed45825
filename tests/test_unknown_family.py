"""Models of families that limbeck has never heard of, distilled by paths alone."""

import torch
from torch import nn
from torch.nn import functional as F

from limbeck import Distillation, landmarks
from limbeck.methods import KD, FitNet
from tests import batches, small_models


def conv(before, after):
    return nn.Sequential(nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(True))


class TinyDetector(nn.Module):
    """One box and one score a cell of a stride-8 map; nothing of torchvision's in it."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 8), conv(8, 16), conv(16, 24)])
        self.score = nn.Conv2d(24, small_models.CLASSES, 1)
        self.box = nn.Conv2d(24, 4, 1)

    def forward(self, images, targets=None):
        x = torch.stack(list(images)) - 0.5
        for stage in self.stages:
            x = stage(x)
        scores, boxes = self.score(x), self.box(x)
        if not self.training:
            return [
                {"boxes": b.flatten(1).T, "scores": s.amax(0).flatten()}
                for b, s in zip(boxes, scores, strict=True)
            ]
        wanted = torch.zeros_like(scores)
        for i, target in enumerate(targets):
            columns, rows = ((target["boxes"][:, :2] + target["boxes"][:, 2:]) // 16).long().T
            wanted[i, target["labels"] - 1, rows, columns] = 1
        return {
            "score": F.binary_cross_entropy_with_logits(scores, wanted),
            "box": boxes.abs().mean(),
        }


class TinyClassifier(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.ModuleDict({"first": conv(3, width), "second": conv(width, width)})
        self.out = nn.Linear(width, small_models.CLASSES)

    def forward(self, x):
        return self.out(self.body["second"](self.body["first"](x)).mean((2, 3)))


def distil(pair, batch, steps=8):
    """The method's losses over a few steps on one batch, after the check."""
    optimizer = torch.optim.Adam(pair.trainable_parameters(), 3e-3)
    pair.train().check(*batch, optimizer)
    seen = []
    for _ in range(steps):
        losses = pair(*batch)
        seen.append({name: loss.item() for name, loss in losses.raw.items()})
        losses.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        pair.advance()
    return seen


def test_fcos_teaches_a_detector_of_our_own():
    student = TinyDetector()
    assert landmarks(student) == {}
    hint = FitNet({"stages.2": "backbone/0"}, weight=5.0)
    seen = distil(
        Distillation(student, small_models.fcos(), {"hint": hint}), batches.detection_batch()
    )
    assert list(seen[0]) == ["student/score", "student/box", "hint/stages.2"]
    assert seen[-1]["hint/stages.2"] < 0.8 * seen[0]["hint/stages.2"]
    assert seen[-1]["student/score"] < seen[0]["student/score"]


def test_plain_modules_teach_each_other():
    student, teacher = TinyClassifier(4), TinyClassifier(16)
    assert landmarks(student) == {}
    methods = {"soft": KD(2.0), "hint": FitNet({"body.second": "body.second"}, weight=2.0)}
    teacher.out.weight.data.mul_(20)  # sharp enough to have something to teach
    pair = Distillation(student, teacher, methods, student_weight=0.1)
    seen = distil(pair, (batches.pictures(8, 16), batches.labels(8)), steps=16)
    assert seen[-1]["soft/logits"] < 0.8 * seen[0]["soft/logits"]
    assert seen[-1]["hint/body.second"] < 0.8 * seen[0]["hint/body.second"]


def test_a_detector_of_our_own_teaches_torchvisions():
    """The other way round: the hint's map has the same stride under another name."""
    teacher = TinyDetector()
    hint = FitNet({"P3": "stages.2:output"})
    seen = distil(
        Distillation(small_models.fcos(), teacher, {"hint": hint}), batches.detection_batch()
    )
    assert seen[-1]["hint/P3"] < 0.8 * seen[0]["hint/P3"]
    assert teacher.stages[0][0].weight.grad is None
