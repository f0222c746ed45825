"""What quantization-aware training costs a step, against the same step in floats.

    python benchmarks/int8.py [--rounds 10] [--write]

R = step of a quantized student / step of the same student in floats, plain and with a teacher. A
quantized student's batch normalisations are folded, which saves something, and its weights and
activations are rounded, which costs more. Both run in random order, round by round, on one thread;
R is the median of the rounds' ratios, with quartiles.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import copy
from collections.abc import Iterator

import torch
from torch import nn

from limbeck import Distillation
from limbeck.methods import KD, PKD
from limbeck.models import BasicBlocks, Classifier, RetinaNet
from limbeck.quantization import calibrate, planned, quantize
from measuring import CPU, WALL, above, begin, interleaved, publish, ratios, settings, spread
from step_ratio import distilled

HEAD = "| step | R, CPU time | R, wall |\n|---|---|---|"


def quantized(model: nn.Module, images: object) -> nn.Module:
    """A copy of a model, quantized and calibrated on the images."""
    model = copy.deepcopy(model).eval()
    quantize(model, planned(model, lambda: model(images)))
    calibrate(model, model, [images])
    return model


def pairs() -> Iterator[tuple[str, Distillation, Distillation, object, object]]:
    """The rows: a name, the pair in floats, the same quantized, and a batch."""
    images = torch.rand(64, 3, 32, 32)
    labels = torch.randint(10, (64,))
    blocks = BasicBlocks(depths=(3, 3, 3), widths=(16, 32, 64))
    student = Classifier(blocks, 10)
    teacher = Classifier(BasicBlocks(depths=(9, 9, 9), widths=(16, 32, 64)), 10)
    name = "ResNet-20, 64 x 32 px"
    small = quantized(student, images)
    yield (name, Distillation(copy.deepcopy(student)), Distillation(small), images, labels)
    learnt = [Distillation(copy.deepcopy(s), teacher, [KD()]) for s in (student, small)]
    yield (f"{name}, KD of ResNet-56", *learnt, images, labels)

    photographs = list(torch.rand(2, 3, 256, 256))
    box = torch.tensor([[20.0, 30.0, 150.0, 200.0]])
    targets = [{"boxes": box, "labels": torch.tensor([1])} for _ in photographs]
    detector = RetinaNet("resnet18", num_classes=20, min_size=256, max_size=256)
    name = "RetinaNet R18, 2 x 256 px"
    small = quantized(detector, photographs)
    yield (name, Distillation(copy.deepcopy(detector)), Distillation(small), photographs, targets)
    teacher = RetinaNet("resnet50", num_classes=20, min_size=256, max_size=256)
    learnt = [Distillation(copy.deepcopy(s), teacher, [PKD(["fpn"])]) for s in (detector, small)]
    yield (f"{name}, PKD of R50", *learnt, photographs, targets)


def table(rounds: int) -> Iterator[str]:
    """The table, line by line."""
    yield f"{above('A training step', rounds)}\n\n{HEAD}"
    for name, floats, small, images, targets in pairs():
        steps = [distilled(pair, images, targets) for pair in (small, floats)]
        measured = interleaved(steps, rounds)
        cells = [spread(ratios(measured, steps[0], steps[1:], clock)) for clock in (CPU, WALL)]
        yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print the table."""
    options = settings(__doc__, rounds=10).parse_args()
    begin()
    publish("benchmarks/int8.py", table(options.rounds), options.write)


if __name__ == "__main__":
    main()
