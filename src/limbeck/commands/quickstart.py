"""``limbeck quickstart``: what distillation gains, on generated images, in minutes."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rich
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn

from limbeck.commands.fit import train
from limbeck.commands.recipes import find
from limbeck.data import Shapes
from limbeck.models import load_student
from limbeck.report import (
    Row,
    Table,
    detection_grid,
    measure_cost,
    measure_latencies,
    plot_losses,
)

log = logging.getLogger(__name__)

SIDE = 96  # pixels, of the generated images
BATCH = 16
STEPS = 500


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        folder: where it wrote.
        scores: the student's on the validation data.
        seconds: wall time spent in training batches.
        cpu_seconds: CPU time spent in them.
    """

    folder: Path
    scores: dict[str, float]
    seconds: float
    cpu_seconds: float

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """From the summary that every run leaves."""
        summary = json.loads((folder / "summary.json").read_text())
        timing = summary["training_seconds"]
        return cls(folder, summary["scores"]["student"], timing["wall"], timing["cpu"])


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck quickstart``.

    Args:
        arguments: The verb, and what follows it.
    """
    auto_cli(quickstart, args=arguments[1:], prog="limbeck quickstart", allow_abbrev=False)


def quickstart(output: Path = Path("runs/quickstart"), seed: int = 0) -> None:
    """Train a teacher, then a student plain, plain for as long, and distilled; show the gain.

    Args:
        output: folder for the runs, the table, the curves and the pictures.
        seed: of all four runs.
    """
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
    """Move an earlier quickstart aside: nothing that was trained is lost."""
    if output.exists():
        made = time.strftime("%Y%m%d-%H%M%S", time.localtime(output.stat().st_mtime))
        aside = output.with_name(f"{output.name}-{made}")
        output.rename(aside)
        log.info("an earlier run was moved to %s", aside)


def fit(recipes: Sequence[str], folder: Path, seed: int, overrides: Sequence[str] = ()) -> Run:
    """Train a recipe, and what is laid over it, into a folder."""
    stated = [word for name in recipes for word in ("--config", str(find(name)))]
    where = [f"--trainer.default_root_dir={folder}", f"--seed_everything={seed}"]
    train(["fit", *stated, *where, *overrides])
    return Run.load(folder)


def show(output: Path, runs: dict[str, tuple[Run, str]]) -> None:
    """The table, the curves and the pictures."""
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
    rich.get_console().print(table.to_rich())
    rich.get_console().print(f"Written to {output}: table.md, losses.png, detections.png")


def pictures(models: dict[str, nn.Module], out: Path, count: int = 6) -> None:
    """Truth and every model's detections on the first validation images."""
    validation = Shapes(count=count, seed=0)
    samples = [validation[index] for index in range(count)]
    images = [image.as_subclass(Tensor).float() / 255 for image, _ in samples]
    columns: dict[str, list[Any]] = {"truth": [target for _, target in samples]}
    with torch.inference_mode():
        for name, model in models.items():
            columns[name] = model(images)
    detection_grid(images, columns, validation.classes, out, score_threshold=0.3)
