"""What every detection metric shares: it keeps the boxes of all images, over all processes.

torchmetrics gathers a list state tensor by tensor, which hangs as soon as two processes have seen
different numbers of images. So each state here is one flat float32 vector for each ``update``; the
vectors of the processes are joined end to end, and the counts tell the images apart again.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

Boxes = dict[str, Tensor]

Fields = Mapping[str, torch.dtype]

PREDICTION: Fields = {"boxes": torch.float, "scores": torch.float, "labels": torch.long}
TARGET: Fields = {"boxes": torch.float, "labels": torch.long}  # every metric needs these


class DetectionMetric(Metric):
    """The base class of detection metrics, which keeps the boxes of every image.

    A subclass declares the fields of a target that it reads beside ``boxes`` and ``labels``, with
    their types; each has one value for a box. Its ``compute`` reads them from :meth:`images` or
    :meth:`rows`. Values are kept as float32, which holds integers up to 2**24 exactly.

    Args:
        classes: The names of the classes; label ``i + 1`` is ``classes[i]``. None: any label from 1
            on is taken.

    Attributes:
        task: The task, which is ``"detection"``.
        required_fields: The types of the fields that a target needs, by their names.
        optional_fields: The types of the fields that are 0 where a target lacks them, by their
            names.
        remedy: Where required fields come from, as the end of the message where one is missing.
        is_differentiable: Whether it has a gradient, for torchmetrics: it has none.
        higher_is_better: Whether more is better: it is.
        full_state_update: Whether torchmetrics' ``forward`` needs the whole state: it does not.
        headline: The name of the score that judges a run.
        predictions: The state that holds the predictions of each update.
        targets: The state that holds the targets of each update.
        counts: The state that holds the numbers of predictions and targets of each image.
    """

    task = "detection"
    required_fields: ClassVar[Fields] = {}
    optional_fields: ClassVar[Fields] = {}
    remedy: ClassVar[str] = ""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    headline: str

    predictions: list[Tensor]
    targets: list[Tensor]
    counts: list[Tensor]

    def __init__(self, classes: Sequence[str] | None) -> None:
        super().__init__()
        self.classes = None if classes is None else tuple(classes)
        self.add_state("predictions", [], dist_reduce_fx="cat")
        self.add_state("targets", [], dist_reduce_fx="cat")
        self.add_state("counts", [], dist_reduce_fx="cat")

    def update(self, predictions: Sequence[Boxes], targets: Sequence[Boxes]) -> None:
        """Take in some more images.

        Args:
            predictions: The predictions of each image: ``boxes`` (N, 4), xyxy in pixels, ``scores``
                (N,) and ``labels`` (N,), which count from 1. Label 0, the slot that torchvision's
                detectors leave unused and may yet predict, belongs to no class and is not counted.
            targets: The target of each image: ``boxes`` (M, 4) and ``labels`` (M,), in the same
                frame as the predictions, and the fields that the metric declares, (M,) each. Other
                keys are ignored.

        Raises:
            ValueError: A key is missing, lengths differ, or a label is out of range.
        """
        if len(predictions) != len(targets):
            raise ValueError(
                f"got predictions for {len(predictions)} images and targets for {len(targets)}; "
                "expected one dict of each for every image"
            )
        for index, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            counts = [
                self._check(prediction, PREDICTION, f"predictions[{index}]"),
                self._check(target, self._target_fields(), f"targets[{index}]"),
            ]
            self.predictions.append(_pack(prediction, PREDICTION))
            self.targets.append(_pack(target, self._target_fields()))
            self.counts.append(self.predictions[-1].new_tensor(counts))

    def images(self) -> list[tuple[Boxes, Boxes]]:
        """The (prediction, target) of every image on the CPU, process after process once synced."""
        predictions, targets = self._tables()
        of_predictions, of_targets = self._counts().unbind(dim=1)
        return list(
            zip(_split(predictions, of_predictions), _split(targets, of_targets), strict=True)
        )

    def rows(self) -> tuple[Boxes, Boxes]:
        """The predictions and the targets of all images, each as one table.

        Returns:
            Two dictionaries of fields on the CPU, whose rows are in the order of :meth:`images`.
            The field ``image`` has the number of each row's image.
        """
        counts = self._counts()
        numbers = torch.arange(len(counts))
        predictions, targets = (
            table | {"image": numbers.repeat_interleave(count)}
            for table, count in zip(self._tables(), counts.unbind(dim=1), strict=True)
        )
        return predictions, targets

    def _target_fields(self) -> Fields:
        return {**TARGET, **self.required_fields, **self.optional_fields}

    def _tables(self) -> tuple[Boxes, Boxes]:
        predictions = _unpack(self.predictions, PREDICTION)
        return predictions, _unpack(self.targets, self._target_fields())

    def _counts(self) -> Tensor:
        """The numbers of predictions and targets of each image, (images, 2)."""
        return _joined(self.counts).long().view(-1, 2)

    def _check(self, item: Mapping[str, Any], fields: Fields, place: str) -> int:
        required = sorted(fields.keys() - set(self.optional_fields))
        for field in required:
            if field not in item:
                raise ValueError(
                    f"{place} has no {field!r}, only {sorted(item)}; expected a dict with "
                    f"{required}{self.remedy if field in self.required_fields else ''}"
                )
        labels = item["labels"]
        for field in fields.keys() & item.keys():
            expected = (len(labels), 4) if field == "boxes" else (len(labels),)
            if item[field].shape != expected and item[field].numel() + len(labels) > 0:
                raise ValueError(
                    f"{place}[{field!r}] has shape {tuple(item[field].shape)}; "
                    f"expected {expected}, one row a label"
                )
        highest = torch.inf if self.classes is None else len(self.classes)
        lowest = 0 if fields is PREDICTION else 1
        if ((labels < lowest) | (labels > highest)).any():
            raise ValueError(
                f"{place}['labels'] holds {sorted(set(labels.tolist()))}; expected 1 to {highest}: "
                "labels count from 1, label i + 1 is classes[i]"
            )
        return len(labels)


def _pack(item: Boxes, fields: Fields) -> Tensor:
    """The fields of one image as one float32 vector; a field that is absent is 0."""
    count = len(item["labels"])
    columns = [
        item[field].detach().float().reshape(count, _width(field))
        if field in item
        else torch.zeros(count, _width(field), device=item["labels"].device)
        for field in fields
    ]
    return torch.cat(columns, dim=1).flatten()


def _unpack(states: list[Tensor], fields: Fields) -> Boxes:
    """The fields of all images, each in its own type."""
    widths = [_width(field) for field in fields]
    columns = torch.split(_joined(states).view(-1, sum(widths)), widths, dim=1)
    return {
        field: column if field == "boxes" else column[:, 0].to(fields[field])
        for field, column in zip(fields, columns, strict=True)
    }


def _width(field: str) -> int:
    return 4 if field == "boxes" else 1


def _split(table: Boxes, counts: Tensor) -> list[Boxes]:
    columns = [torch.split(column, counts.tolist()) for column in table.values()]
    return [dict(zip(table, values, strict=True)) for values in zip(*columns, strict=True)]


def _joined(states: list[Tensor] | Tensor) -> Tensor:
    """One vector on the CPU, empty where nothing was seen; syncing leaves a tensor, not a list."""
    return dim_zero_cat(states).cpu() if len(states) else torch.zeros(0)
