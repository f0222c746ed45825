"""The LightningModule that trains a Distillation, and evaluates student and teacher alike."""

import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.plugins.precision import HalfPrecision, Precision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric

from limbeck.distillation import Distillation
from limbeck.frame import explained_form, explained_size
from limbeck.guard import refuse_bad_images, refuse_malformed
from limbeck.losses import Losses, logits_of
from limbeck.methods.base import Method
from limbeck.models.build import Build
from limbeck.schedules import Schedule
from limbeck.teachers import measured
from limbeck.training import compilation
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
from limbeck.training.logs import is_logged
from limbeck.training.optimization import LearningRate, Optimizer, norm_parameters
from limbeck.training.pending import PendingLogs, forget_terms
from limbeck.training.processes import let_parameters_rest
from limbeck.training.resumption import (
    RandomNumbers,
    begin_next_epoch,
    refuse_other_optimizer,
    refuse_other_shapes,
)
from limbeck.training.scoring import (
    MetricName,
    MetricOfClasses,
    make_metric,
    named_scores,
    within,
)
from limbeck.training.skipped import SkippedSamples
from limbeck.training.suitability import (
    doubts,
    idle_teacher,
    refuse_other_data,
    unlearnt_images,
)
from limbeck.training.waiting import DataWaits

log = logging.getLogger(__name__)


