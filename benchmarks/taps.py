"""What reading a model costs: hooks that are inert, hooks that record, and copies.

    python benchmarks/taps.py [--rounds 150] [--write]

One network without hooks, with inert ones (installed, nothing recorded), and while its taps are
read. The network is small, so that a hook's cost shows. Taps before an activation in place keep
copies, because the values are overwritten. Ratios to the network without hooks of the same round,
median with quartiles.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import copy
import statistics
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from limbeck.taps import Taps
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
    settings,
    spread,
)
from step_ratio import CLASSES, classifier, training_step

AFTER = ["C2", "C3", "C4", "C5"]
BEFORE = [f"{place}.pre" for place in AFTER]


def read(network: nn.Module, places: list[str], images: Tensor) -> Callable[[], Tensor]:
    """A forward pass whose taps are read, and forgotten."""
    taps = Taps(network, places)
    with torch.no_grad():
        taps.learn(lambda: network(images))

    def forward() -> Tensor:
        return taps.read(lambda: network(images))[0]

    return forward


def forwards(images: Tensor) -> dict[str, tuple[nn.Module, Callable[[], Tensor]]]:
    """By what is done: a network of its own, and its forward pass."""
    plain = classifier("resnet18").to(device()).train()
    networks = [copy.deepcopy(plain) for _ in range(4)]
    Taps(networks[1], AFTER + BEFORE)
    passes = [
        ("no hooks", lambda: networks[0](images)),
        ("8 inert", lambda: networks[1](images)),
        ("4 recording, C2 to C5", read(networks[2], AFTER, images)),
        ("4 recording with copies, C2.pre to C5.pre", read(networks[3], BEFORE, images)),
    ]
    return {n: (net, forward) for net, (n, forward) in zip(networks, passes, strict=True)}


def inference(forward: Callable[[], Tensor]) -> Step:
    """As a teacher runs."""

    def step() -> None:
        with torch.no_grad():
            forward()

    return step


def training(network: nn.Module, forward: Callable[[], Tensor], labels: Tensor) -> Step:
    """As a student learns."""
    loss = nn.functional.cross_entropy
    return training_step(list(network.parameters()), lambda: loss(forward(), labels))


def lines(what: str, steps: dict[str, Step], rounds: int) -> list[str]:
    """One line a way."""
    measured = interleaved(steps.values(), rounds)
    none = next(iter(steps.values()))
    found = []
    for name, step in steps.items():
        shown = [spread(ratios(measured, step, [none], clock)) for clock in (CPU, WALL)]
        took = 1e3 * statistics.median(times[step][WALL] for times in measured)
        found.append(f"| {what} | {name} | {' | '.join(shown)} | {took:.2f} |")
    return found


HEAD = """\
| ResNet 18 | hooks | / none, CPU time | / none, wall | ms |
|---|---|---|---|---|"""


def table(rounds: int) -> Iterator[str]:
    """The table, line by line."""
    images, labels = torch.rand(2, 3, 32, 32), torch.randint(CLASSES, (2,))
    images, labels = images.to(device()), labels.to(device())
    ways = forwards(images)
    yield f"{above('2 x 32 px', rounds)}\n\n{HEAD}"
    yield from lines("forward", {n: inference(f) for n, (_, f) in ways.items()}, rounds)
    steps = {n: training(network, f, labels) for n, (network, f) in ways.items()}
    yield from lines("training step", steps, rounds)


def main() -> None:
    """Measure and print the table."""
    options = settings(__doc__, rounds=150).parse_args()
    begin()
    publish("benchmarks/taps.py", table(options.rounds), options.write)


if __name__ == "__main__":
    main()
