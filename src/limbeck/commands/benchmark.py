"""``limbeck benchmark``: how fast students are, beside each other and beside their teacher."""

import itertools
import json
import logging
import platform
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from limbeck.commands.benchmark_process import (
    BenchmarkError,
    Contestant,
    Mode,
    Precision,
    Variant,
)
from limbeck.commands.measuring import labelled_split
from limbeck.commands.outputs import refuse_no_picture, refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.predicting import chosen_device
from limbeck.commands.students import student_of
from limbeck.data.base import Task
from limbeck.frame import Extent
from limbeck.ranges import COUNT, SIDE, refuse_outside
from limbeck.report.trade_off import Point, plot_trade_off
from limbeck.terminal import Table, progress_bar, say
from limbeck.whole import write_whole

log = logging.getLogger(__name__)

RANGES = {"batch": COUNT, "threads": COUNT, "rounds": COUNT, "size": SIDE}
_WARM_UP = 3  # rounds that are not counted


@dataclass(frozen=True)
class Measured:
    """What a variant took.

    Attributes:
        variant: The variant.
        runtime: What it ran in.
        size: The (height, width) of the images, in pixels.
        seconds: The wall time of a call in each round.
        peak_memory: The most memory, in MiB.
        score: Its score on the labelled images. None: there are none.
    """

    variant: Variant
    runtime: str
    size: Extent
    seconds: tuple[float, ...]
    peak_memory: float
    score: float | None

    def milliseconds(self, percentile: float) -> float:
        """A percentile of the time of a call, in milliseconds."""
        return float(np.percentile(self.seconds, percentile)) * 1e3

    @property
    def throughput(self) -> float:
        """Images a second, by the median."""
        return self.variant.batch * 1e3 / self.milliseconds(50)


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck benchmark``. Its students are any number of words.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck benchmark", allow_abbrev=False)
    told = "Students' folders, runs' folders or exported files, also as NAME=PATH."
    parser.add_argument("students", nargs="+", type=str, help=told)
    parser.add_function_arguments(benchmark, skip={"students"})
    benchmark(**parser.parse_args(arguments[1:]).as_dict())


def benchmark(
    students: list[str],
    size: Extent | None = None,
    batch: list[int] = [1],  # noqa: B006 - shown as the default, and never changed
    threads: list[int] = [1],  # noqa: B006
    mode: list[Mode] = ["eager"],  # noqa: B006
    precision: list[Precision] = ["float32"],  # noqa: B006
    rounds: int = 30,
    labelled: str | None = None,
    plot: Path | None = None,
    output: Path | None = None,
    device: str | None = None,
    trust: bool = False,
) -> None:
    """Time students, teachers and exported files, each from images to what it finds.

    Each combination runs in a process of its own. In every round each runs once, in a random order,
    so that a busy machine slows all of them alike; three more rounds before are not counted. The
    images are noise: where suppression takes long on photographs, it takes longer there.

    Args:
        students: Students' folders, runs' folders or files of `limbeck export`, each also as
            NAME=PATH, by which name it is shown.
        size: The height and width of the images, in pixels. A detector and an exported file resize
            them as they do, and a classifier in PyTorch does not. Default (None): 480 x 640, and
            for a classifier the size to which its augmentation brings every image.
        batch: The numbers of images at once.
        threads: The numbers of threads of the CPU.
        mode: How PyTorch runs students: eager, compiled.
        precision: What PyTorch computes in: float32, and by autocast bfloat16 and float16.
        rounds: The number of rounds.
        labelled: Labelled images, as a folder of data or a recipe, on whose split "val", or only
            one, each is measured. Default (None): none is.
        plot: A picture (.png, .svg, .pdf) of the score against the time of a call. It needs
            --labelled. Default (None): none is drawn.
        output: A JSON file with all times. Default (None): none is written.
        device: The device of students in PyTorch: cpu, cuda, cuda:1. Default: the GPU where there
            is one. Exported files run on the CPU.
        trust: Whether to build a student that is not a model of limbeck, torchvision or timm, or
            whose card names weights elsewhere, or to open an exported file of PyTorch's
            (.pt2, .pt). Its code then runs.

    Raises:
        ValueError: A number is out of its range, two students have one name, or one cannot be
            measured on the labelled images. Or a combination could not be run: all others are
            shown.
    """
    given = {"batch": batch, "threads": threads, "rounds": rounds, "size": size}
    refuse_outside(RANGES, given, "--")
    for path, option in ((plot, "--plot"), (output, "--output")):
        if path is not None:
            refuse_unwritable_target(path, option)
    if plot is not None:
        refuse_no_picture(plot, "--plot")
    if plot is not None and labelled is None:
        raise ValueError(
            "--plot is given without --labelled; expected labelled images, on which the score is "
            "measured. Give them, or leave --plot out."
        )
    place = str(chosen_device(device))
    named = _named(students)
    if labelled is not None:
        _refuse_other_images(labelled, named, trust)
    variants = [
        Variant(name, source, each_mode, each_precision, images, size, count, place, trust)
        for name, source in named.items()
        for each_mode, each_precision in _ways(source, mode, precision)
        for images, count in itertools.product(batch, threads)
    ]
    measured, failed, metric = _raced(variants, rounds, labelled)
    if measured:
        say(_table(measured, metric))
    if output is not None and measured:
        write_whole(output, json.dumps(_plain(measured), indent=2) + "\n")
    if plot is not None and measured:
        plot_trade_off(_points(measured), plot, metric)
    if failed:
        raise ValueError(
            f"{len(failed)} of {len(variants)} could not be run: {'; '.join(failed)}. Leave them "
            "out."
        )


