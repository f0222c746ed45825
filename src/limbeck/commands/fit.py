"""``limbeck fit`` and ``limbeck validate``: a recipe, through Lightning's command line."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning.pytorch as L
import rich
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from limbeck.commands.errors import explain
from limbeck.models import Build
from limbeck.report import Row, Table
from limbeck.training.callbacks import write_summary
from limbeck.training.data import DataModule
from limbeck.training.module import DistillationModule

log = logging.getLogger(__name__)


class LimbeckCLI(LightningCLI):
    """A recipe's model, data and trainer, typed; every field can be overridden."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's verbs that limbeck has."""
        data = {"model", "train_dataloaders", "val_dataloaders", "datamodule", "dataloaders"}
        return {"fit": data, "validate": data}

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser with limbeck's errors."""
        parser = Parser(**kwargs)
        parser.add_argument("-c", "--config", action=ActionConfigFile, help="A recipe (YAML).")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """One seed for everything."""
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def before_instantiate_classes(self) -> None:
        """Where a run goes unless the recipe says so: ``runs/<folder>/<name>`` of the recipe."""
        config = self.config.get(self.subcommand, self.config) if self.subcommand else self.config
        if config.trainer.default_root_dir is None:
            recipes = [Path(str(path)) for path in config.get("config") or ()]
            own = recipes[-1].resolve().with_suffix("").parts[-2:] if recipes else ("unnamed",)
            config.trainer.default_root_dir = str(Path("runs", *own))
        if config.model.teacher is None and config.trainer.num_sanity_val_steps == -1:
            # Without a teacher to measure first, two batches show that validation works.
            config.trainer.num_sanity_val_steps = 2
        if self.subcommand == "fit":
            refuse_owned(Path(config.trainer.default_root_dir), config.ckpt_path)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """CSV and TensorBoard logs, checkpoints of the last and the best, a progress bar."""
        config = self._get(self.config_init, "trainer")
        root = config["default_root_dir"]
        if config["logger"] is None and self.subcommand == "fit":
            kwargs["logger"] = [
                CSVLogger(root, name="", version=""),
                TensorBoardLogger(root, name="", version="tensorboard"),
            ]
        elif config["logger"] is None:
            kwargs["logger"] = False
        callbacks = list(config["callbacks"] or [])
        if not any(isinstance(callback, RichProgressBar) for callback in callbacks):
            callbacks.append(ProgressBar())
        if self.subcommand == "fit":
            callbacks.append(LearningRateMonitor("step"))
            if config["enable_checkpointing"] is not False:
                callbacks.append(checkpoints(root, f"val/{self.model.headline(self.datamodule)}"))
        return super().instantiate_trainer(**kwargs, callbacks=callbacks)

    def before_fit(self) -> None:
        """The artefact says how the student is built, whatever built it."""
        student = self.config["fit"].model.student
        if not hasattr(self.model.pair.student, "build"):
            arguments = dict(student.get("init_args", {}).as_dict())
            unweighted = {k: None if k.startswith("weights") else v for k, v in arguments.items()}
            self.model.student_build = Build(student.class_path, unweighted)

    def after_fit(self) -> None:
        """A run that ended between two validations is measured as it ended."""
        if self.model.scored_at != self.model.pair.number:
            self.trainer.validate(self.model, self.datamodule, verbose=False)
            if self.trainer.is_global_zero:
                write_summary(self.trainer, self.model)


class Parser(LightningArgumentParser):
    """Says which known key is nearest to an unknown one, instead of listing them all."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End the program with the message; within a nested value, leave that to the outer one."""
        if not self.exit_on_error:
            super().error(message, ex)
        log.error("%s", explain(message, self))
        raise SystemExit(2) from ex


class ProgressBar(RichProgressBar):
    """Lightning's, without the loggers' version."""

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        """Task and distillation loss, and the scores."""
        shown: dict[str, Any] = super().get_metrics(*args)
        return {name: value for name, value in shown.items() if name != "v_num"}


def _seed(seed: int | bool) -> int:
    return int(seed)


def checkpoints(root: str, monitor: str) -> ModelCheckpoint:
    """The best by the headline score, and the last."""
    return ModelCheckpoint(
        dirpath=Path(root) / "checkpoints",
        filename="best",
        monitor=monitor,
        mode="max",
        save_last=True,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )


def refuse_owned(root: Path, checkpoint: str | None) -> None:
    """Raise where another run has written already, unless one of its checkpoints is resumed."""
    if checkpoint is not None and root.resolve() in Path(checkpoint).resolve().parents:
        return
    found = [name for name in ("config.yaml", "checkpoints", "student") if (root / name).exists()]
    if found:
        raise FileExistsError(
            f"{root} holds another run ({', '.join(found)}), which would be overwritten. Choose "
            "another folder with --trainer.default_root_dir, move that one away, or continue it "
            f"with --ckpt_path {root}/checkpoints/last.ckpt."
        )


def train(arguments: Sequence[str]) -> LimbeckCLI:
    """Run ``limbeck fit ...`` or ``limbeck validate ...``."""
    cli = LimbeckCLI(
        DistillationModule,
        DataModule,
        args=list(arguments),
        seed_everything_default=0,
        trainer_defaults={
            "num_sanity_val_steps": -1,
            "log_every_n_steps": 10,
            "use_distributed_sampler": False,
            "enable_model_summary": False,
        },
        auto_configure_optimizers=False,
        parser_kwargs={"parser_mode": "yaml"},
        save_config_kwargs={"overwrite": True},
    )
    if cli.subcommand == "validate":
        rows = [Row(side, scores, None, None) for side, scores in cli.model.scores.items()]
        rich.get_console().print(Table(rows, "Validation").to_rich())
    return cli
