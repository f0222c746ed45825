"""What a recipe states and what cannot be, refused before anything is built."""

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from lightning.pytorch.strategies import StrategyRegistry
from torchmetrics import Metric

from limbeck.arguments import imported
from limbeck.commands.errors import RecipeError
from limbeck.ranges import COUNT, NOT_NEGATIVE, POSITIVE, Range, refuse_outside
from limbeck.training.data import DataModule
from limbeck.training.scoring import headline_of, higher_is_better, named_scores

_TRAINER = {
    "max_epochs": Range(-1),
    "min_epochs": Range(0),
    "max_steps": Range(-1),
    "min_steps": Range(0),
    "num_nodes": COUNT,
    "check_val_every_n_epoch": COUNT,
    "log_every_n_steps": Range(0),
    "accumulate_grad_batches": COUNT,
    "gradient_clip_val": NOT_NEGATIVE,
    "num_sanity_val_steps": Range(-1),
    "val_check_interval": POSITIVE,
    "limit_train_batches": NOT_NEGATIVE,
    "limit_val_batches": NOT_NEGATIVE,
    "reload_dataloaders_every_n_epochs": Range(0),
}
# Of these a whole number counts batches, and any other number is a share.
_SHARES = ("val_check_interval", "limit_train_batches", "limit_val_batches")
_SEEDS = Range(0, 2**32 - 1)
_DURATION = re.compile(r"\d+:\d\d:\d\d:\d\d")

# Callbacks of Lightning's that undo or ignore what limbeck does, and what to state instead.
_INSTEAD: Mapping[str, str] = {
    "BackboneFinetuning": "model.optimizer.lr_factors, or the student's frozen_stages",
    "BaseFinetuning": "model.optimizer.lr_factors, or the student's frozen_stages",
    "BatchSizeFinder": "data.batch_size",
    "EMAWeightAveraging": "model.moving_average",
    "GradientAccumulationScheduler": "trainer.accumulate_grad_batches",
    "LearningRateFinder": "model.optimizer.lr",
    "ModelPruning": "a smaller student",
    "StochasticWeightAveraging": "model.moving_average",
    "WeightAveraging": "model.moving_average",
}
_NEED_A_LOGGER = ("DeviceStatsMonitor", "LearningRateMonitor")


def refuse_impossible(stated: Any, verb: str | None) -> None:
    """Refuse a recipe whose values cannot be, each of which has the right type.

    Args:
        stated: The values of all keys, before anything is built.
        verb: The verb that the recipe is for. None: it is only read.

    Raises:
        ValueError: A value cannot be; the message names its key.
    """
    _check_seed(stated.get("seed_everything"))
    for section in ("optimizer", "learning_rate"):
        value = stated.model.get(section)
        if not isinstance(value, Mapping) and not hasattr(value, "as_dict"):
            raise RecipeError(
                f"model.{section} is {'null' if value is None else value}; expected a mapping. "
                "Leave it out for the usual one, or give it such a value."
            )
    _check_trainer(stated.trainer.as_dict())
    _check_callbacks(stated.trainer)
    if verb == "fit":
        _check_end(stated.trainer)
        _check_teacher(stated.model)


def _check_seed(seed: Any) -> None:
    if seed is True:
        raise RecipeError(
            "seed_everything is true: a seed drawn at random cannot be resumed. Expected a whole "
            "number of 0 or more. Give one."
        )
    refuse_outside({"seed_everything": _SEEDS}, {"seed_everything": seed})


def _check_trainer(trainer: Mapping[str, Any]) -> None:
    refuse_outside(_TRAINER, trainer, "trainer.")
    for name in _SHARES:
        value = trainer.get(name)
        if isinstance(value, float) and value > 1:
            raise RecipeError(
                f"trainer.{name} is {value}; expected a whole number of batches, or a share from 0 "
                "to 1. Give one of the two."
            )
    choices = {
        "accelerator": ("auto", "gpu", *AcceleratorRegistry.available_accelerators()),
        "strategy": ("auto", *StrategyRegistry.available_strategies()),
        "gradient_clip_algorithm": ("norm", "value"),
    }
    for name, known in choices.items():
        value = trainer.get(name)
        if isinstance(value, str) and value.lower() not in known:
            raise RecipeError(
                f"trainer.{name} is {value!r}; expected one of {', '.join(known)}. Give one of "
                "them, or leave it out."
            )
    if trainer.get("overfit_batches"):
        raise RecipeError(
            f"trainer.overfit_batches is {trainer['overfit_batches']}, and Lightning would replace "
            "the order of the batches, which a resumed run depends on. Expected 0. Give "
            "trainer.limit_train_batches, or a data.train of a few images."
        )
    _check_devices(trainer.get("devices"))
    duration = trainer.get("max_time")
    if isinstance(duration, str) and not _DURATION.fullmatch(duration):
        raise RecipeError(
            f"trainer.max_time is {duration!r}; expected DD:HH:MM:SS, such as 00:12:00:00 for "
            "twelve hours. Give it so."
        )


