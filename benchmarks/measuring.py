"""What the benchmarks share: interleaved rounds, medians with quartiles, docs/performance.md."""

import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

Step = Callable[[], object]
Times = tuple[float, float]  # CPU and wall, seconds
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
CPU, WALL = 0, 1


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def conditions() -> str:
    """On what it was measured."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    threads = f"{torch.get_num_threads()} thread"
    return f"{threads}, torch {torch.__version__}, {platform.machine()}{gpu}"


def seconds(step: Step) -> Times:
    """CPU and wall time of one run, to the end of what it started on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    cpu, wall = time.process_time(), time.perf_counter()
    step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.process_time() - cpu, time.perf_counter() - wall


def interleaved(
    steps: Iterable[Step],
    rounds: int,
    warm_up: int = 3,
    measure: Callable[[Step], Times] = seconds,
) -> list[dict[Step, Times]]:
    """The times of every step, round by round, each round in a random order."""
    steps = list(steps)
    measured = []
    for number in range(warm_up + rounds):
        times = {step: measure(step) for step in random.sample(steps, len(steps))}
        if number >= warm_up:
            measured.append(times)
    return measured


def ratios(
    rounds: Sequence[Mapping[Step, Times]], over: Step, under: Iterable[Step], clock: int
) -> list[float]:
    """In each round, the time of ``over`` in units of what ``under`` take together."""
    under = list(under)
    return [times[over][clock] / sum(times[step][clock] for step in under) for times in rounds]


def spread(values: Sequence[float]) -> str:
    """Median and quartiles."""
    if not values:
        return "-"
    first, median, third = statistics.quantiles(values, n=4)
    return f"{median:.3f} ({first:.2f}, {third:.2f})"


def write(script: str, text: str) -> None:
    """Replace a script's part of docs/performance.md, or add it."""
    first, last = f"<!-- {script} -->", f"<!-- end of {script} -->"
    old = DOCUMENT.read_text() if DOCUMENT.exists() else "# Performance\n"
    before, _, rest = old.partition(first)
    after = rest.partition(last)[2]
    whole = f"{before.rstrip()}\n\n{first}\n{text}\n{last}\n\n{after.lstrip()}"
    DOCUMENT.write_text(whole.rstrip() + "\n")