def _named(students: Sequence[str]) -> dict[str, Path]:
    """The students by name: as given, otherwise by the shortest end of the path that is its own."""
    named: dict[str, Path] = {}
    for word in students:
        name, equals, path = ("", "", "") if Path(word).exists() else word.partition("=")
        source = Path(path if equals else word)
        if not source.exists():
            raise FileNotFoundError(
                f"{source} does not exist; expected a student's folder, a run's folder or an "
                "exported file. Correct the path."
            )
        if not equals:
            parts = source.resolve().parts
            name = parts[-2] if parts[-1] == "student" and len(parts) > 1 else parts[-1]
        if name in named:
            raise ValueError(
                f"two students are called {name!r}: {named[name]} and {source}. Give them names: "
                f"NAME={source}."
            )
        named[name] = source
    return named


def _refuse_other_images(labelled: str, named: Mapping[str, Path], trust: bool) -> None:
    """Refuse images on which a student cannot be measured before hours of rounds, and not after."""
    asked: dict[tuple[Task, tuple[str, ...]], str] = {}
    for name, source in named.items():
        with suppress(Exception):  # its own process tells what cannot be opened
            student = student_of(source, trust=trust)
            asked.setdefault((student.task, tuple(student.classes)), name)
    for (task, classes), name in asked.items():
        try:
            labelled_split(labelled, "--labelled", task, classes)
        except ValueError as error:
            raise ValueError(f"{name} cannot be measured: {error}") from None


def _ways(
    source: Path, modes: Sequence[Mode], precisions: Sequence[Precision]
) -> list[tuple[Mode, Precision]]:
    """How a student is run; an exported file has its own runtime and precision."""
    return [("eager", "float32")] if source.is_file() else [*itertools.product(modes, precisions)]


