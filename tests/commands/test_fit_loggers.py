"""Loggers that a recipe names stand beside metrics.csv and TensorBoard."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from limbeck.commands.resume import refuse_changed
from tests.commands import tiny_recipes
from tests.commands.tiny_recipes import RUN, fit


class Notes(Logger):
    """Keeps what it is given, by the name that its recipe states."""

    kept: dict[str, Any] = {}  # noqa: RUF012 - the recipe makes the object

    def __init__(self, name: str) -> None:
        super().__init__()
        self.stated = name
        self.kept[name] = {"recipe": {}, "rows": []}

    @property
    def name(self) -> str:
        return self.stated

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.kept[self.stated]["rows"].append({**metrics, "step": step})

    def log_hyperparams(self, params: dict[str, Any]) -> None:
        self.kept[self.stated]["recipe"] |= params


def notes(name: str) -> dict[str, Any]:
    return {"class_path": f"{__name__}.Notes", "init_args": {"name": name}}


def test_a_run_logs_to_its_own_files_and_to_what_its_recipe_names() -> None:
    names = ("first", "second")
    stated = [notes(name) for name in names]
    fit(tiny_recipes.plain(max_epochs=1, logger=stated, log_every_n_steps=2))
    own = [row for row in tiny_recipes.rows(RUN) if row["train/total"]]
    events = EventAccumulator(str(RUN / "tensorboard"))
    events.Reload()
    assert [each.step for each in events.Scalars("train/total")] == [1, 3]
    for name in names:
        kept = Notes.kept[name]
        assert kept["recipe"]["model"]["optimizer"]["lr"] == 2.0e-3
        assert kept["recipe"]["trainer"]["max_epochs"] == 1
        rows = [row for row in kept["rows"] if "train/total" in row]
        assert [(row["step"], f"{row['train/total']:.6g}") for row in rows] == [
            (int(row["step"]), f"{float(row['train/total']):.6g}") for row in own
        ]
        assert any("val/AP" in row for row in kept["rows"])


def test_a_run_may_go_on_with_other_loggers() -> None:
    begun = {"trainer": {"logger": notes("begun"), "max_epochs": 1}}
    refuse_changed(RUN, begun, {"trainer": {"logger": notes("other"), "max_epochs": 1}})
    refuse_changed(RUN, begun, {"trainer": {"logger": None, "max_epochs": 1}})
    with pytest.raises(ValueError, match="max_epochs"):
        refuse_changed(RUN, begun, {"trainer": {"logger": None, "max_epochs": 2}})


def test_weights_and_biases_offline() -> None:
    wandb = pytest.importorskip("wandb")
    arguments = {"project": "tiny", "offline": True, "save_dir": "tracked"}
    logger = {"class_path": "WandbLogger", "init_args": arguments}
    fit(tiny_recipes.plain(max_epochs=1, logger=logger))
    wandb.finish()
    assert list(Path("tracked/wandb").glob("offline-run-*/run-*.wandb"))
    assert tiny_recipes.rows(RUN)


def test_mlflow_in_a_database() -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # which mlflow-skinny lacks
    address = f"sqlite:///{Path('mlflow.db').resolve()}"
    arguments = {"experiment_name": "tiny", "tracking_uri": address}
    fit(
        tiny_recipes.plain(
            max_epochs=1, logger={"class_path": "MLFlowLogger", "init_args": arguments}
        )
    )
    client = mlflow.MlflowClient(address)
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (run,) = client.search_runs([experiment])
    assert "val/AP" in run.data.metrics
    assert run.data.params["model/optimizer/lr"] == "0.002"
    assert tiny_recipes.rows(RUN)
