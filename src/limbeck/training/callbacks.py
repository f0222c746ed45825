"""The callbacks of every training run: proofs that it is alive, guards, and averages."""

import json
import logging
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from limbeck.balancing import Balance, balance
from limbeck.models.detection.parts.anchors import unsuited_side
from limbeck.pair import Pair
from limbeck.ranges import Range, refuse_outside
from limbeck.schedules import Schedule
from limbeck.teachers import side_of
from limbeck.terminal import say
from limbeck.training.export import short
from limbeck.training.logs import USUAL, is_logged
from limbeck.training.resumption import LastCheckpoint
from limbeck.training.scoring import headline_of, higher_is_better
from limbeck.training.writing import outlived
from limbeck.whole import write_whole
from limbeck.wiring import check

log = logging.getLogger(__name__)

BALANCE = "balance.json"  # in the folder of a run
_DECAY = Range(0, 1, open=True, open_above=True)


class NonFiniteLossError(RuntimeError):
    """A loss term, or the student itself, is no longer finite."""


class Aliveness(L.Callback):
    """Refuses a distillation that is not alive before its first step, and prints the wiring."""

    def __init__(self) -> None:
        self.checked: set[bool] = set()  # whether with labels, or without

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Check the pair on the first batch with labels, and the first without, of this run."""
        images, targets = batch
        if (targets is not None) in self.checked:
            return
        module: Any = pl_module
        with trainer.precision_plugin.train_step_context():
            wiring = check(module.pair, images, targets, trainer.optimizers[0])
        if module.pair.methods and not self.checked:
            _show(wiring)
        self.checked.add(targets is not None)
        several_sizes = getattr(module.data.augmentation, "sizes", None)  # differ on purpose
        if isinstance(images, list) and not several_sizes:
            height, width = (max(i.shape[d] for i in images) for d in (-2, -1))
            sides = {side_of(key): model for key, model in module.pair.every_teacher().items()}
            for name, model in ({"student": module.pair.student} | sides).items():
                advice = unsuited_side(model, height, width)
                if advice is not None:
                    log.warning("%s: %s", name, advice)


class BalanceReport(L.Callback):
    """Prints and logs how the terms of the loss share the gradient after the first steps.

    The same is written to ``balance.json`` in the run's folder.

    Where a term sets in late, it waits for that term's own first steps: an adapter that nothing has
    trained yet passes hardly any gradient to the student, and would ask for a weight that is
    hundreds of times too big.

    Args:
        after: The number of optimizer steps with all terms after which these are compared.
    """

    def __init__(self, after: int = 20) -> None:
        self.after = after
        self.reported = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Report once, on the batch that follows ``after`` steps, with labels if there are any."""
        module: Any = pl_module
        since = trainer.global_step - self.after
        if self.reported or since < 0 or not module.pair.methods or _late(module.pair, since):
            return
        if batch[1] is None and module.data.has_labels:
            return
        self.reported = True
        with trainer.precision_plugin.train_step_context():
            found = balance(module.pair, *batch)
        shares = {f"train/gradient/{term.name}": term.share for term in found.terms}
        for logger in trainer.loggers:
            logger.log_metrics(shares, step=trainer.global_step)
        _show(f"Balance of the loss terms after {trainer.global_step} steps", found)
        for line in found.advice():
            log.warning(line)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            _keep(found, trainer)

    def state_dict(self) -> dict[str, Any]:
        """Say whether the report was made."""
        return {"reported": self.reported}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a resumed run from reporting again."""
        self.reported = state_dict["reported"]


@rank_zero_only
def _keep(found: Balance, trainer: L.Trainer) -> None:
    kept = {"step": trainer.global_step, "terms": [asdict(term) for term in found.terms]}
    path = Path(trainer.default_root_dir, BALANCE)
    with outlived(path):
        write_whole(path, json.dumps(kept, indent=2) + "\n")


def _late(pair: Pair, number: int) -> bool:
    """Whether, after so many steps, a term that is scheduled for later has not set in."""
    weights = [weight for _, method in pair.named_methods() for weight in method.weights.values()]
    weights.append(pair.student_weight)
    return any(w.at(0) == 0 == w.at(number) for w in weights if isinstance(w, Schedule))


class NonFiniteGuard(L.Callback):
    """Stops a run whose losses are no longer finite, names the term, and keeps checkpoints good.

    The terms are gathered on the device, and looked at when the trainer logs and before a
    checkpoint is written, so that no step waits for the device. Of several bad steps the first one
    is kept: one term makes the weights NaN, and in the next step every term is NaN.
    """

    def __init__(self) -> None:
        # By the names of the terms, as steps without labels have fewer of them.
        self._finite: dict[tuple[str, ...], Tensor] = {}
        self._since = 0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Note which terms of this step are finite."""
        module: Any = pl_module
        terms: dict[str, Tensor] = module.terms
        names = tuple(terms)
        finite = torch.stack([term.isfinite().all() for term in terms.values()])
        known = self._finite.get(names)
        for earlier in self._finite.values():
            # What follows a bad step is not looked at.
            before = torch.ones_like(finite) if known is None else known
            finite = torch.where(earlier.all(), finite, before)
        self._finite[names] = finite
        if is_logged(trainer, trainer.global_step, USUAL):
            self._look(trainer)

    def _look(self, trainer: L.Trainer) -> None:
        if not self._finite:
            return
        # Every process has to stop, whichever of them met it.
        finite = torch.cat([*self._finite.values()]).float()
        share: Any = trainer.strategy.reduce(finite, reduce_op="mean")
        names = chain.from_iterable(self._finite)
        bad = [n for n, fine in zip(names, share.tolist(), strict=True) if fine < 1]
        if bad:
            raise NonFiniteLossError(
                f"{', '.join(bad)} became NaN or infinite between steps {self._since} and "
                f"{trainer.global_step}. {_kept(trainer)} Lower the learning rate or that weight, "
                "warm it up, or clip gradients (trainer.gradient_clip_val)."
            )
        self._finite, self._since = {}, trainer.global_step

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to write a checkpoint that holds NaN."""
        self._look(trainer)
        module: Any = pl_module
        for name, parameter in module.pair.named_trainable_parameters():
            if not parameter.isfinite().all():
                raise NonFiniteLossError(
                    f"parameter {name!r} holds NaN or infinity at step {trainer.global_step}. "
                    f"{_kept(trainer)} Lower the learning rate or clip gradients."
                )


def _kept(trainer: L.Trainer) -> str:
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, LastCheckpoint) and callback.path.is_file():
            return f"The last good checkpoint is {callback.path}."
    return "No checkpoint was written before."


class TeacherComparison(L.Callback):
    """Says how good the teacher is on the data before anything is learnt from it."""

    def __init__(self) -> None:
        self.warned = False

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Log the scores of the teacher, which the pass before training has measured."""
        module: Any = pl_module
        scores = module.scores.get("teacher")
        if scores is None:
            return
        log.info("teacher on the validation data: %s", short(scores))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Warn once when the student has passed its teacher."""
        module: Any = pl_module
        if trainer.sanity_checking or self.warned or module.scores.keys() < {"student", "teacher"}:
            return
        metric = module.metrics["student"]
        headline = headline_of(metric)
        student, teacher = (module.scores[side][headline] for side in ("student", "teacher"))
        if student > teacher if higher_is_better(metric) else student < teacher:
            self.warned = True
            log.warning(
                "the teacher (%s %.3f) is weaker than the student (%.3f) on the validation data: "
                "there is little to learn from it.",
                headline,
                teacher,
                student,
            )


class MovingAverage(L.Callback):
    """Keeps an exponential moving average of the student's weights.

    The average is evaluated and exported in their place. Lightning's own callback averages the
    whole module, with the frozen teacher; ``torch.optim.swa_utils.AveragedModel`` keeps a second
    student, and would need rules of our own for counters and for the first steps.

    Args:
        decay: The decay of the average, below 1. The first steps use (1 + n) / (10 + n) where that
            is less.

    Raises:
        ValueError: ``decay`` does not lie between 0 and 1.
    """

    def __init__(self, decay: float) -> None:
        refuse_outside({"moving_average": _DECAY}, {"moving_average": decay}, "model.")
        self.decay = decay
        self.steps = 0
        self.average: dict[str, Tensor] = {}
        self._aside: dict[str, Tensor] = {}  # the weights, while the average is in their place

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Begin with the student as it is."""
        student = _student(pl_module).state_dict()
        if not self.average:
            self.average = {name: _wide(value.clone()) for name, value in student.items()}
        self.average = {n: v.to(student[n].device) for n, v in self.average.items()}

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        """Move the average after every optimizer step."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        student = _student(pl_module).state_dict()
        floating = [name for name, value in student.items() if value.is_floating_point()]
        move = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        averages = [self.average[name] for name in floating]
        move(averages, [_wide(student[name]) for name in floating], 0)
        for name in student.keys() - set(floating):
            self.average[name].copy_(student[name])

    def _swap(self, pl_module: L.LightningModule) -> None:
        student, aside = _student(pl_module).state_dict(), self._aside
        self._aside = {} if aside else {name: value.clone() for name, value in student.items()}
        with torch.no_grad():
            for name, value in student.items():
                value.copy_((aside or self.average)[name])

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the average in the place of the weights, to evaluate it."""
        if self.average:
            self._swap(pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the weights back, to go on training them."""
        if self.average:
            self._swap(pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make the average the student, after the last checkpoint: it is what training has made."""
        self._swap(pl_module)
        self.average, self._aside = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """The average, and the step that it is of."""
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on averaging."""
        self.steps, self.average = state_dict["steps"], state_dict["average"]


def _wide(value: Tensor) -> Tensor:
    """A tensor as it is averaged: a step of the average is too small for the halves' digits."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _student(pl_module: L.LightningModule) -> nn.Module:
    module: Any = pl_module
    student: nn.Module = module.pair.student
    return student


@rank_zero_only
def _show(*what: Any) -> None:
    say(*what, sep="\n")
