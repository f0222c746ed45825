import io

import numpy as np
import PIL.Image
import pytest
import torch

from limbeck.metrics.predictions import Predictions
from limbeck.report.page import gallery
from limbeck.report.page.detection import Judged
from limbeck.report.page.gallery import choose, pictures


def classified(confidences: list[float]) -> Predictions:
    """Images of class 0 by the probability that a model gives it, and of class 1 by turns."""
    chance = torch.tensor(confidences, dtype=torch.float64)
    logits = torch.stack([chance.logit(), torch.zeros_like(chance)], dim=1)
    sizes = torch.full((len(chance), 2), 8)
    return Predictions("classification", ("a", "b"), sizes, logits, torch.zeros(len(chance)).long())


def test_images_are_sorted_by_what_distillation_changed():
    plain, distilled = classified([0.5, 0.5, 0.5]), classified([0.4, 0.9, 0.6])
    made = choose({"plain": plain, "distilled": distilled}, {})
    assert [card.index for card in made.cards] == [1, 2, 0]
    assert [card.gain for card in made.cards] == pytest.approx([0.4, 0.1, -0.1], abs=1e-4)
    assert (made.order, made.helped, made.hurt) == ("distilled minus plain", 2, 1)
    assert made.cards[0].found["distilled"][0] == (0, 0.9)


def test_one_model_is_sorted_by_its_own_score():
    made = choose({"teacher": classified([0.5, 0.9])}, {})
    assert (made.order, [card.index for card in made.cards]) == ("teacher", [1, 0])


def test_of_many_images_the_ends_are_chosen_and_every_class(monkeypatch):
    monkeypatch.setattr(gallery, "MOST_CARDS", 8)
    count = 50
    box = {"boxes": torch.tensor([[0.0, 0, 4, 4]]), "labels": torch.tensor([1])}
    truth = [box] * count
    truth[25] = box | {"labels": torch.tensor([2])}  # in the middle of the order
    found = [box | {"scores": torch.tensor([0.9])}] * count
    made = Predictions("detection", ("a", "b"), torch.full((count, 2), 8), found, truth)
    judged = Judged(np.zeros(0), np.zeros(0, dtype=bool), 0, np.linspace(1, 0, count))
    cards = choose({"plain": made}, {"plain": judged}).cards
    assert len(cards) == 8
    indices = [card.index for card in cards]
    assert {0, 1, 48, 49, 25} <= set(indices)
    assert indices == sorted(indices)


def test_boxes_are_those_of_the_highest_scores_and_count_from_0():
    boxes = torch.tensor([[0.0, 0, 4, 4.04]]).repeat(60, 1)
    scores = torch.linspace(0, 1, 60)
    found = {"boxes": boxes, "scores": scores, "labels": torch.ones(60, dtype=torch.long)}
    truth = {"boxes": boxes[:1], "labels": torch.tensor([1])}
    made = Predictions("detection", ("a",), torch.tensor([[8, 8]]), [found], [truth])
    judged = Judged(np.zeros(0), np.zeros(0, dtype=bool), 0, np.ones(1))
    (card,) = choose({"plain": made}, {"plain": judged}).cards
    assert card.truth == [(0, 0.0, 0.0, 4.0, 4.0)]
    assert len(card.found["plain"]) == gallery.MOST_BOXES
    assert card.found["plain"][0][:2] == (0, 1.0)


def test_pictures_end_where_there_is_no_room(monkeypatch, detection):
    made = choose({"plain": classified([0.5, 0.6, 0.7, 0.8])}, {})
    every = pictures(made.cards, detection.data)
    assert sorted(every) == [0, 1, 2, 3]
    monkeypatch.setattr(gallery, "MOST_BYTES", sum(map(len, every.values())) // 2)
    assert set(pictures(made.cards, detection.data)) <= {0, 3, 2}


def test_a_picture_is_small_and_reads_back(detection):
    webp = gallery._thumbnail(torch.zeros(3, 500, 1000, dtype=torch.uint8))
    with PIL.Image.open(io.BytesIO(webp)) as picture:
        assert picture.size == (320, 160)
