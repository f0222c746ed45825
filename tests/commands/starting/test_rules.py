"""What the rules choose for data of which it is known."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from limbeck.commands.starting import rules
from limbeck.commands.starting.measured import Measured


def data(
    images: int = 595,
    size: tuple[int, int] = (480, 640),
    share: float = 0.1,
    task: str = "detection",
) -> Any:
    """Images of one size, whose objects are squares of a share of the shorter side."""
    objects = torch.full((100, 2), share)
    layout = SimpleNamespace(task=task)
    extents = torch.tensor([size] * 10).float()
    return Measured(layout, None, ("a",), images, extents, objects, None, False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "share", "side"),
    [
        ((480, 640), 0.5, 256),  # large objects: the least side
        ((480, 640), 0.06, 384),  # 24 px of 0.06 are 400
        ((480, 640), 0.01, 480),  # never larger than the images are
        ((2000, 3000), 0.01, 800),  # nor than COCO's
        ((60, 60), 0.5, 32),
    ],
)
def test_small_objects_get_pixels(size: tuple[int, int], share: float, side: int) -> None:
    chosen = rules.short_side(data(size=size, share=share))
    assert chosen.value == side
    assert f"{side} px" in chosen.why


def test_other_sides_follow_the_images() -> None:
    lying = data(size=(480, 640))
    assert rules.long_side(lying, 256) == 352  # 341 px, to a multiple of 32
    assert [rules.last_level(side) for side in (256, 480, 512)] == [5, 5, 7]
    sizes = [
        rules.classified_side(data(size=(s, s), task="classification")).value
        for s in (32, 100, 500)
    ]
    assert sizes == [32, 96, 224]


@pytest.mark.parametrize(
    ("images", "task", "steps"),
    [(119, "detection", 1_700), (4_000, "classification", 7_500), (118_000, "detection", 90_000)],
)
def test_schedules_are_of_the_length_that_was_found_enough(
    images: int, task: str, steps: int
) -> None:
    found = data(images, task=task)
    batch = rules.batch_size(found).value
    epochs = rules.epochs(found, batch, from_scratch=False).value
    assert 0.7 * steps < epochs * (images // batch) < 1.4 * steps
    longer = rules.epochs(found, batch, from_scratch=True).value
    assert epochs < longer <= 2.2 * epochs
    teachers = rules.teacher_epochs(epochs).value
    assert 0.9 * (epochs // 2) < teachers <= epochs // 2
    for each in (epochs, longer, teachers):  # all end with a validation
        assert each % rules.evaluation_interval(each) == 0
    assert 10 <= epochs / rules.evaluation_interval(epochs) < 20


def test_few_images_are_one_batch_at_most() -> None:
    assert rules.batch_size(data(3)).value == 3
