"""One training run of a comparison: its recipe, its folder, and how far it is."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.recipe import Recipe, value_at
from limbeck.texts import read_text

_OF_DATA = ("val", "augmentation", "batch_size", "eval_batch_size", "workers", "on_bad_sample")
_OF_TRAINER = ("accelerator", "precision")


@dataclass(frozen=True)
class Job:
    """One training run, and its place.

    Attributes:
        name: The name of its row.
        seed: Its seed. None: nothing is trained.
        recipe: Its whole recipe. None: nothing is trained, only scored.
        folder: Its folder, whose name ends in the run's identity.
        scoring: The recipe that its model is scored with.
        side: Which of that recipe's models is scored, ``student`` or ``teacher``.
        scored: The digest of the images and the metric that it is scored with, which names the
            folder of what it predicts: predictions on other images are never taken over. "": the
            folder of the run says it already.
    """

    name: str
    seed: int | None
    recipe: Recipe | None
    folder: Path
    scoring: Recipe
    side: str = "student"
    scored: str = ""

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.name if self.seed is None else f"{self.name}, seed {self.seed}"

    @property
    def predictions(self) -> Path:
        """The file of what its model predicts, the last one that is written."""
        return self.folder / "predictions" / self.scored / f"{self.side}.safetensors"

    @property
    def state(self) -> str:
        """How far it is: ``finished``, ``trained``, ``begun`` or ``missing``."""
        if self.predictions.exists():
            return "finished"
        if self.recipe is None:
            return "trained"
        if (self.folder / "student/student.json").exists() and self.summary_path.exists():
            return "trained"
        return "begun" if (self.folder / "config.yaml").exists() else "missing"

    @property
    def summary_path(self) -> Path:
        """The file with what it took to train it."""
        return self.folder / "summary.json"

    def summary(self) -> dict[str, Any]:
        """What it took to train it, as a finished run has written it."""
        found: dict[str, Any] = json.loads(read_text(self.summary_path))
        return found

    def seconds(self) -> float:
        """The seconds in training batches: of the CPU where it has trained, else by the clock."""
        summary = self.summary()
        on_cpu = summary.get("device", "cpu") == "cpu"
        return float(summary["training_seconds"]["cpu" if on_cpu else "wall"])

    def steps_done(self) -> int:
        """The last step of which a running run has logged something."""
        path = self.folder / "metrics.csv"
        if not path.exists():
            return 0
        with path.open("rb") as file:
            columns = file.readline().decode(errors="replace").strip().split(",")
            file.seek(max(0, path.stat().st_size - 4096))
            last = file.read().decode(errors="replace").rstrip().rpartition("\n")[2].split(",")
        step = last[columns.index("step")] if "step" in columns and len(last) > 1 else ""
        return int(step) if step.isdigit() else 0


def student_in(run: Path) -> Recipe:
    """The student that a run has trained, as a recipe states a model."""
    # trust: a run of one's own may have trained a model of one's own.
    arguments = {"folder": str(run / "student"), "trust": True}
    return {"class_path": "limbeck.models.load_student", "init_args": arguments}


def scoring_of(plain: Recipe, student: Any, scored_on: Recipe | None = None) -> Recipe:
    """The recipe that a student is scored with, whatever it was trained with.

    Args:
        plain: The recipe of the plain student, which states the data and the metric.
        student: The student, as a recipe states a model.
        scored_on: The dataset to score on. None: the validation set of the plain student.

    Returns:
        The recipe.
    """
    data = {key: plain["data"][key] for key in _OF_DATA if key in plain["data"]}
    if scored_on is not None:
        data["val"] = scored_on
    model = {"student": student}
    if value_at(plain, "model.metric") is not None:
        model["metric"] = value_at(plain, "model.metric")
    trainer = plain.get("trainer") or {}
    own = {key: trainer[key] for key in _OF_TRAINER if key in trainer}
    quiet = {"enable_progress_bar": False, "logger": False}
    alone = {"devices": 1, "num_nodes": 1}  # of several, none would see all images
    return {"model": model, "data": data, "trainer": own | quiet | alone}


def slug(name: str) -> str:
    """A name as a part of a folder's name, which the identity behind it makes unique."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()[:60] or "row"
