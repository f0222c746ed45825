"""Lightning's command line, for the recipes of limbeck: its options, folders and callbacks."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import lightning.pytorch as L
import torch
from jsonargparse import Namespace
from jsonargparse.typing import PositiveInt
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import LearningRateMonitor, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from torchmetrics import Metric

from limbeck.commands import checks
from limbeck.commands.building import REFUSALS, RecipeParser, said_of_building
from limbeck.commands.ending import tell_unwritten
from limbeck.commands.folder import held_alone, refuse_owned, refuse_unwritable, remove_parts
from limbeck.commands.memory import refuse_oversized
from limbeck.commands.recipe_files import RecipeFile
from limbeck.commands.resume import (
    LAST,
    RECIPE,
    Resumed,
    refuse_changed,
    refuse_elsewhere,
    refuse_finished,
)
from limbeck.machine import cores
from limbeck.models import Build
from limbeck.terminal import Table, say
from limbeck.training.checkpoints import BestCheckpoint, WholeCheckpoints
from limbeck.training.data import DataModule
from limbeck.training.detections import DetectionFiles
from limbeck.training.export import short, write_summary
from limbeck.training.logs import EarlierRows, loggers
from limbeck.training.module import DistillationModule
from limbeck.training.predictions import PredictionFiles
from limbeck.training.resumption import LastCheckpoint
from limbeck.training.scoring import headline_of, higher_is_better

log = logging.getLogger(__name__)


class LimbeckCLI(LightningCLI):
    """The command line of a recipe's model, data and trainer, each field of which has a type.

    Args:
        resumed: The run that goes on. None: the run is a new one.
        held: Takes the folder of a run that is trained, for as long as that lasts.
        **options: The options of Lightning's own command line.
    """

    root: ClassVar[Path | None] = None  # of the run that is trained

    def __init__(self, resumed: Resumed | None, held: ExitStack, **options: Any) -> None:
        self.resumed = resumed
        self.held = held
        super().__init__(**options)

    def _parse_ckpt_path(self) -> None:
        """Read no checkpoint yet: Lightning would look for hyperparameters, which there are none.

        It is read once, by :class:`limbeck.training.checkpoints.WholeCheckpoints`.
        """

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Make a parser with limbeck's errors."""
        parser = RecipeParser(**kwargs, allow_abbrev=False)  # an abbreviated key is an unknown one
        parser.add_argument("-c", "--config", action=RecipeFile, help="A recipe (YAML).")
        parser.epilog = (
            "`limbeck fit --resume RUN` goes on with a run that was ended, with its own recipe; "
            "with --from_best it goes on from its checkpoints/best.ckpt."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the options of checkpoints and of files of detections; one seed is for everything."""
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)
        parser.add_argument(
            "--checkpoint_every",
            type=PositiveInt,
            default=1000,
            help="Steps after which checkpoints/last.ckpt is written, besides the ends of epochs.",
        )
        parser.add_argument(
            "--detections",
            type=Path | None,
            help="Folder for files of what the student detects in (the last) validation, in the "
            "format of KITTI's or WIDER FACE's program for these, of VOC's development kit for "
            "others.",
        )
        parser.add_argument(
            "--predictions",
            type=Path | None,
            help="Folder for files of what student and teacher predict on every image of (the "
            "last) validation.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the recipe, and refuse what cannot be before anything is built."""
        super().parse_arguments(parser, args)
        verb = self.config.get("subcommand")
        checks.refuse_impossible(self.config[verb] if verb else self.config, verb)

    def instantiate_classes(self) -> None:
        """Build what the recipe states; what cannot be built is told by its key."""
        stated = self.config[self.subcommand] if self.subcommand else self.config
        with said_of_building(stated), refuse_oversized(stated):
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        with said_of_building(self.config[subcommand], REFUSALS):
            super()._run_subcommand(subcommand)

    def before_instantiate_classes(self) -> None:
        """Choose the run's folder, which is ``runs/<folder>/<name>`` of its recipe unless given."""
        config = self.config.get(self.subcommand, self.config) if self.subcommand else self.config
        if config.trainer.default_root_dir is None:
            recipes = [Path(str(path)) for path in config.get("config") or ()]
            own = recipes[-1].resolve().with_suffix("").parts[-2:] if recipes else ("unnamed",)
            config.trainer.default_root_dir = str(Path("runs", *own))
        leave_cores(config.data.workers)
        if self.subcommand == "fit":
            self._claim(Path(config.trainer.default_root_dir))
        elif self.subcommand == "validate":
            config.verbose = False  # there is a table of our own

    def _claim(self, root: Path) -> None:
        """Claim the folder for this run: a new one, or the one that is resumed."""
        config = self.config["fit"]
        if self.resumed is not None:
            root, checkpoint = self.resumed
            own = self.parser.parse_args(["fit", "--config", str(root / RECIPE)])["fit"]
            refuse_changed(root, own.as_dict(), config.as_dict())
            refuse_elsewhere(root, own.trainer.default_root_dir, config.trainer.default_root_dir)
            there = (root / checkpoint).is_file() or checkpoint != LAST
            if not there:
                refuse_finished(root)
            config.trainer.default_root_dir = str(root)
            config.ckpt_path = str(root / checkpoint) if there else None
            what = f"goes on from {checkpoint}" if there else "begins: no checkpoint"
            log.info("%s %s.", root, what)
        elif not config.trainer.fast_dev_run:  # which writes nothing
            refuse_owned(root, config.ckpt_path)
        refuse_unwritable(root)
        LimbeckCLI.root = root
        if not getattr(rank_zero_only, "rank", 0) and not config.trainer.fast_dev_run:
            self.held.enter_context(held_alone(root))
            remove_parts(root)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Make the trainer, with logs, checkpoints of the last and the best, and a progress bar."""
        config = self._get(self.config_init, "trainer")
        root = config["default_root_dir"]
        callbacks = as_list(config["callbacks"])
        checks.refuse_unlogged(callbacks, self.model.new_metric(self.datamodule))
        if config["logger"] is not False and self.subcommand == "fit":
            kwargs["logger"] = loggers(root, config["logger"])
            callbacks.append(EarlierRows(kwargs["logger"][0]))
        elif config["logger"] is None:
            kwargs["logger"] = False
        has_bar = any(isinstance(callback, L.callbacks.ProgressBar) for callback in callbacks)
        if config["enable_progress_bar"] is not False and not has_bar:
            callbacks.append(ProgressBar())
        if (folder := self._get(self.config_init, "detections")) is not None:
            callbacks.append(DetectionFiles(folder))
        if (folder := self._get(self.config_init, "predictions")) is not None:
            callbacks.append(PredictionFiles(folder))
        if self.subcommand == "fit":
            if config["logger"] is not False:
                callbacks.append(LearningRateMonitor("step"))
            if config["enable_checkpointing"] is not False:
                metric = self.model.new_metric(self.datamodule)
                every = self._get(self.config_init, "checkpoint_every")
                callbacks += checkpoints(Path(root), metric, every)
        plugins = as_list(config["plugins"])
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            kwargs["plugins"] = [*plugins, WholeCheckpoints()]
        return super().instantiate_trainer(**kwargs, callbacks=callbacks)

    def before_fit(self) -> None:
        """Note how the student is built, whatever builds it, for the student's folder."""
        checks.refuse_late_validation(self.trainer, self.datamodule)
        student = self.config["fit"].model.student
        if not hasattr(self.model.pair.student, "build"):
            self.model.student_build = build_of(student)

    def after_fit(self) -> None:
        """Measure a run that ended between two validations as it ended, and say what is missing."""
        if self.config["fit"].trainer.fast_dev_run:
            return
        trainer = self.trainer
        if trainer.enable_validation and self.model.scored_at != self.model.pair.number:
            # A run that was finished and is resumed logs that row again, with the same numbers.
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
            epochs = trainer.fit_loop.epoch_progress.current
            epochs.completed = epochs.ready
            trainer.validate(self.model, self.datamodule, verbose=False)
            if trainer.is_global_zero:
                write_summary(trainer, self.model)
                log.info("measured as it ended: %s", short(self.model.scores["student"]))
        if trainer.is_global_zero:
            tell_unwritten(Path(trainer.default_root_dir))

    def after_validate(self) -> None:
        """Print the scores of student and teacher, side by side."""
        if self.trainer.is_global_zero:
            say(scores_table(self.model.scores))


class Fit(LimbeckCLI):
    """The command line that trains; arguments of the other verb take a tenth of a second to add."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's method, and what limbeck gives it."""
        return {"fit": {"model", "train_dataloaders", "val_dataloaders", "datamodule"}}


class Validate(LimbeckCLI):
    """The command line that measures."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The trainer's method, and what limbeck gives it."""
        return {"validate": {"model", "dataloaders", "datamodule"}}


class Stated(LimbeckCLI):
    """The command line of recipes of which nothing is built."""

    def instantiate_classes(self) -> None:
        """Build nothing: models may lack weights and anchors yet, and their data be elsewhere."""


class ProgressBar(RichProgressBar):
    """Lightning's progress bar, with short names and without the version of the logs."""

    def get_metrics(self, *args: Any) -> dict[str, Any]:
        """The losses of the task and of distillation."""
        shown: dict[str, Any] = super().get_metrics(*args)
        return {n.removeprefix("train/"): value for n, value in shown.items() if n != "v_num"}


def leave_cores(workers: int) -> None:
    """Leave a core to each worker, as threads that spin beside them cost several times the work."""
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores() - workers)))


