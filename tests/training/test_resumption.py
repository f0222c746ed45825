import logging
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from limbeck.methods import KD
from limbeck.training.checkpoints import WholeCheckpoints
from limbeck.training.module import DistillationModule
from limbeck.training.optimization import LearningRate
from limbeck.training.resumption import AskedToEndError, LastCheckpoint, RandomNumbers
from tests import tiny_models
from tests.training import tiny_runs

LAST = "checkpoints/last.ckpt"


def taught() -> DistillationModule:
    """By KD, at a learning rate that differs at every step."""
    return DistillationModule(
        tiny_models.classifier(0),
        tiny_models.classifier(1),
        {"kd": KD()},
        optimizer=tiny_runs.PLAIN_SGD,
        learning_rate=LearningRate("one_cycle", warm_up=0.3),
        moving_average=0.9,
    )


class Course(L.Callback):
    """What every batch came to, by its number in the run; crashes after a step if asked to."""

    def __init__(self, crash: int | None = None) -> None:
        self.crash = crash
        self.losses: dict[tuple[int, int], float] = {}
        self.rates: dict[int, float] = {}
        self.validated: list[int] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        epoch = trainer.fit_loop.epoch_progress.current.processed
        assert (epoch, batch_idx) not in self.losses
        self.losses[epoch, batch_idx] = outputs["loss"].item()
        self.rates[trainer.global_step] = trainer.optimizers[0].param_groups[0]["lr"]
        if trainer.global_step == self.crash:
            raise KeyError("power cut")

    def on_validation_end(self, trainer, pl_module) -> None:
        if not trainer.sanity_checking:
            self.validated.append(trainer.global_step)


