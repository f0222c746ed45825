"""The LightningModule: it drives a Distillation, and evaluates student and teacher alike."""

import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torchmetrics import Metric

from limbeck.distillation import Distillation
from limbeck.frame import takes_list
from limbeck.losses import Losses
from limbeck.methods.base import Method
from limbeck.models.build import Build, LimbeckModel
from limbeck.schedules import Schedule
from limbeck.training import trunks
from limbeck.training.calibration import Calibrate
from limbeck.training.callbacks import (
    Aliveness,
    BalanceReport,
    MovingAverage,
    NonFiniteGuard,
    TeacherComparison,
)
from limbeck.training.data import DataModule
from limbeck.training.export import ExportStudent, TrainingTime
from limbeck.training.optimization import LearningRate, Optimizer, norm_parameters
from limbeck.training.resumption import RandomNumbers, begin_next_epoch
from limbeck.training.scoring import (
    MetricName,
    MetricOfClasses,
    make_metric,
    named_scores,
)
from limbeck.training.skipped import SkippedSamples


class DistillationModule(L.LightningModule):
    """Trains a student, taught or plain: without teacher and methods it is the plain baseline.

    Args:
        student: the model that is trained and exported.
        teacher: the frozen model it learns from.
        methods: by a name of the user's choice, which names its losses.
        transfer: ``{student's submodule: teacher's}``, copied once before training.
        student_weight: weight of the student's own losses.
        optimizer: SGD or AdamW.
        learning_rate: its course over the run.
        metric: a detector's average precision: COCO's, VOC's, KITTI's by today's rules and 40
            points or by those of 2012 and 11, WIDER FACE's; ``auto``: COCO's for detectors, top-1
            and top-5 for classifiers.
        moving_average: decay of an exponential moving average of the student's weights, which is
            what is evaluated and exported; None for none.
        channels_last: keep convolution weights (and so feature maps) in channels_last layout.
        compile: compile the trunks of student and teacher with ``torch.compile``.
        recalibrate: calibrate methods anew where a resumed run goes on, though its checkpoint holds
            what they found.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        methods: dict[str, Method] | None = None,
        transfer: dict[str, str] | None = None,
        student_weight: float | Schedule = 1.0,
        optimizer: Optimizer = Optimizer(),  # noqa: B008 - frozen
        learning_rate: LearningRate = LearningRate(),  # noqa: B008 - frozen
        metric: MetricName | MetricOfClasses = "auto",
        moving_average: float | None = None,
        channels_last: bool = False,
        compile: bool = False,
        recalibrate: bool = False,
    ) -> None:
        super().__init__()
        self.pair = Distillation(
            student, teacher, methods or {}, transfer=transfer, student_weight=student_weight
        )
        # DDP is to leave the teacher alone: it is frozen, and the same everywhere.
        self._ddp_params_and_buffers_to_ignore = [f"pair.{n}" for n in self.pair.teacher_names()]
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.metric = metric
        self.moving_average = moving_average
        self.metrics = nn.ModuleDict()
        self.scores: dict[str, dict[str, float]] = {}
        self.scored_at: int | None = None  # the step of the student's scores
        self.student_build: Build | None = None  # for students that do not know it themselves
        # Lightning asks for callbacks at every fit and validate: they have to be the same ones.
        self.companions = companions(moving_average, recalibrate)
        if channels_last:
            trunks.channels_last(self.pair)
        if compile:
            trunks.compile_trunks(self.pair)

    def configure_callbacks(self) -> list[L.Callback]:
        """What every run is accompanied by."""
        return self.companions

    @property
    def data(self) -> DataModule:
        """The data that the trainer was given."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, DataModule):
            raise TypeError(
                f"DistillationModule needs a limbeck DataModule; found {type(data).__name__}. "
                "Another loader can be used with limbeck.Distillation and a loop of one's own."
            )
        return data

    def setup(self, stage: str) -> None:
        """Metrics fit the data's task and classes, and the teacher is measured on all of it."""
        refuse_other_data(self.pair.student, self.data)
        sides = ["student"] if self.pair.teacher is None else ["student", "teacher"]
        trainer: Any = self.trainer
        if "teacher" in sides and trainer.num_sanity_val_steps:
            trainer.num_sanity_val_steps = math.inf  # Lightning's 2 batches are no measurement
        self.metrics = nn.ModuleDict({side: self.new_metric(self.data) for side in sides})

    def new_metric(self, data: DataModule) -> Metric:
        """An empty metric for this data."""
        return make_metric(self.metric, data.task, data.classes)

    # -- training -------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """A one-cycle is made for one number of steps: a resumed run has to keep it."""
        cycle = self.lr_schedulers()
        if isinstance(cycle, OneCycleLR) and cycle.total_steps != self._count_steps()[0]:
            raise ValueError(
                f"the checkpoint's learning rate is a one-cycle of {cycle.total_steps} steps, and "
                f"this run has {self._count_steps()[0]}. Keep trainer.max_epochs and max_steps as "
                "they were, or begin anew from the exported student's weights."
            )

    def training_step(self, batch: Any, _: int) -> Tensor:
        """One batch through the pair."""
        images, targets = batch
        losses: Losses = self.pair(images, targets)
        self.terms = {name: loss.detach() for name, loss in losses.raw.items()}
        total = losses.total
        self._log_losses(losses, total.detach(), len(images))
        return total

    def _log_losses(self, losses: Losses, total: Tensor, batch_size: int) -> None:
        """Every term, raw and weighted; what a logger gets is the mean over all processes."""
        total, terms = self._over_processes(total)
        raw = {f"train/raw/{name}": value for name, value in terms.items()}
        weighted = {f"train/weighted/{n}": v * losses.weights[n] for n, v in terms.items()}
        student = sum(v for n, v in weighted.items() if n.startswith("train/weighted/student/"))
        shown = {"train/task": student}
        if any(not name.startswith("student/") for name in losses):
            shown["train/distillation"] = total - student
        self.log_dict({**raw, **weighted, "train/total": total}, batch_size=batch_size)
        self.log_dict(shown, prog_bar=True, batch_size=batch_size)

    def _over_processes(self, total: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and the terms, averaged in one message in the steps that are logged."""
        trainer: Any = self.trainer
        every = trainer.log_every_n_steps
        if trainer.world_size == 1 or not every or (self.pair.number + 1) % every:
            return total, self.terms
        values = torch.stack([total, *(term.to(total) for term in self.terms.values())])
        total, *means = trainer.strategy.reduce(values, reduce_op="mean")
        return total, dict(zip(self.terms, means, strict=True))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """An optimizer step, after which schedules move on."""
        super().optimizer_step(*args, **kwargs)
        self.pair.advance()

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Each parameter by itself as the optimizer states it, then all of them as the trainer."""
        self.optimizer.clip(optimizer)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer and learning rate as the recipe states them."""
        norms = norm_parameters(self.pair)
        optimizer = self.optimizer.build(self.pair.named_trainable_parameters(), norms)
        scheduler = self.learning_rate.build(optimizer, *self._count_steps())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _count_steps(self) -> tuple[int, int]:
        """Optimizer steps of the whole run, and of an epoch.

        Lightning's own estimate sets the training data up before a checkpoint is restored, and the
        position in the data is then lost.
        """
        trainer: Any = self.trainer
        batches, limit = len(self.data.train_dataloader()), trainer.limit_train_batches
        batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        # The last step of an epoch may have fewer batches to accumulate.
        per_epoch = math.ceil(batches / trainer.accumulate_grad_batches)
        ends = [trainer.max_steps, (trainer.max_epochs or -1) * per_epoch]
        stated = [end for end in ends if end > 0]
        if not stated:
            raise ValueError(
                "the learning rate needs to know when training ends: set trainer.max_epochs or "
                "trainer.max_steps (trainer.max_time may still end it earlier)"
            )
        return min(stated), per_epoch

    # -- evaluation -----------------------------------------------------------------------------

    def _evaluated(self) -> Mapping[str, nn.Module]:
        """Whom this validation pass is about.

        The pass before training (Lightning's sanity check, over all validation data) measures the
        teacher, later ones the student, and ``limbeck validate`` both.
        """
        sides = {"student": self.pair.student}
        if self.pair.teacher is not None:
            if self.trainer.sanity_checking:
                return {"teacher": self.pair.teacher}
            if self.trainer.state.fn == "validate" and "teacher" not in self.scores:
                return {"teacher": self.pair.teacher} | sides
        return sides

    def validation_step(self, batch: Any, _: int) -> dict[str, Any]:
        """Predictions of one batch, into the metric; by side, for callbacks."""
        images, targets = batch
        found = {}
        for side, model in self._evaluated().items():
            metric: Any = self.metrics[side]
            found[side] = model(images)
            if side == "teacher":
                found[side] = within(found[side], len(self.data.classes))
            metric.update(found[side], targets)
        return found

    def on_validation_epoch_end(self) -> None:
        """Scores of the whole validation data."""
        for side in self._evaluated():
            metric: Any = self.metrics[side]
            scores = named_scores(metric)
            metric.reset()
            self.scores[side] = {name: float(value) for name, value in scores.items()}
            if side == "student":
                self.scored_at = self.trainer.global_step
            prefix = "val" if side == "student" else "val/teacher"
            if not self.trainer.sanity_checking:
                logged = {f"{prefix}/{name}": value for name, value in scores.items()}
                # Every process has the synchronised score already.
                self.log_dict(logged, rank_zero_only=False, sync_dist=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The scores so far: a resumed run does not measure the teacher again."""
        checkpoint["scores"] = self.scores

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Scores that the run goes on with; one that only validates makes its own."""
        if self.trainer.state.fn == "fit":
            self.scores = checkpoint.get("scores", {})
            if "teacher" in self.scores:
                self.trainer.num_sanity_val_steps = 0
            begin_next_epoch(self.trainer, checkpoint)


def refuse_other_data(student: nn.Module, data: DataModule) -> None:
    """Raise where the student is not made for the data."""
    if data.task == "classification" and takes_list(student):
        raise ValueError(
            f"the data is for classification, model.student is a {type(student).__name__}, which "
            "detects. Give a classifier, or a detection dataset."
        )
    count = getattr(student, "num_classes", len(data.classes))
    if isinstance(student, LimbeckModel) and count != len(data.classes):
        raise ValueError(
            f"model.student has num_classes={count}, the data has {len(data.classes)} classes: "
            f"{', '.join(data.classes[:10])}{', ...' if len(data.classes) > 10 else ''}. Set "
            f"model.student.init_args.num_classes to {len(data.classes)}."
        )


def companions(moving_average: float | None, recalibrate: bool) -> list[L.Callback]:
    """The callbacks of every run.

    The first change what the others see, the last undoes what they draw at random.
    """
    averaging = [] if moving_average is None else [MovingAverage(moving_average)]
    return [
        *averaging,
        Calibrate(recalibrate),
        Aliveness(),
        NonFiniteGuard(),
        BalanceReport(),
        TrainingTime(),
        TeacherComparison(),
        ExportStudent(),
        SkippedSamples(),
        RandomNumbers(),
    ]


def within(predictions: Any, count: int) -> Any:
    """What a teacher, perhaps of other classes, says about the first ``count``."""
    if isinstance(predictions, Tensor):  # logits (B, K) -> (B, count)
        missing = count - predictions.shape[1]
        return nn.functional.pad(predictions, (0, missing), value=float("-inf"))
    kept = [found["labels"] <= count for found in predictions]
    return [
        {name: value[keep] for name, value in found.items()}
        for found, keep in zip(predictions, kept, strict=True)
    ]