class DistillationModule(L.LightningModule):
    """Trains a student, with a teacher or without one.

    Without teacher and methods it trains the plain student, the baseline of a comparison.

    Args:
        student: The model that is trained and exported.
        teacher: The frozen model that the student learns from. None: there is none.
        teachers: Further frozen models by names of the user's choice, from which the methods learn
            that name one of them as their ``teacher``. None: there are no others.
        methods: The methods, by names of the user's choice, which name their losses. None: there
            are none.
        transfer: The submodules of the teacher whose weights are copied once before training, by
            the submodules of the student that get them; of a teacher with a name as
            ``name:submodule``. None: nothing is copied.
        student_weight: The weight of the student's own losses, a number or a schedule.
        optimizer: The optimizer of the student and of what the methods train.
        learning_rate: The course of the learning rate over the run.
        metric: What student and teacher are measured by. The names of average precisions are
            ``coco``, ``voc``, ``kitti`` (by today's rules, over 40 recalls), ``kitti_2012`` (by
            those of 2012, over 11 recalls) and ``widerface``. ``auto`` is ``coco`` for detectors,
            and top-1 and top-5 accuracy for classifiers. Any ``torchmetrics.Metric`` of the class
            names can be given too: by its class path in a recipe, in Python as its class or a
            function that makes it. See :mod:`limbeck.metrics`.
        moving_average: The decay of an exponential moving average of the student's weights, which
            is evaluated and exported in their place. None: there is none.
        channels_last: Whether to keep the weights of convolutions, and so feature maps, in
            channels_last layout.
        compile: Whether to compile the trunks of student and teacher with ``torch.compile``.
        recalibrate: Whether to calibrate methods anew where a resumed run goes on, though its
            checkpoint holds what they found.
        example: The (height, width) in pixels of the black image of the dry pass that sizes the
            adapters. None: the size that the student or the teacher is made for, and 128 px where
            both take any.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module | None = None,
        methods: dict[str, Method] | None = None,
        teachers: dict[str, nn.Module] | None = None,
        transfer: dict[str, str] | None = None,
        student_weight: float | Schedule = 1.0,
        optimizer: Optimizer = Optimizer(),  # noqa: B008 - frozen
        learning_rate: LearningRate = LearningRate(),  # noqa: B008 - frozen
        metric: MetricName | MetricOfClasses = "auto",
        moving_average: float | None = None,
        channels_last: bool = False,
        compile: bool = False,
        recalibrate: bool = False,
        example: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.pair = Distillation(
            student.train(),  # one that was loaded is in evaluation mode, which Lightning keeps
            teacher,
            methods or {},
            teachers=teachers,
            transfer=transfer,
            student_weight=student_weight,
            example=example,
        )
        # DDP is to leave teachers alone: they are frozen, and the same everywhere.
        self._ddp_params_and_buffers_to_ignore = [f"pair.{n}" for n in self.pair.teacher_names()]
        self.transfers = bool(transfer)
        self.told = False  # what is odd about this run
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.metric = metric
        self.moving_average = moving_average
        self.metrics = nn.ModuleDict()
        self.scores: dict[str, dict[str, float]] = {}
        self.scored_at: int | None = None  # the step of the student's scores
        self.begun: dict[str, Any] = {}  # of the checkpoint that is gone on from
        self.student_build: Build | None = None  # for students that do not know it themselves
        # Lightning asks for callbacks at every fit and validate: they have to be the same ones.
        self.companions = companions(moving_average, recalibrate)
        if channels_last:
            compilation.channels_last(self.pair)
        if compile:
            compilation.compile_trunks(self.pair)

    @property
    def measured(self) -> nn.Module | None:
        """The teacher that is measured beside the student; None: there is none."""
        return measured(self.pair.every_teacher())

    def configure_callbacks(self) -> list[L.Callback]:
        """The callbacks that accompany every run."""
        return self.companions

    @property
    def data(self) -> DataModule:
        """The data module that the trainer was given, which has to be limbeck's."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, DataModule):
            raise TypeError(
                f"DistillationModule needs a limbeck DataModule; found {type(data).__name__}. "
                "Another loader can be used with limbeck.Distillation and a loop of one's own."
            )
        return data

    def setup(self, stage: str) -> None:
        """Make the metrics, and have the teacher measured on all validation data."""
        self._refuse_unsuitable(training=stage == "fit")
        if stage == "fit" and self.data.unlabelled is not None:
            let_parameters_rest(self.trainer.strategy)
        self.pair.seed = self.data.seed
        self.pair.get_extra_state()  # the teachers' checksums: the trainer may round the weights
        _keep_targets(self.trainer.precision_plugin)
        sides = ["student"] if self.measured is None else ["student", "teacher"]
        trainer: Any = self.trainer
        if "teacher" in sides and trainer.num_sanity_val_steps:
            trainer.num_sanity_val_steps = math.inf  # Lightning's 2 batches are no measurement
        self.metrics = nn.ModuleDict({side: self.new_metric(self.data) for side in sides})

    def _refuse_unsuitable(self, training: bool) -> None:
        """Refuse models, data and metric that do not go together, and say once what is odd."""
        refuse_other_data(self.pair, self.data)
        if training and getattr(self.pair.student, "classes", None):
            # Which it learns from now on.
            self.pair.student.classes = self.data.classes  # type: ignore[assignment]
        metric = self.new_metric(self.data)
        found = unlearnt_images(self.pair, self.data) if training else []
        if not len(self.pair.methods):
            self.data.leave_out_unlabelled()  # what is left out is not looked at below
        found += doubts(self.pair, self.data, metric, training=training)
        if training and not self.transfers:
            found += idle_teacher(self.pair)
        for sentence in () if self.told else found:
            log.warning(sentence)
        self.told = True

    def new_metric(self, data: DataModule) -> Metric:
        """Make an empty metric for the task and the classes of this data."""
        return make_metric(self.metric, data.task, data.classes)

    # -- training -------------------------------------------------------------------------------

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Compute the loss of one batch."""
        images, targets = batch
        losses: Losses = self.pair(images, targets)
        self.terms = {name: loss.detach() for name, loss in losses.raw.items()}
        total = losses.total
        self._log_losses(losses, total.detach(), len(images))
        return total

    def _log_losses(self, losses: Losses, total: Tensor, batch_size: int) -> None:
        """Log every term, raw and weighted, as the mean over all processes."""
        total, terms = self._over_processes(total)
        raw = {f"train/raw/{name}": value for name, value in terms.items()}
        weighted = {f"train/weighted/{n}": v * losses.weights[n] for n, v in terms.items()}
        student = [v for n, v in weighted.items() if n.startswith("train/weighted/student/")]
        shown = {"train/task": sum(student)} if student else {}  # without labels there is none
        if len(student) < len(losses):
            shown["train/distillation"] = total - sum(student)
        if not student:
            forget_terms(self.trainer.fit_loop.epoch_loop._results)
        self.log_dict({**raw, **weighted, "train/total": total, **shown}, batch_size=batch_size)
        if self._is_logged() or self.pair.number == 0:
            # What is logged with prog_bar=True is read from the device in every step.
            bar = {name: float(value) for name, value in shown.items()}
            self.trainer.progress_bar_metrics.update(bar)

    def _is_logged(self) -> bool:
        """Whether the trainer logs the step at hand."""
        return is_logged(self.trainer, self.pair.number + 1)

    def _over_processes(self, total: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The total and the terms, averaged in one message in the steps that are logged."""
        trainer: Any = self.trainer
        if trainer.world_size == 1 or not self._is_logged():
            return total, self.terms
        values = torch.stack([total, *(term.to(total) for term in self.terms.values())])
        total, *means = trainer.strategy.reduce(values, reduce_op="mean")
        return total, dict(zip(self.terms, means, strict=True))

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take an optimizer step, after which schedules move on."""
        super().optimizer_step(*args, **kwargs)
        self.pair.advance()

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip each gradient as the optimizer says, and then all of them as the trainer says."""
        self.optimizer.clip(optimizer)
        super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer and the learning rate that the recipe states."""
        norms = norm_parameters(self.pair)
        optimizer = self.optimizer.build(self.pair.named_trainable_parameters(), norms)
        scheduler = self.learning_rate.build(optimizer, *self._count_steps())
        refuse_other_optimizer(self.begun, optimizer, scheduler)
        self.begun = {}
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _count_steps(self) -> tuple[int, int]:
        """The numbers of optimizer steps in the whole run, and in an epoch.

        Lightning's own estimate sets the training data up before a checkpoint is restored, and the
        position in the data is then lost.
        """
        trainer: Any = self.trainer
        batches, limit = len(self.data.train_dataloader()), trainer.limit_train_batches
        taken = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
        if not taken:
            raise ValueError(
                f"trainer.limit_train_batches is {limit}, which leaves none of {batches} batches; "
                "expected one at least. Give a larger share, or a number of batches."
            )
        # The last step of an epoch may have fewer batches to accumulate.
        per_epoch = math.ceil(taken / trainer.accumulate_grad_batches)
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
        """The models that this pass over the validation data measures, by their sides.

        The pass before training (Lightning's sanity check, over all validation data) measures the
        teacher, later ones measure the student, and ``limbeck validate`` measures both. Of several
        teachers it is the first that predicts what the student does; one that gives features alone
        is never measured.
        """
        sides = {"student": self.pair.student}
        if self.measured is not None:
            if self.trainer.sanity_checking:
                return {"teacher": self.measured}
            if self.trainer.state.fn == "validate" and "teacher" not in self.scores:
                return {"teacher": self.measured} | sides
        return sides

    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Any]:
        """Put the predictions of one batch into the metrics; callbacks get them by side."""
        images, targets = batch
        refuse_malformed(images, None, detects=False, raw=self.pair.raw)
        if batch_idx == 0:  # a device is waited for
            refuse_bad_images(images, raw=self.pair.raw)
        found = {}
        for side, model in self._evaluated().items():
            metric: Any = self.metrics[side]
            with explained_form(side, model, images), explained_size(side, model, images):
                predicted = model(images)
            logits = logits_of(predicted)
            found[side] = predicted if logits is None else logits
            if side == "teacher":
                found[side] = within(found[side], len(self.data.classes))
            metric.update(found[side], targets)
        return found

    def on_validation_epoch_end(self) -> None:
        """Compute and log the scores of the whole validation data."""
        for side in self._evaluated():
            metric: Any = self.metrics[side]
            scores = named_scores(metric)
            metric.reset()
            if side == "student" and self.trainer.sanity_checking:
                continue  # two batches are no measurement
            self.scores[side] = {name: float(value) for name, value in scores.items()}
            if side == "student":
                self.scored_at = self.trainer.global_step
            prefix = "val" if side == "student" else "val/teacher"
            if not self.trainer.sanity_checking:
                logged = {f"{prefix}/{name}": value for name, value in scores.items()}
                # Every process has the synchronised score already.
                self.log_dict(logged, rank_zero_only=False, sync_dist=False)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the scores so far, so that a resumed run does not measure the teacher again."""
        checkpoint["scores"] = self.scores
        checkpoint["scored_at"] = self.scored_at

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the scores where training goes on; a run that only validates makes its own."""
        if self.trainer.state.fn == "fit":
            self.scores = checkpoint.get("scores", {})
            self.scored_at = checkpoint.get("scored_at")
            if "teacher" in self.scores:
                self.trainer.num_sanity_val_steps = 0
            refuse_other_shapes(checkpoint, self.state_dict())
            self.begun = {key: checkpoint.get(key) for key in ("optimizer_states", "lr_schedulers")}
            begin_next_epoch(self.trainer, checkpoint)


def companions(moving_average: float | None, recalibrate: bool) -> list[L.Callback]:
    """The callbacks of every run, in the order in which they are called.

    The first ones change what the others see, and the last one undoes what they draw at random.

    Args:
        moving_average: The decay of the moving average of the student's weights. None: there is
            none.
        recalibrate: Whether to calibrate methods anew where a resumed run goes on.

    Returns:
        New callbacks.
    """
    averaging = [] if moving_average is None else [MovingAverage(moving_average)]
    return [
        *averaging,
        Calibrate(recalibrate),
        Aliveness(),
        NonFiniteGuard(),
        DataWaits(),
        BalanceReport(),
        TrainingTime(),
        TeacherComparison(),
        ExportStudent(),
        SkippedSamples(),
        PendingLogs(),
        RandomNumbers(),
    ]


def _keep_targets(precision: Precision) -> None:
    """Keep the halves from rounding boxes to 8 or 11 bits: the data convert the images alone."""
    if isinstance(precision, HalfPrecision):
        precision.convert_input = lambda data: data  # type: ignore[method-assign]
