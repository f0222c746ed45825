"""What the benchmarks share: options, interleaved rounds, medians with quartiles, documents."""

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch

Step = Callable[[], object]
Times = tuple[float, float]  # CPU and wall, seconds
DOCUMENTS = Path(__file__).parents[1] / "docs"
PERFORMANCE = DOCUMENTS / "results" / "performance.md"
CPU, WALL = 0, 1


def device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def conditions() -> str:
    """On what it was measured."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    threads = f"{torch.get_num_threads()} thread"
    return f"{threads}, torch {torch.__version__}, {platform.machine()}{gpu}"


def settings(document: str, rounds: int | None = None) -> argparse.ArgumentParser:
    """The options that benchmarks have in common.

    Args:
        document: The script's docstring, whose first line describes it.
        rounds: The number of rounds, where nobody says another. None: it has no rounds.

    Returns:
        The parser, to which a script adds its own.
    """
    parser = argparse.ArgumentParser(description=document.splitlines()[0])
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--write", action="store_true", help="into the documentation as well")
    return parser


def begin() -> None:
    """One thread, and the same random numbers in every run."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)


def above(what: str, rounds: int) -> str:
    """The sentence above a table: what was measured, and on what."""
    return f"{what}; {rounds} interleaved rounds, {conditions()}; median (quartiles)."


def publish(script: str, lines: Iterable[str], wanted: bool, document: Path = PERFORMANCE) -> None:
    """Print lines as they come, and write them into a document where that is wanted."""
    text = []
    for line in lines:
        text.append(line)
        print(line, flush=True)
    if wanted:
        write(script, "\n".join(text), document)


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
    if len(values) < 2:
        return f"{values[0]:.3f}" if values else "-"
    first, median, third = statistics.quantiles(values, n=4)
    return f"{median:.3f} ({first:.2f}, {third:.2f})"


def write(script: str, text: str, document: Path = PERFORMANCE) -> None:
    """Replace a script's part of a document, or add it."""
    first, last = f"<!-- {script} -->", f"<!-- end of {script} -->"
    before, _, rest = document.read_text().partition(first)
    after = rest.partition(last)[2]
    whole = f"{before.rstrip()}\n\n{first}\n{text}\n{last}\n\n{after.lstrip()}"
    document.write_text(whole.rstrip() + "\n")
