"""What a model predicts on every image of a dataset, beside the truth, as one file keeps it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchmetrics import Metric

Boxes = dict[str, Tensor]
Task = Literal["detection", "classification"]
_FOUND, _TRUTH = "found/", "truth/"
_COUNTS = "counts"  # the numbers of boxes of each image stand under this name


@dataclass(frozen=True)
class Predictions:
    """What a model predicts on the N images of a dataset, in the dataset's order.

    Attributes:
        task: The task of the dataset.
        classes: The names of its classes.
        sizes: The height and width of each image as the model got it, in pixels, int64 (N, 2).
        found: Of each image, for classification the logits (K,); for detection ``boxes`` (M, 4),
            xyxy in pixels of that image, ``scores`` (M,) and ``labels`` (M,).
        truth: Of each image, for classification the index of its class, a scalar; for detection
            the target, with all tensors that the dataset gives a row of for each object.
    """

    task: Task
    classes: tuple[str, ...]
    sizes: Tensor
    found: Sequence[Any]
    truth: Sequence[Any]

    def __len__(self) -> int:
        return len(self.sizes)

    def measured(self, metric: Metric) -> Metric:
        """Let a metric see all images.

        Args:
            metric: An empty metric of the task.

        Returns:
            The same metric.
        """
        if self.task == "detection":
            metric.update(self.found, self.truth)
        else:
            metric.update(torch.stack(list(self.found)), torch.stack(list(self.truth)))
        return metric

    def save(self, path: Path) -> None:
        """Write them as safetensors, which :meth:`load` reads.

        Args:
            path: The file. Its folder has to be there.
        """
        tensors = {"sizes": self.sizes}
        for prefix, items in ((_FOUND, self.found), (_TRUTH, self.truth)):
            tensors |= {f"{prefix}{name}": value for name, value in _joined(items).items()}
        metadata = {"task": self.task, "classes": json.dumps(self.classes)}
        save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what :meth:`save` wrote.

        Args:
            path: The file.

        Returns:
            The predictions.
        """
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        task: Task = "detection" if metadata["task"] == "detection" else "classification"
        found, truth = (
            list(_parted({n.removeprefix(p): t for n, t in tensors.items() if n.startswith(p)}))
            for p in (_FOUND, _TRUTH)
        )
        return cls(task, tuple(json.loads(metadata["classes"])), tensors["sizes"], found, truth)


def _joined(items: Sequence[Any]) -> dict[str, Tensor]:
    """The tensors of all images end to end, with the numbers of rows that each image has."""
    if isinstance(items[0], Tensor):
        return {"": torch.stack(list(items))}
    counts = torch.tensor([len(item["labels"]) for item in items])
    fields = [n for n in sorted(items[0]) if all(_is_of_objects(i, n, items[0]) for i in items)]
    return {_COUNTS: counts} | {name: torch.cat([item[name] for item in items]) for name in fields}


def _is_of_objects(item: Boxes, name: str, first: Boxes) -> bool:
    """Whether a field has a row for each object, as long as in the first image: no ``image_id``."""
    return (
        name in item
        and item[name].ndim > 0
        and len(item[name]) == len(item["labels"])
        and item[name].shape[1:] == first[name].shape[1:]
    )


def _parted(joined: Mapping[str, Tensor]) -> Iterator[Any]:
    """The tensors of each image."""
    if _COUNTS not in joined:
        yield from joined[""]
        return
    counts = joined[_COUNTS].tolist()
    columns = {n: torch.split(value, counts) for n, value in joined.items() if n != _COUNTS}
    for index in range(len(counts)):
        yield {name: parts[index] for name, parts in columns.items()}
