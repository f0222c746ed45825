"""What it costs to begin: CPU time of imports and of the command line, against importing torch.

    python benchmarks/startup.py [--rounds 15] [--write]

Each command is a process of its own, from its start to its end, user and system time together; what
the bare interpreter takes is a row of its own, and part of every other. Ratios to ``import torch,
torchvision`` of the same round, median with quartiles.
"""

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

from measuring import (
    CPU,
    WALL,
    Step,
    Times,
    begin,
    conditions,
    interleaved,
    publish,
    ratios,
    settings,
    spread,
)

TORCH = "import torch, torchvision"
COMMANDS = {
    TORCH: ["-c", TORCH],
    "nothing": ["-c", ""],
    "import limbeck": ["-c", "import limbeck"],
    "from limbeck import Distillation, methods, models": [
        "-c",
        "from limbeck import Distillation, methods, models",
    ],
    "limbeck --help": ["-m", "limbeck", "--help"],
    "limbeck recipes list": ["-m", "limbeck", "recipes", "list"],
    "limbeck fit --help": ["-m", "limbeck", "fit", "--help"],
}
HEAD = f"""\
| process | / {TORCH}, CPU time | wall | CPU s |
|---|---|---|---|"""


def command(words: list[str]) -> None:
    """Run an interpreter with these words."""
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)


def seconds_of_child(step: Step) -> Times:
    """CPU time of the processes that a step starts and waits for, and wall time."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    step()
    after, took = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - wall
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, took


def table(rounds: int) -> Iterator[str]:
    """The table, line by line."""
    steps = {name: partial(command, words) for name, words in COMMANDS.items()}
    measured = interleaved(steps.values(), rounds, warm_up=1, measure=seconds_of_child)
    yield f"{rounds} interleaved rounds, {conditions()}; median (quartiles).\n\n{HEAD}"
    for name, step in steps.items():
        shown = [spread(ratios(measured, step, [steps[TORCH]], clock)) for clock in (CPU, WALL)]
        took = statistics.median(times[step][CPU] for times in measured)
        yield f"| `{name}` | {' | '.join(shown)} | {took:.3f} |"


def main() -> None:
    """Measure and print the table."""
    options = settings(__doc__, rounds=15).parse_args()
    begin()
    publish("benchmarks/startup.py", table(options.rounds), options.write)


if __name__ == "__main__":
    main()
