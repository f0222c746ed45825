"""What every detection metric shares: the boxes of all images so far, kept so that ranks can sync.

torchmetrics gathers a list state tensor by tensor, which hangs as soon as two ranks have seen
different numbers of images. So each state here is one flat float32 vector per ``update``; the
ranks' vectors are joined end to end, and the counts tell the images apart again.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

Boxes = dict[str, Tensor]

PREDICTION = {"boxes": 4, "scores": 1, "labels": 1}  # field: columns
TARGET = {"boxes": 4, "labels": 1, "iscrowd": 1, "area": 1, "difficult": 1}
OPTIONAL = {"iscrowd", "area", "difficult"}
TYPES = {"labels": torch.long, "iscrowd": torch.long, "difficult": torch.bool}


class DetectionMetric(Metric):
    """The predictions and targets of every image seen, one dict an image.

    Args:
        classes: Class names; label ``i + 1`` is ``classes[i]``. ``None`` allows any label from 1.
    """

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
        """Takes in some more images.

        Args:
            predictions: For each image ``boxes`` (N, 4) xyxy in pixels, ``scores`` (N,) and
                ``labels`` (N,) counting from 1. Label 0, the slot that torchvision's detectors
                leave unused and may yet predict, belongs to no class and is not counted.
            targets: For each image ``boxes`` (M, 4) and ``labels`` (M,), in the same frame as the
                predictions; optionally ``iscrowd``, ``area`` and ``difficult``, each (M,). Other
                keys are ignored.

        Raises:
            ValueError: If a key is missing, lengths differ or a label is out of range.
        """
        if len(predictions) != len(targets):
            raise ValueError(
                f"got predictions for {len(predictions)} images and targets for {len(targets)}; "
                "expected one dict of each for every image"
            )
        for index, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            counts = [
                self._check(prediction, PREDICTION, f"predictions[{index}]"),
                self._check(target, TARGET, f"targets[{index}]"),
            ]
            self.predictions.append(_pack(prediction, PREDICTION))
            self.targets.append(_pack(target, TARGET))
            self.counts.append(self.predictions[-1].new_tensor(counts))

    def images(self) -> list[tuple[Boxes, Boxes]]:
        """(prediction, target) of every image, rank after rank once synced, on the CPU."""
        counts = _joined(self.counts).long().view(-1, 2)
        predictions = _unpack(self.predictions, PREDICTION, counts[:, 0])
        return list(zip(predictions, _unpack(self.targets, TARGET, counts[:, 1]), strict=True))

    def _check(self, item: Mapping[str, Any], fields: Mapping[str, int], place: str) -> int:
        for field in sorted(fields.keys() - OPTIONAL - item.keys()):
            raise ValueError(
                f"{place} has no {field!r}, only {sorted(item)}; expected a dict with "
                f"{sorted(fields.keys() - OPTIONAL)}"
            )
        labels = item["labels"]
        for field in fields.keys() & item.keys():
            expected = (len(labels), 4) if fields[field] == 4 else (len(labels),)
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


def _pack(item: Boxes, fields: Mapping[str, int]) -> Tensor:
    count = len(item["labels"])
    columns = [
        item[field].detach().float().reshape(count, width)
        if field in item
        else torch.zeros(count, width, device=item["labels"].device)
        for field, width in fields.items()
    ]
    return torch.cat(columns, dim=1).flatten()


def _unpack(states: list[Tensor], fields: Mapping[str, int], counts: Tensor) -> list[Boxes]:
    table = _joined(states).view(-1, sum(fields.values()))
    return [_item(rows, fields) for rows in torch.split(table, counts.tolist())]


def _item(rows: Tensor, fields: Mapping[str, int]) -> Boxes:
    columns = torch.split(rows, list(fields.values()), dim=1)
    return {
        field: column if field == "boxes" else column[:, 0].to(TYPES.get(field, torch.float))
        for field, column in zip(fields, columns, strict=True)
    }


def _joined(states: list[Tensor] | Tensor) -> Tensor:
    """One vector on the CPU; empty where nothing was seen (syncing leaves a tensor, not a list)."""
    return dim_zero_cat(states).cpu() if len(states) else torch.zeros(0)