def _raced(
    variants: Sequence[Variant], rounds: int, labelled: str | None
) -> tuple[list[Measured], list[str], str]:
    """Let all run, round by round; and what could not be run, with why; and the score's name."""
    failed: dict[Variant, str] = {}
    order = random.Random(0)
    with ExitStack() as stack:
        times: dict[Contestant, list[float]] = {}
        for variant in variants:
            with _noted(variant, failed):
                times[stack.enter_context(Contestant(variant))] = []
        with progress_bar("rounds", "{task.completed:.0f} of {task.total:.0f}") as bar:
            for number in bar.track(range(-_WARM_UP, rounds)):
                running = [each for each in times if each.variant not in failed]
                for each in order.sample(running, len(running)):
                    with _noted(each.variant, failed):
                        seconds = each.seconds()
                        times[each] += [seconds] if number >= 0 else []
        scores: dict[tuple[Any, ...], float | None] = {}
        metric, measured = "score", []
        for each in (each for each in times if each.variant not in failed):
            variant = each.variant
            same = (variant.source, variant.mode, variant.precision)
            with _noted(variant, failed):
                memory = each.peak_memory()
                if labelled is not None and same not in scores:
                    scores[same] = None  # times are kept where it cannot be measured
                    with _noted(variant, failed):
                        metric, scores[same] = each.score(labelled)
                        log.info("%s: %s %.4f", variant.name, metric, scores[same])
                seen = tuple(times[each])
                score = scores.get(same)
                measured.append(Measured(variant, each.runtime, each.size, seen, memory, score))
    return measured, [f"{_told(variant)}: {why}" for variant, why in failed.items()], metric


@contextmanager
def _noted(variant: Variant, failed: dict[Variant, str]) -> Iterator[None]:
    """Within, a variant that cannot be run is noted, and the others go on."""
    try:
        yield
    except BenchmarkError as error:
        failed[variant] = str(error)


def _told(variant: Variant) -> str:
    return (
        f"{variant.name} ({variant.mode}, {variant.precision}, {variant.batch} at once, on "
        f"{variant.threads} threads)"
    )


def _table(measured: Sequence[Measured], metric: str) -> Table:
    """A row for each; what is the same of all stands above."""
    how = {name: [_how(each)[name] for each in measured] for name in _how(measured[0])}
    same = [f"{name}: {cells[0]}" for name, cells in how.items() if len(set(cells)) == 1]
    columns = {name: cells for name, cells in how.items() if len(set(cells)) > 1}
    columns |= {
        **{
            f"ms, {told}": [f"{each.milliseconds(percentile):.1f}" for each in measured]
            for told, percentile in (("median", 50), ("90 %", 90), ("99 %", 99))
        },
        "images/s": [f"{each.throughput:.1f}" for each in measured],
        "peak MiB": [f"{each.peak_memory:.0f}" for each in measured],
    }
    if any(each.score is not None for each in measured):
        columns[metric] = ["" if each.score is None else f"{each.score:.4f}" for each in measured]
    table = Table("", *columns, title=", ".join(same) or None)
    for each, *cells in zip(measured, *columns.values(), strict=True):
        table.add_row(each.variant.name, *cells)
    return table


def _how(measured: Measured) -> dict[str, str]:
    """How a student was run, by what the columns of the table are called."""
    variant = measured.variant
    return {
        "runtime": measured.runtime,
        "precision": _precision(variant),
        "size, px": " x ".join(map(str, measured.size)),
        "images at once": str(variant.batch),
        "threads": str(variant.threads),
    }


def _precision(variant: Variant) -> str:
    return "the file's" if variant.source.is_file() else variant.precision


def _plain(measured: Sequence[Measured]) -> dict[str, Any]:
    rows = []
    for each in measured:
        row = asdict(each)
        row["variant"]["source"] = str(each.variant.source)
        rows.append(row)
    machine = {"machine": platform.machine(), "system": platform.platform()}
    return {"torch": torch.__version__, **machine, "measured": rows}


def _points(measured: Sequence[Measured]) -> list[Point]:
    """Each as a point of the plot, which tells what the table has a column or a title for."""
    ways = [_how(each) for each in measured]
    differing = [name for name in ways[0] if len({way[name] for way in ways}) > 1]
    shown = {"runtime", "images at once", *differing}
    units = {"images at once": " at once", "threads": " threads"}
    told = (
        ", ".join(f"{text}{units.get(name, '')}" for name, text in way.items() if name in shown)
        for way in ways
    )
    return [_point(each, how) for each, how in zip(measured, told, strict=True)]


def _point(measured: Measured, how: str) -> Point:
    return Point(
        measured.variant.name,
        how,
        measured.milliseconds(50),
        measured.milliseconds(10),
        measured.milliseconds(90),
        cast(float, measured.score),
    )
