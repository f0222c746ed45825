"""What precision, memory layout and compilation do to a distillation step.

    python benchmarks/precision.py [--rounds 6] [--compile] [--write]

The same pair in each variant, one step of each in random order, round by round; ratios to the step
in float32 of the same round, median with quartiles. The steps are made as training makes them:
autocast around the losses, a gradient scaler with float16 (on a GPU only), the trunks compiled.
``--compile`` measures the compiled variants instead; with inductor they begin with minutes of
compilation, which are shown.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import copy
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from limbeck import Distillation
from limbeck.methods import KD, FitNet
from limbeck.training.compilation import channels_last, compile_trunks
from measuring import (
    CPU,
    WALL,
    Step,
    above,
    begin,
    device,
    interleaved,
    publish,
    ratios,
    seconds,
    settings,
    spread,
)
from step_ratio import CLASSES, classifier, detection_batch, retinanet


@dataclass(frozen=True)
class Variant:
    """How a step is computed.

    Attributes:
        name: as the table has it.
        half: what autocast computes in; None for float32.
        last: channels_last.
        compiled: both trunks, with inductor.
    """

    name: str
    half: torch.dtype | None = None
    last: bool = False
    compiled: bool = False


BF16 = torch.bfloat16
FLOAT32 = Variant("float32")
EAGER = [
    Variant("channels_last", last=True),
    Variant("bf16", BF16),
    Variant("bf16, channels_last", BF16, last=True),
]
FLOAT16 = [
    Variant("fp16", torch.float16),
    Variant("fp16, channels_last", torch.float16, last=True),
]
COMPILED = [
    Variant("compiled", compiled=True),
    Variant("compiled, bf16, channels_last", BF16, last=True, compiled=True),
]


def step_of(pair: Distillation, batch: tuple, variant: Variant) -> Step:
    """Forward, backward and SGD with momentum of a copy of the pair."""
    pair = copy.deepcopy(pair).train()
    if variant.last:
        channels_last(pair)
    if variant.compiled:
        compile_trunks(pair)
    optimizer = torch.optim.SGD(pair.trainable_parameters(), lr=1e-4, momentum=0.9)
    kind, half = device().type, variant.half
    scaler = torch.amp.GradScaler(kind, enabled=half is torch.float16)

    def step() -> None:
        with torch.autocast(kind, half, enabled=half is not None):
            total = pair(*batch).total
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def pairs() -> Iterator[tuple[str, Distillation, tuple]]:
    """Name, pair and batch."""
    images, labels = torch.rand(8, 3, 160, 160), torch.randint(CLASSES, (8,))
    methods = [KD(), FitNet(["C3", "C4", "C5"])]
    pair = Distillation(classifier("resnet18"), classifier("resnet50"), methods)
    yield "KD and FitNet C3 to C5, ResNet 50 -> 18", pair, (images, labels)

    batch = detection_batch(256, 2)
    pair = Distillation(retinanet("resnet18"), retinanet("resnet50"), [FitNet(["fpn"])])
    yield "FitNet on the FPN, RetinaNet R50 -> R18", pair, batch


def moved(value: object) -> object:
    """A batch on the device."""
    if isinstance(value, Tensor):
        return value.to(device())
    if isinstance(value, dict):
        return {name: moved(item) for name, item in value.items()}
    return type(value)(moved(item) for item in value)


def lines(name: str, pair: Distillation, batch: tuple, options: argparse.Namespace) -> list[str]:
    """One line a variant."""
    eager = EAGER + (FLOAT16 if device().type == "cuda" else [])
    variants = [FLOAT32, *(COMPILED if options.compile else eager)]
    steps = [step_of(pair.to(device()), moved(batch), variant) for variant in variants]
    first = [seconds(step)[WALL] for step in steps]
    measured = interleaved(steps, options.rounds, warm_up=1)
    found = []
    for variant, step, begun in zip(variants, steps, first, strict=True):
        shown = [spread(ratios(measured, step, steps[:1], clock)) for clock in (CPU, WALL)]
        took = statistics.median(times[step][WALL] for times in measured)
        cells = [name, variant.name, *shown, f"{took:.3f}", f"{begun:.1f}"]
        found.append(f"| {' | '.join(cells)} |")
    return found


HEAD = """\
| step | variant | / float32, CPU time | / float32, wall | seconds | first step, seconds |
|---|---|---|---|---|---|"""


def table(options: argparse.Namespace) -> Iterator[str]:
    """The table, line by line."""
    what = "Classification 8 x 160 px, detection 2 x 256 px"
    yield f"{above(what, options.rounds)}\n\n{HEAD}"
    for name, pair, batch in pairs():
        yield from lines(name, pair, batch, options)


def main() -> None:
    """Measure and print the table."""
    parser = settings(__doc__, rounds=6)
    parser.add_argument("--compile", action="store_true", help="compiled variants instead; slow")
    options = parser.parse_args()
    begin()
    script = "benchmarks/precision.py" + (" --compile" if options.compile else "")
    publish(script, table(options), options.write)


if __name__ == "__main__":
    main()
