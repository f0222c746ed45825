"""``limbeck quickstart``: what distillation gains, on generated images, in minutes."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.commands.ending import ended_in_words
from limbeck.commands.fit import train
from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.recipes import find
from limbeck.data import Shapes
from limbeck.models import load_student
from limbeck.ranges import Range, refuse_outside
from limbeck.report import (
    Row,
    Table,
    detection_grid,
    measure_cost,
    measure_latencies,
    plot_losses,
)
from limbeck.terminal import say
from limbeck.texts import read_text

log = logging.getLogger(__name__)

SIDE = 96  # pixels, of the generated images
BATCH = 16
STEPS = 500
WRITTEN = {
    *("teacher", "plain", "distilled", "plain_equal_time"),
    *("table.md", "table.json", "losses.png", "detections.png"),
}


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        folder: The folder that the run wrote to.
        scores: The student's scores on the validation data, by name.
        seconds: The wall time that was spent in training batches, in seconds.
        cpu_seconds: The CPU time that was spent in training batches, in seconds.
    """

    folder: Path
    scores: dict[str, float]
    seconds: float
    cpu_seconds: float

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """Read the summary that a run has left in its folder."""
        summary = json.loads(read_text(folder / "summary.json"))
        timing = summary["training_seconds"]
        return cls(folder, summary["scores"]["student"], timing["wall"], timing["cpu"])


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck quickstart``.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck quickstart", allow_abbrev=False)
    parser.add_function_arguments(quickstart)
    with ended_in_words("quickstart"):
        quickstart(**parser.parse_args(arguments[1:]).as_dict())


def quickstart(output: Path = Path("runs/quickstart"), seed: int = 0) -> None:
    """Train a teacher and a student of its own, and show what distilling the student gains.

    The student is trained three times: plain for as many steps as the distilled one, plain for as
    long as the distilled one takes, and distilled.

    Args:
        output: The folder for the runs, the table, the curves and the pictures. An earlier
            quickstart in it is moved aside.
        seed: The seed of all four runs.
    """
    refuse_outside({"seed": Range(0, 2**32 - 1)}, {"seed": seed}, "--")
    refuse_unwritable_target(output.parent, "--output", folder=True)
    make_room(output)
    teacher = fit(["shapes/teacher"], output / "teacher", seed)
    taught = [f"--model.teacher.init_args.folder={teacher.folder / 'student'}"]
    plain = fit(["shapes/student"], output / "plain", seed)
    recipes = ["shapes/student", "shapes/distilled"]
    distilled = fit(recipes, output / "distilled", seed, taught)
    steps = max(STEPS, round(STEPS * distilled.cpu_seconds / plain.cpu_seconds))
    longer = [f"--data.train.init_args.count={steps * BATCH}"]
    equal_time = fit(["shapes/student"], output / "plain_equal_time", seed, longer)
    runs = {
        "teacher": (teacher, "900 steps"),
        "plain student": (plain, f"{STEPS} steps"),
        "plain, equal time": (equal_time, f"{steps} steps"),
        "distilled student": (distilled, f"{STEPS} steps"),
    }
    show(output, runs)


def make_room(output: Path) -> None:
    """Move an earlier quickstart in ``output`` aside, so that nothing that was trained is lost.

    Args:
        output: The folder that is to be free.

    Raises:
        FileExistsError: There is something else in the folder.
    """
    output = output.resolve()
    inside = [path.name for path in output.iterdir()] if output.exists() else []
    others = sorted(set(inside) - WRITTEN)
    if others:
        raise FileExistsError(
            f"--output {output} holds {', '.join(others[:3])}, which no quickstart has written. "
            "Expected a folder for its results alone. Give another one, such as "
            f"{output / 'quickstart'}."
        )
    if inside:
        made = time.strftime("%Y%m%d-%H%M%S", time.localtime(output.stat().st_mtime))
        aside = output.with_name(f"{output.name}-{made}")
        output.rename(aside)
        log.info("an earlier run was moved to %s", aside)


def fit(recipes: Sequence[str], folder: Path, seed: int, overrides: Sequence[str] = ()) -> Run:
    """Train a recipe into a folder.

    Args:
        recipes: The names of recipes that come with limbeck, each laid over the ones before it.
        folder: The folder of the run.
        seed: The seed of the run.
        overrides: Further words of the command line.

    Returns:
        The finished run.

    Raises:
        RuntimeError: Its student or its summary could not be written.
    """
    stated = [word for name in recipes for word in ("--config", str(find(name)))]
    where = [f"--trainer.default_root_dir={folder}", f"--seed_everything={seed}"]
    train(["fit", *stated, *where, *overrides])
    missing = [name for name in ("student", "summary.json") if not (folder / name).exists()]
    if missing:
        raise RuntimeError(
            f"{folder} lacks {', '.join(missing)}, without which the runs cannot be compared. "
            "Expected a disk with room for four runs. Free space, and begin the quickstart anew."
        )
    return Run.load(folder)


def show(output: Path, runs: dict[str, tuple[Run, str]]) -> None:
    """Write and print what the runs have gained: a table, loss curves and pictures.

    Args:
        output: The folder to write to.
        runs: Each run and a note for the table, by the name of its row.
    """
    models = {name: load_student(run.folder / "student") for name, (run, _) in runs.items()}
    latencies = measure_latencies(models, (SIDE, SIDE))
    rows = []
    for name, (run, note) in runs.items():
        cost = replace(measure_cost(models[name], (SIDE, SIDE)), latency_ms=latencies[name])
        scores = {key: run.scores[key] for key in ("AP", "AP50")}
        rows.append(Row(name, scores, cost, run.seconds, note))
    table = Table(rows, "Generated shapes: AP on 200 validation images")
    table.save(output)
    curves = {name: run.folder / "metrics.csv" for name, (run, _) in runs.items()}
    plot_losses(curves, output / "losses.png")
    pictures(models, output / "detections.png")
    say(table.to_rich())
    say(f"Written to {output}: table.md, losses.png, detections.png")


def pictures(models: dict[str, nn.Module], out: Path, count: int = 6) -> None:
    """Draw the truth and every model's detections on the first validation images.

    Args:
        models: The detectors, by the title of their column.
        out: The picture to write.
        count: The number of images.
    """
    validation = Shapes(count=count, seed=0)
    samples = [validation[index] for index in range(count)]
    images = [image.as_subclass(Tensor).float() / 255 for image, _ in samples]
    columns: dict[str, list[Any]] = {"truth": [target for _, target in samples]}
    with torch.inference_mode():
        for name, model in models.items():
            columns[name] = model(images)
    detection_grid(images, columns, validation.classes, out, score_threshold=0.3)
