"""How often the host waits for the device in a step: exact, as nothing is timed."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import host_waits
from counting import AWAY, COPY, LAUNCH, WAIT, counted
from limbeck import methods
from limbeck.methods.fgd import box_masks
from tests.methods.test_every_method import CASES

IMAGES = 4  # the table in docs/results/performance.md is of 16

# (waits, copies) of a step. One wait for each image is the suppression of proposals, or a loss that
# is torchvision's (SSD, and the FCOS assist of TF-HEAD). A method adds as much on every
# model, so that each is held where its step is the shortest; docs/results/performance.md has all
# of them.
LOGITS = ("DIST", "DKD", "KD")
MAPS = ("AT", "CWD", "FeatureCosine", "FitNet", "MaskedGenerative", "MGD", "PKD", "ReviewKD")
DENSE = {"plain": (2, 0), "imitation": (3, 0), "CrossKD": (2, 0)}
DENSE |= {"HEAD": (6 + IMAGES, 0), "TF-HEAD": (24 + IMAGES, 3)}
STAGED = {"plain": (6 + IMAGES, 0), "imitation": (7 + IMAGES, 0), "HEAD": (7 + IMAGES, 0)}
C4 = {"plain": (6 + IMAGES, 0), "imitation": (7 + IMAGES, 0)}
GRID = {"plain": (1, 0), "imitation": (2, 0)}
EXPECTED: dict[str, dict[str, tuple[int, int]]] = {
    "Classifier": dict.fromkeys(("plain", *LOGITS, *MAPS), (0, 0)),
    "RetinaNet, torchvision": DENSE,
    "RetinaNet, detectron2": {"plain": (2, 0)},
    "RetinaNet, mmdetection": {"plain": (2, 1)},  # the padded sizes of the images are copied
    "FCOS": {"plain": (2, 0), "CrossKD": (2, 0)},
    "GFL": {"plain": (2, 1), "imitation": (3, 1), "CrossKD": (2, 1), "LD": (3, 1)},
    "FasterRCNN, torchvision": STAGED,
    "FasterRCNN, detectron2": {"plain": (6 + IMAGES, 0)},
    "FasterRCNN, mmdetection": {"plain": (6 + IMAGES, 1)},
    "FasterRCNNC4, torchvision": C4,
    "FasterRCNNC4, detectron2": {"plain": (6 + IMAGES, 0)},
    "FasterRCNNC4, fgfi": {"plain": (6 + IMAGES, 2)},
    "SSD": {"plain": (5 + IMAGES, 0), "imitation": (6 + IMAGES, 0)},
    "ShuffleDet": GRID,
    "YOLOv2": GRID | {"FGD": (1, 0)},
}


def asked(what: Callable[[Tensor], object]) -> tuple[int, int, int]:
    """The waits, the copies and the launches of an operation on a vector of the device."""
    with counted() as counts:
        values = torch.arange(6.0).to(AWAY)
        counts.of.clear()
        what(values)
        return counts.total(WAIT), counts.total(COPY), counts.total(LAUNCH)


def put(tensor: Tensor, index: Tensor | list[int], value: float | Tensor) -> None:
    tensor[index] = value


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        (lambda x: x + 1, (0, 0, 1)),
        (lambda x: x.view(2, 3).T, (0, 0, 0)),
        (lambda x: x.sum().item(), (1, 0, 1)),
        (lambda x: bool((x > 2).any()), (1, 0, 2)),
        (lambda x: x.tolist(), (1, 0, 0)),
        (lambda x: x.cpu(), (1, 0, 0)),
        (lambda x: x.nonzero(), (1, 0, 1)),
        (lambda x: x[x > 2], (1, 0, 2)),
        (lambda x: x.unique(), (1, 0, 1)),
        (lambda x: put(x, x > 2, 0), (0, 0, 2)),  # one number needs no indices
        (lambda x: put(x, x > 2, x[:3] + 1), (1, 0, 3)),
        (lambda x: put(x, x.long(), 0), (0, 1, 2)),
        (lambda x: x[[0, 2]], (0, 1, 1)),
        (lambda x: x + torch.tensor(1.0), (0, 0, 1)),  # goes along with the launch
        (lambda x: x + torch.ones(6, device=x.device), (0, 0, 2)),
        (lambda x: x.new_tensor([1.0, 2.0]), (0, 1, 0)),
        (lambda x: torch.tensor(1.0, device=x.device), (0, 1, 0)),
        (lambda x: x.repeat_interleave(x.long()), (1, 0, 3)),
        (lambda x: x.repeat_interleave(x.long(), output_size=15), (0, 0, 3)),
        (lambda x: torch.rand(6, generator=torch.Generator(x.device), device=x.device), (0, 0, 1)),
    ],
)
def test_what_waits_and_what_does_not(
    what: Callable[[Tensor], object], expected: tuple[int, int, int]
) -> None:
    assert asked(what) == expected


def test_the_host_does_not_see_the_values_of_a_device_that_is_not_counted() -> None:
    with counted():
        away = torch.ones(2).to(AWAY)
    with pytest.raises(RuntimeError, match="while it is counted alone"):
        away + 1


@pytest.mark.parametrize("name", ["Classifier", "YOLOv2"])
def test_a_counted_step_computes_the_step(name: str) -> None:
    row = host_waits.rows()[name]
    method = "FitNet"
    _, loss = host_waits.step(host_waits.pair_of(row, method))
    pair = host_waits.pair_of(row, method)
    torch.manual_seed(0)
    batch = host_waits.batch(name != "Classifier")
    pair(*batch)
    expected = pair(*batch).total.item()
    assert loss == pytest.approx(expected, rel=1e-4)


def test_every_method_is_counted() -> None:
    counted_methods = {
        type(make()) for row in host_waits.rows().values() for make, _ in row.methods.values()
    }
    # A step of a transformer detector waits in its own library, which cannot run on this device.
    assert counted_methods == set(CASES) - {methods.QueryKD}


@pytest.mark.parametrize("extents", [[(800, 1344)], [(800, 1344), (640, 1344)]])
def test_the_masks_of_boxes_are_made_without_a_wait(extents: list[tuple[int, int]]) -> None:
    with counted() as counts:
        boxes = [torch.tensor([[4.0, 6.0, 40.0, 50.0]]).to(AWAY) for _ in range(2)]
        counts.of.clear()
        box_masks(boxes, extents, [(100, 168), (50, 84)])
        assert counts.total(WAIT, COPY) == 0


@pytest.mark.parametrize("boxes", [2, 7])
def test_masks_of_a_batch_take_few_launches_and_no_wait(boxes: int) -> None:
    counts = host_waits.masks(boxes)
    assert counts.total(WAIT, COPY) == 0
    assert counts.total(LAUNCH) == 44 + IMAGES


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_waits, "IMAGES", IMAGES)


QUICK = ("Classifier", "YOLOv2")


@pytest.mark.parametrize(
    "student",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in host_waits.rows()
    ],
)
def test_a_step_waits_as_often_as_is_written_here(student: str) -> None:
    row = host_waits.rows()[student]
    row = replace(row, methods={m: row.methods[m] for m in EXPECTED[student] if m != "plain"})
    found = {
        method: (counts.total(WAIT), counts.total(COPY))
        for method, counts in host_waits.counts_of(row)
    }
    assert found == EXPECTED[student]


@pytest.mark.slow
def test_the_teachers_box_head_is_waited_for_once() -> None:
    """Its RoIAlign asks which regions are read from which level; their labels need no wait."""
    row = host_waits.rows()["FasterRCNN, torchvision"]
    row = replace(row, methods=host_waits.BOX_HEADS)
    waits, copies = ([c.total(kind) for _, c in host_waits.counts_of(row)] for kind in (WAIT, COPY))
    assert waits[1] == waits[0] + 1
    assert copies == [0, 0]
