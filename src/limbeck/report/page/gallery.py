"""The images on which distillation helped most, and those on which it hurt most."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from limbeck.data.base import Task
from limbeck.metrics.predictions import Predictions
from limbeck.report.findings import Kind
from limbeck.report.page.detection import Floats, Judged

MOST_CARDS = 96
MOST_BYTES = 2_800_000  # of all pictures, as they stand in the page
MOST_BOXES = 40  # of one model on one image: those of the highest scores
LOWEST_SCORE = 0.05
LEAST_CHANGE = 1e-6  # of a score that counts as a change
MOST_GUESSES = 5  # classes of an image that are shown with their probabilities
LONGEST_SIDE = 320  # pixels of a picture

Entries = Sequence[tuple[float, ...]]


class Images(Protocol):
    """The images that the rows of a comparison are scored on.

    Attributes:
        task: The task of their targets.
        classes: The names of the classes.
    """

    @property
    def task(self) -> Task:
        """The task of the targets."""

    @property
    def classes(self) -> Sequence[str]:
        """The names of the classes."""

    def __len__(self) -> int:
        """The number of images."""

    def image(self, index: int) -> Tensor:
        """An image as the models got it, uint8 RGB (3, H, W)."""


@dataclass(frozen=True)
class Card:
    """One image of the gallery.

    Attributes:
        index: The position of the image in the data.
        gain: The number by which the gallery is sorted.
        scores: The score of each model on this image.
        height: The height of the image, in pixels.
        width: The width of the image, in pixels.
        classes: The classes of its objects, or its class; they count from 0.
        truth: For detection the true boxes, each the class and x1, y1, x2, y2. Else nothing.
        found: Of each model the boxes, each the class, the score and x1, y1, x2, y2; for
            classification the best classes, each with its probability.
    """

    index: int
    gain: float
    scores: Mapping[Kind, float]
    height: int
    width: int
    classes: Sequence[int]
    truth: Entries
    found: Mapping[Kind, Entries]


@dataclass(frozen=True)
class Gallery:
    """Images of which the reader sees what each model makes of them.

    Attributes:
        score: What the score of an image is.
        order: By what the gallery is sorted: the difference of two models, or one's score.
        cards: The images, the greatest gain first.
        images: The number of all images that they are from.
        helped: The number of images whose score distillation raised. None: nothing is compared.
        hurt: The number of images whose score distillation lowered. None: nothing is compared.
    """

    score: str
    order: str
    cards: Sequence[Card]
    images: int
    helped: int | None = None
    hurt: int | None = None


def choose(predictions: Mapping[Kind, Predictions], judged: Mapping[Kind, Judged]) -> Gallery:
    """Choose the images of the gallery.

    Args:
        predictions: What each model predicts, at least one of them.
        judged: For detection, how each model's detections are judged.

    Returns:
        The gallery: half of it are the images of the greatest and of the smallest gain, the others
        those of the greatest and smallest gain of each class.
    """
    first = next(iter(predictions.values()))
    scores = {kind: _scores(found, judged.get(kind)) for kind, found in predictions.items()}
    helped = hurt = None
    if {"plain", "distilled"} <= scores.keys():
        gains, order = scores["distilled"] - scores["plain"], "distilled minus plain"
        helped, hurt = int((gains > LEAST_CHANGE).sum()), int((gains < -LEAST_CHANGE).sum())
    else:
        last = list(scores)[-1]
        gains, order = scores[last], last
    classes = [_classes(first, index) for index in range(len(first))]
    cards = []
    for index in _chosen(gains, classes):
        height, width = first.sizes[index].tolist()
        cards.append(
            Card(
                index,
                round(float(gains[index]), 4),
                {kind: round(float(values[index]), 4) for kind, values in scores.items()},
                height,
                width,
                classes[index],
                _true_boxes(first.truth[index]),
                {kind: _found(each.found[index]) for kind, each in predictions.items()},
            )
        )
    what = "average precision at an IoU of 0.5 on the image by itself"
    if first.task == "classification":
        what = "probability of the true class"
    cards.sort(key=lambda card: (-card.gain, card.index))
    return Gallery(what, order, cards, len(first), helped, hurt)


def pictures(cards: Sequence[Card], data: Images) -> dict[int, str]:
    """The pictures of the cards as addresses that hold them, by the index of the image.

    Where they become too many bytes, images are left out, from the middle of the order on.
    """
    made: dict[int, str] = {}
    size = 0
    for card in _from_both_ends(cards):
        address = as_address(_thumbnail(data.image(card.index)))
        size += len(address)
        if size > MOST_BYTES:
            break
        made[card.index] = address
    return made


def as_address(webp: bytes) -> str:
    """An address that holds a WebP picture."""
    return f"data:image/webp;base64,{base64.b64encode(webp).decode()}"


def _thumbnail(image: Tensor) -> bytes:
    picture = PIL.Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    out = io.BytesIO()
    # Pixel art would blur, and small images cost next to nothing.
    small = max(picture.size) <= 64
    picture.save(out, "webp", quality=72, lossless=small)
    return out.getvalue()


def _from_both_ends(cards: Sequence[Card]) -> Iterator[Card]:
    low, high = 0, len(cards) - 1
    while low <= high:
        yield cards[low]
        if low < high:
            yield cards[high]
        low, high = low + 1, high - 1


def _scores(predictions: Predictions, judged: Judged | None) -> Floats:
    """The score of each image, (N,)."""
    if judged is not None:
        return judged.by_image
    probabilities = torch.stack(list(predictions.found)).double().softmax(dim=1)
    truth = torch.stack(list(predictions.truth))
    values: Floats = probabilities.gather(1, truth[:, None])[:, 0].numpy()
    return values


def _chosen(gains: Floats, classes: Sequence[Sequence[int]]) -> list[int]:
    ends = np.argsort(-gains, kind="stable").tolist()
    chosen = dict.fromkeys(_alternating(ends, MOST_CARDS // 2))
    names = sorted({label for of_image in classes for label in of_image})
    of_class = {label: [i for i in ends if label in classes[i]] for label in names}
    rounds = [_alternating(indices, MOST_CARDS) for indices in of_class.values()]
    for place in range(MOST_CARDS):
        for indices in rounds:
            if len(chosen) < MOST_CARDS and place < len(indices):
                chosen[indices[place]] = None
    return list(chosen)


def _alternating(ordered: Sequence[int], most: int) -> list[int]:
    """The first, the last, the second, the last but one, and so on."""
    mixed = [index for pair in zip(ordered, reversed(ordered), strict=True) for index in pair]
    return list(dict.fromkeys(mixed))[:most]


def _classes(predictions: Predictions, index: int) -> list[int]:
    truth = predictions.truth[index]
    if predictions.task == "classification":
        return [int(truth)]
    return sorted({label - 1 for label in truth["labels"].tolist()})


def _true_boxes(target: Any) -> list[tuple[float, ...]]:
    if isinstance(target, Tensor):
        return []
    boxes = zip(target["labels"].tolist(), target["boxes"].tolist(), strict=True)
    return [(label - 1, *(round(side, 1) for side in box)) for label, box in boxes]


def _found(found: Any) -> list[tuple[float, ...]]:
    if isinstance(found, Tensor):
        probabilities, labels = found.double().softmax(dim=0).topk(min(MOST_GUESSES, len(found)))
        pairs = zip(labels.tolist(), probabilities.tolist(), strict=True)
        return [(label, round(probability, 4)) for label, probability in pairs]
    order = found["scores"].argsort(descending=True, stable=True)[:MOST_BOXES]
    columns = (found[name][order].tolist() for name in ("labels", "scores", "boxes"))
    return [
        (label - 1, round(score, 3), *(round(side, 1) for side in box))
        for label, score, box in zip(*columns, strict=True)
        if score >= LOWEST_SCORE and label > 0
    ]
