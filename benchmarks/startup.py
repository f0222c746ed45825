"""What it costs to begin: CPU time of imports and of the command line, against importing torch.

    python benchmarks/startup.py [--rounds 15] [--write]

Each command is a process of its own, from its start to its end, user and system time together; what
the bare interpreter takes is a row of its own, and part of every other. Ratios to ``import torch,
torchvision`` of the same round, median with quartiles.
"""

import argparse
import random
import resource
import statistics
import subprocess
import sys
import time
from functools import partial

from measuring import CPU, WALL, Step, Times, conditions, interleaved, ratios, spread, write

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


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help="into docs/performance.md as well")
    options = parser.parse_args()
    random.seed(0)
    steps = {name: partial(command, words) for name, words in COMMANDS.items()}
    measured = interleaved(steps.values(), options.rounds, warm_up=1, measure=seconds_of_child)
    text = [f"{options.rounds} interleaved rounds, {conditions()}; median (quartiles).", "", HEAD]
    for name, step in steps.items():
        shown = [spread(ratios(measured, step, [steps[TORCH]], clock)) for clock in (CPU, WALL)]
        took = statistics.median(times[step][CPU] for times in measured)
        text.append(f"| `{name}` | {' | '.join(shown)} | {took:.3f} |")
    print("\n".join(text))
    if options.write:
        write("benchmarks/startup.py", "\n".join(text))


if __name__ == "__main__":
    main()
