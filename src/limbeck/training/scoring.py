"""Which metric measures a run, what its scores are called, and which of two is the better one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from limbeck.data.base import Task
from limbeck.metrics import (
    COCOAveragePrecision,
    KITTIAveragePrecision,
    TopKAccuracy,
    VOCAveragePrecision,
    WIDERFaceAveragePrecision,
)
from limbeck.names import escaped

MetricName = Literal["auto", "coco", "voc", "kitti", "kitti_2012", "widerface"]
MetricOfClasses = Callable[[Sequence[str]], Metric]

METRICS: Mapping[str, MetricOfClasses] = {
    "coco": COCOAveragePrecision,
    "voc": VOCAveragePrecision,
    "kitti": KITTIAveragePrecision,
    "kitti_2012": partial(KITTIAveragePrecision, rules="2012"),
    "widerface": WIDERFaceAveragePrecision,
}
_AUTO: Mapping[Task, MetricOfClasses] = {
    "detection": COCOAveragePrecision,
    "classification": TopKAccuracy,
}


def make_metric(metric: MetricName | MetricOfClasses, task: Task, classes: Sequence[str]) -> Metric:
    """An empty metric for a task and its classes.

    Args:
        metric: A name in ``METRICS``, ``"auto"`` for the usual metric of the task, or a callable
            that makes a metric of the class names.
        task: The task of the data.
        classes: The names of the foreground classes, in the order of the labels.

    Returns:
        A new metric, which has seen nothing yet.

    Raises:
        ValueError: There is no metric of this name, the callable makes none of the class names, or
            the metric is for the other task.
    """
    if isinstance(metric, str):
        if metric not in ("auto", *METRICS):
            raise ValueError(f"model.metric is {metric!r}; expected auto, {', '.join(METRICS)}")
        try:
            made = (METRICS.get(metric) or _AUTO[task])(classes)
        except ValueError as error:
            raise ValueError(
                f"model.metric is {metric!r}, which is not for these data: {error}. Give another "
                "metric, or other data."
            ) from error
    else:
        made = _made(metric, classes)
    its_task = getattr(made, "task", task)
    if its_task != task:
        raise ValueError(
            f"model.metric makes a {type(made).__name__}, which is for {its_task}, but the data is "
            f"for {task}. Give a metric for {task}, or leave model.metric at auto."
        )
    return made


def _made(metric: MetricOfClasses, classes: Sequence[str]) -> Metric:
    """What a callable of the user's makes of the class names."""
    expected = (
        "Expected a torchmetrics.Metric whose first argument is the list of class names, or a "
        "function of it that makes one."
    )
    try:
        made: object = metric(classes)
    except (TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(
            f"model.metric makes no metric of the class names ({reason}). {expected}"
        ) from error
    if not isinstance(made, Metric):
        raise ValueError(
            f"model.metric makes a {type(made).__name__} of the class names. {expected}"
        )
    return made


def headline_of(metric: Metric) -> str:
    """The name of the score that a run is judged by: ``metric.headline``, or that of its class."""
    return escaped(str(getattr(metric, "headline", type(metric).__name__)))


def higher_is_better(metric: Metric) -> bool:
    """Whether more of its headline is better, which is so unless torchmetrics' attribute denies."""
    return metric.higher_is_better is not False


def named_scores(metric: Metric) -> dict[str, Tensor]:
    """The scores of all that a metric has seen.

    Args:
        metric: A metric whose ``compute`` gives a mapping of scores by their names, or one scalar,
            which is then named as the headline. Of a mapping, tensors of more than one element
            (such as a list of classes) are no scores and are left out.

    Returns:
        The scalars by their names, as they are columns of a log: names of classes in them may hold
        anything, see :func:`limbeck.names.escaped`.

    Raises:
        ValueError: The headline is not among them.
    """
    headline, found = headline_of(metric), metric.compute()
    several = found if isinstance(found, Mapping) else {headline: found}
    values = {escaped(name): torch.as_tensor(value) for name, value in several.items()}
    scores = {name: value.reshape(()) for name, value in values.items() if value.numel() == 1}
    if headline not in scores:
        stated = "has no attribute `headline`"
        if hasattr(metric, "headline"):
            stated = f"says that its headline is {headline!r}"
        raise ValueError(
            f"the metric {type(metric).__name__} {stated}, and computes "
            f"{', '.join(map(repr, scores)) or 'no scalar'}. Set its class attribute `headline` to "
            "the name of the score that a run is judged by."
        )
    return scores


def within(predictions: Any, count: int) -> Any:
    """The part of predictions that is about the first ``count`` classes."""
    if isinstance(predictions, Tensor):  # logits (B, K) -> (B, count)
        missing = count - predictions.shape[1]
        return F.pad(predictions, (0, missing), value=float("-inf"))
    kept = [found["labels"] <= count for found in predictions]
    return [
        {name: value[keep] for name, value in found.items()}
        for found, keep in zip(predictions, kept, strict=True)
    ]