CASES = {
    "epochs": {"max_epochs": 3},
    "steps": {"max_epochs": -1, "max_steps": 11},
    "epochs and steps": {"max_epochs": 3, "max_steps": 11},
    "rarely validated": {"max_epochs": 3, "check_val_every_n_epoch": 2},
    "often validated": {"max_epochs": 3, "val_check_interval": 2, "max_steps": 11},
    "never validated": {"max_epochs": 3, "max_steps": 11, "limit_val_batches": 0},
    "accumulated": {"max_epochs": 6, "accumulate_grad_batches": 3},
    "validated while it accumulates": {
        "max_epochs": 6,
        "accumulate_grad_batches": 3,
        "val_check_interval": 2,
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
@pytest.mark.parametrize("every", [1, 1000])
def test_a_run_that_crashes_again_and_again_is_the_run_that_did_not(
    every: int, options: dict[str, object], tmp_path: Path
) -> None:
    """4 batches an epoch: it goes on from the middle of an epoch, from its end, from both again."""
    options = {"limit_val_batches": 1.0} | options
    whole = Course()
    fit(taught(), tmp_path / "whole", whole, **options)

    losses, rates, validated, last = {}, {}, [], None
    for crash in (3, 5, 6, 9, None):
        course = Course(crash)
        module = taught()
        keeper = LastCheckpoint(tmp_path / LAST, every)
        try:
            fit(module, tmp_path, course, keeper, checkpoint=last, **options)
        except KeyError:
            last = tmp_path / LAST if (tmp_path / LAST).exists() else None
        losses |= course.losses
        rates |= course.rates
        validated += course.validated
        differing = {k for k, v in course.losses.items() if v != whole.losses.get(k)}
        assert not differing, f"after a crash, before {crash}"
    assert losses == whole.losses
    assert rates == whole.rates
    assert set(validated) == set(whole.validated)
    assert module.pair.number == max(whole.rates)


def fit(module, folder, *callbacks, **options) -> L.Trainer:
    return tiny_runs.fit(module, tiny_runs.shapes("classification"), folder, *callbacks, **options)


@pytest.mark.parametrize(
    ("options", "crash", "kept"),
    [
        ({"val_check_interval": 2}, 7, 6),  # in the middle of an epoch, after a validation
        ({}, 7, 4),  # after an epoch
        ({"check_val_every_n_epoch": 3}, 7, 4),  # after an epoch without validation
        ({"limit_val_batches": 0}, 7, 4),
        ({"max_steps": 11, "max_epochs": -1}, 11, 8),  # the last step was not over
        ({"every": 3}, 7, 6),
        ({"every": 4}, 9, 8),  # at the end of an epoch, once
    ],
)
def test_where_checkpoints_are_written(
    options: dict[str, object], crash: int, kept: int, tmp_path: Path
) -> None:
    options = {"max_epochs": 3, "limit_val_batches": 1.0} | options
    last = LastCheckpoint(tmp_path / "last.ckpt", options.pop("every", 1000))
    with pytest.raises(KeyError, match="power cut"):
        fit(taught(), tmp_path / "a", Course(crash), last, **options)
    assert torch.load(last.path, weights_only=False)["global_step"] == kept


def test_sigterm_is_answered_where_every_step_ends_an_epoch(tmp_path: Path) -> None:
    class Ask(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    last = LastCheckpoint(tmp_path / "last.ckpt")
    data = tiny_runs.shapes("classification", train=8)
    with pytest.raises(SIGTERMException):
        tiny_runs.fit(taught(), data, tmp_path / "a", Ask(), last, max_epochs=5)
    assert torch.load(last.path, weights_only=False)["global_step"] == 2


def test_a_checkpoint_stands_after_the_validation_that_is_due(tmp_path: Path) -> None:
    """Both are due after step 2; what is killed in that validation does it once more."""

    class PowerCut(L.Callback):
        def __init__(self) -> None:
            self.validated: list[int] = []

        def on_validation_start(self, trainer: L.Trainer, *_: object) -> None:
            if not trainer.sanity_checking:
                self.validated.append(trainer.global_step)
            if self.validated == [2]:
                raise KeyError("power cut")

    last, cut = LastCheckpoint(tmp_path / LAST, 1), PowerCut()
    options = {"val_check_interval": 2, "limit_val_batches": 1.0}
    with pytest.raises(KeyError):
        fit(taught(), tmp_path, cut, last, **options)
    assert torch.load(last.path, weights_only=False)["global_step"] == 1
    fit(taught(), tmp_path, cut, last, checkpoint=last.path, **options)
    assert cut.validated == [2, 2, 4]


@pytest.fixture
def _sigint() -> Iterator[None]:
    """Python's usual answer to SIGINT: whoever runs the tests in the background has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_sigint")
def test_sigint_is_answered_as_sigterm_is(tmp_path: Path) -> None:
    class Ask(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    last, before = LastCheckpoint(tmp_path / "last.ckpt"), signal.getsignal(signal.SIGINT)
    with pytest.raises(AskedToEndError) as end:
        fit(taught(), tmp_path / "a", Ask(), last)
    assert end.value.number == signal.SIGINT
    assert torch.load(last.path, weights_only=False)["global_step"] == 2
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("_sigint")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_was_ignored_before_the_run_stays_ignored(
    number: signal.Signals, tmp_path: Path
) -> None:
    class Ask(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
            os.kill(os.getpid(), number)

    before, module = signal.signal(number, signal.SIG_IGN), taught()
    try:
        fit(module, tmp_path / "a", Ask(), LastCheckpoint(tmp_path / "last.ckpt"))
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert module.pair.number == 4


def test_a_second_sigint_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    last = LastCheckpoint(tmp_path / "last.ckpt")
    last._ask(signal.SIGTERM, None)
    last._ask(signal.SIGINT, None)
    assert not codes
    last._ask(signal.SIGINT, None)
    assert codes == [130]


def test_no_step_between_two_checkpoints_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint_every is 0; expected 1 or more steps"):
        LastCheckpoint(tmp_path / "last.ckpt", 0)


# -- random numbers -----------------------------------------------------------------------------


def draws(seed: int = 0, begin: int = 0) -> list[float]:
    """What the first batches of a run draw, in two processes that drew differently before."""

    class Run:
        data = type("Data", (), {"seed": seed})

    callback = RandomNumbers()
    callback.load_state_dict({"batches": begin})
    torch.manual_seed(begin)
    found = []
    for _ in range(4):
        callback.on_train_batch_start(None, Run())
        found.append(torch.rand(()).item())
    return found


def test_a_batch_s_random_numbers_are_its_own() -> None:
    assert draws(begin=0)[2:] == draws(begin=2)[:2]
    assert len(set(draws())) == 4
    assert not set(draws(seed=1)) & set(draws())


def test_processes_draw_different_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    first = draws()
    monkeypatch.setattr("limbeck.training.resumption.rank_and_world_size", lambda: (1, 2))
    assert not set(draws()) & set(first)


def test_dropout_after_a_crash_is_what_it_would_have_been(tmp_path: Path) -> None:
    def plain() -> DistillationModule:
        student = tiny_models.classifier(0)
        student.register_forward_pre_hook(
            lambda model, images: nn.functional.dropout(images[0], 0.2, model.training)
        )
        return DistillationModule(
            student, optimizer=tiny_runs.PLAIN_SGD, learning_rate=tiny_runs.STEADY
        )

    whole, resumed, last = Course(), Course(), LastCheckpoint(tmp_path / "last.ckpt", 2)
    fit(plain(), tmp_path / "whole", whole, max_epochs=2)
    with pytest.raises(KeyError):
        fit(plain(), tmp_path, Course(3), last, max_epochs=2)
    torch.manual_seed(7)
    fit(plain(), tmp_path, resumed, max_epochs=2, checkpoint=last.path)
    assert resumed.losses == {k: v for k, v in whole.losses.items() if k >= (0, 2)}


# -- a full disk ------------------------------------------------------------------------------


def test_training_outlives_a_disk_that_is_full_for_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "limbeck")

    class Full(L.Callback):
        """During the first epoch."""

        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            room = 10_000 if trainer.current_epoch == 0 else hard
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    last = LastCheckpoint(tmp_path / LAST, 2)
    try:
        module = taught()
        fit(module, tmp_path, Full(), last, max_epochs=2, plugins=[WholeCheckpoints()])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert module.pair.number == 8
    assert caplog.text.count("could not be written") == 2  # of steps 2 and 4
    assert torch.load(last.path, weights_only=False)["global_step"] == 8