def as_list(plugins: Any) -> list[Any]:
    """The plugins as a list, of which Lightning takes one, several or None."""
    return list(plugins) if isinstance(plugins, list) else [] if plugins is None else [plugins]


def _seed(seed: int | bool) -> int:
    return int(seed)


def build_of(student: Namespace) -> Build:
    """How a recipe builds a student that does not know it itself, without its weights."""
    stated = student.as_dict()
    arguments = stated.get("init_args", {}) | stated.get("dict_kwargs", {})
    without = {"pretrained": False} | {n: None for n in arguments if n.startswith("weights")}
    return Build(student.class_path, {n: without.get(n, v) for n, v in arguments.items()})


def checkpoints(root: Path, metric: Metric, every: int) -> list[L.Callback]:
    """The callbacks that keep the checkpoints of a run.

    Args:
        root: The folder of the run.
        metric: A metric like that of the run, by whose headline a checkpoint is the best one.
        every: The number of optimizer steps after which the last checkpoint is written.

    Returns:
        The callback for the best checkpoint, and that for the last one.
    """
    last = root / LAST
    best = BestCheckpoint(
        dirpath=last.parent,
        filename="best",
        monitor=f"val/{headline_of(metric)}",
        mode="max" if higher_is_better(metric) else "min",
        save_on_train_epoch_end=False,
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
    return [best, LastCheckpoint(last, every)]


def scores_table(scores: Mapping[str, Mapping[str, float]]) -> Table:
    """The table of scores, with a line for each score and a column for each model."""
    table = Table("score", *scores, title="Validation")
    for name in next(iter(scores.values()), {}):
        table.add_row(name, *(f"{of_one[name]:.3f}" for of_one in scores.values()))
    return table


def command_line(
    words: Sequence[str],
    resumed: Resumed | None,
    kind: type[LimbeckCLI] = LimbeckCLI,
    held: ExitStack | None = None,
    **options: Any,
) -> LimbeckCLI:
    """The command line of recipes, after it has done what it is for.

    Args:
        words: The words after ``limbeck``.
        resumed: The run that goes on. None: there is none.
        kind: The class of the command line, which says what is done.
        held: Takes the folder of a run, for as long as that lasts. None: nothing is trained.
        **options: Further options of Lightning's own command line.
    """
    return kind(
        resumed,
        held or ExitStack(),
        model_class=DistillationModule,
        datamodule_class=DataModule,
        args=words,
        seed_everything_default=0,
        trainer_defaults={
            "log_every_n_steps": 10,
            "use_distributed_sampler": False,
            "enable_model_summary": False,
        },
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,  # hyperparameters are not kept, and the dump is slow
        parser_kwargs={"prog": "limbeck", "parser_mode": "yaml"},
        save_config_kwargs={"save_to_log_dir": False},
        **options,
    )