def _check_devices(devices: Any) -> None:
    """Lightning takes a number, the numbers of devices, or these as a text; -1 is all of them."""
    written = str(devices).replace(" ", "").strip("[]")
    several = isinstance(devices, list) or "," in written
    numbers = written.strip(",").split(",")
    whole = all(re.fullmatch(r"-?\d+", each) for each in numbers)
    if devices in (None, "auto") or (whole and several and min(map(int, numbers)) >= 0):
        return
    if whole and not several and (int(written) > 0 or written == "-1"):
        return
    raise RecipeError(
        f"trainer.devices is {devices!r}; expected auto, a number of devices from 1, -1 for all, "
        "or a list of the devices' numbers. Give one of these."
    )


def _check_end(trainer: Any) -> None:
    if trainer.max_epochs in (None, -1) and trainer.max_steps == -1 and not trainer.fast_dev_run:
        raise RecipeError(
            f"trainer.max_epochs is {trainer.max_epochs} and trainer.max_steps "
            f"{trainer.max_steps}: the learning rate needs to know when training ends. Expected "
            "one of them; set trainer.max_epochs or trainer.max_steps (trainer.max_time may still "
            "end it earlier)"
        )


def _check_teacher(model: Any) -> None:
    if model.get("methods") or model.get("transfer"):
        return
    for key in ("teacher", "teachers"):
        if model.get(key):
            raise RecipeError(
                f"model.{key} is given, but there are no model.methods: nothing would be learnt "
                "from it. Expected one method or more, or model.transfer. Give one, or leave "
                f"model.{key} out."
            )


def _check_callbacks(trainer: Any) -> None:
    for index, (name, path) in enumerate(_callback_classes(trainer.callbacks)):
        key = f"trainer.callbacks[{index}]"
        if name in _INSTEAD:
            raise RecipeError(
                f"{key} is {path}, which does not go with limbeck's training: it would change or "
                f"undo what the recipe states. Expected {_INSTEAD[name]} instead. Give that, and "
                "leave the callback out."
            )
        if name in _NEED_A_LOGGER and trainer.logger is False:
            raise RecipeError(
                f"{key} is {path}, which needs a logger, and trainer.logger is false. Give a "
                "logger, or leave the callback out."
            )
        if name == "DeviceStatsMonitor" and find_spec("psutil") is None:
            raise RecipeError(
                f"{key} is {path}, which needs the package psutil, and there is none. Install it "
                "with `pip install psutil`, or leave the callback out."
            )


def _callback_classes(stated: Any) -> Iterator[tuple[str, str]]:
    """The name of Lightning's class that each stated callback is or inherits, and its own path."""
    known = {
        kind: name
        for name, kind in vars(lightning_callbacks).items()
        if inspect.isclass(kind) and kind is not Callback
    }
    for each in stated if isinstance(stated, list) else [stated]:
        path = str(getattr(each, "class_path", ""))
        kind = imported(path) if path else type(each)
        parents = inspect.getmro(kind) if inspect.isclass(kind) else ()
        yield next((known[parent] for parent in parents if parent in known), ""), path


def refuse_unlogged(callbacks: Sequence[Callback], metric: Metric) -> None:
    """Refuse callbacks that wait for a score that no validation gives, or for its worst value.

    Args:
        callbacks: The callbacks that a recipe states.
        metric: An empty metric like that of the run.

    Raises:
        ValueError: One of them monitors a score that is not logged, or in the wrong direction.
    """
    watching = [each for each in callbacks if isinstance(each, EarlyStopping | ModelCheckpoint)]
    for each in watching:
        monitor, name = each.monitor, type(each).__name__
        if monitor is None or monitor.startswith(("train/", "lr-")):
            continue
        known = _scores_of(metric)
        if known and monitor not in known:
            raise RecipeError(
                f"trainer.callbacks: {name}'s monitor is {monitor!r}, which is not logged. "
                f"Expected one of {', '.join(known)}, or a loss such as train/total. Give one."
            )
        best = "max" if higher_is_better(metric) else "min"
        if monitor == f"val/{headline_of(metric)}" and each.mode != best:
            raise RecipeError(
                f"trainer.callbacks: {name}'s mode is {each.mode!r}, and {monitor} is better the "
                f"{'higher' if best == 'max' else 'lower'} it is. Expected mode: {best}. Give that."
            )


def refuse_late_validation(trainer: Trainer, data: DataModule) -> None:
    """Refuse a validation that an epoch is too short for.

    Args:
        trainer: The trainer.
        data: The data of the run.

    Raises:
        ValueError: An epoch ends before the first validation in it.
    """
    every: Any = trainer.val_check_interval
    train = data.unlabelled if data.train is None else data.train
    if train is None or not isinstance(every, int) or trainer.check_val_every_n_epoch is None:
        return
    batches = max(1, len(train) // (data.batch_size * trainer.world_size))
    limit = trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    if every > batches:
        raise RecipeError(
            f"trainer.val_check_interval is {every}, and an epoch has {batches} batches: there "
            "would be no validation. Expected at most as many batches as an epoch has. Give "
            "fewer, a share such as 1.0, or trainer.check_val_every_n_epoch: null, which counts "
            "over the ends of epochs."
        )


def _scores_of(metric: Metric) -> list[str]:
    """The names that the scores of a run are logged under; none where an empty metric has none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return [f"val/{name}" for name in named_scores(metric)]
        except Exception:  # a metric of the user's, which may need data for its names
            return []
