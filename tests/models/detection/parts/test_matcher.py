import pytest
import torch
from torchvision.models.detection import _utils

from limbeck.models import RetinaNet
from limbeck.models.detection.parts.matcher import (
    IGNORED,
    NEGATIVE,
    PADDED_SIZE,
    Matcher,
    match_anchors,
    matcher,
)
from limbeck.presets import OF_EVERY_DETECTOR
from tests.batches import nothing, photographs, targets
from tests.models.detection.tiny_detectors import NAMES, tiny

# Anchors 0 and 1 lie on the first box; anchor 1 is also the second box's best one.
BOXES = torch.tensor([[0.0, 0, 40, 40], [0, 0, 20, 80]])
ANCHORS = torch.tensor([[0.0, 0, 40, 40], [0, 0, 30, 40], [100, 100, 140, 140]])


@pytest.mark.parametrize(("preset", "expected"), list(zip(NAMES, [0, 0, 1], strict=True)))
def test_whose_the_best_anchor_is(preset: str, expected: int) -> None:
    match = match_anchors(
        matcher(OF_EVERY_DETECTOR[preset], 0.5, 0.4, least=0.0), {"boxes": BOXES}, ANCHORS
    )
    assert match.tolist() == [0, expected, -1]


def test_a_later_box_takes_the_anchor_and_a_bad_one_gets_none() -> None:
    twice = torch.cat([BOXES[:1], BOXES[:1]])
    of_mmdetection = matcher(OF_EVERY_DETECTOR["mmdetection"], 0.5, 0.4, least=0.0)
    assert match_anchors(of_mmdetection, {"boxes": twice}, ANCHORS).tolist() == [1, 0, -1]
    strict = matcher(OF_EVERY_DETECTOR["mmdetection"], 0.7, 0.3, least=0.9)
    assert match_anchors(strict, {"boxes": BOXES}, ANCHORS).tolist() == [0, 0, -1]


def test_anchors_outside_the_padding_of_their_image_are_ignored() -> None:
    model = tiny(RetinaNet, "mmdetection", levels=(3, 5)).train()
    batch, in_frame = model.transform(photographs((96, 96), (40, 90)), [*targets(1), nothing()])
    assert [target[PADDED_SIZE].tolist() for target in in_frame] == [[96, 96], [64, 96]]
    maps = [torch.zeros(2, 8, 96 // s, 96 // s) for s in model.strides]
    anchors = model.anchor_generator(batch, maps)
    matched = [
        match_anchors(model.proposal_matcher, target, of_image).split(
            [9 * (96 // s) ** 2 for s in (8, 16, 32)]
        )
        for target, of_image in zip(in_frame, anchors, strict=True)
    ]
    for level, stride in zip(matched[1], model.strides, strict=True):
        inside = torch.arange(96 // stride) * stride < 64
        rows = (level.view(96 // stride, -1) == IGNORED).all(dim=1)
        assert torch.equal(rows, ~inside)
        assert (level.view(96 // stride, -1)[inside] != IGNORED).all()
    assert not (matched[0][0].view(12, -1) == IGNORED).all(dim=1).any()  # nothing is padded there


def test_padding_counts_with_the_other_presets() -> None:
    for preset in ("torchvision", "detectron2"):
        _, in_frame = tiny(RetinaNet, preset).train().transform(photographs((64, 64)), targets(1))
        assert in_frame[0].keys() == {"boxes", "labels"}


def test_anchors_are_matched_as_torchvision_matches_them() -> None:
    generator = torch.Generator().manual_seed(0)
    iou = (torch.rand(5, 60, generator=generator) * 8).round() / 8  # with many equal ones
    ours, stock = (kind(0.7, 0.3, allow_low_quality_matches=True)(iou.clone()) for kind in KINDS)
    assert torch.equal(ours, stock)


KINDS = (Matcher, _utils.Matcher)


@pytest.mark.parametrize("preset", NAMES)
def test_an_image_whose_padded_area_holds_no_anchor_matches_nothing(preset: str) -> None:
    of_preset = matcher(OF_EVERY_DETECTOR[preset], 0.5, 0.4, least=0.0)
    target = {"boxes": BOXES, PADDED_SIZE: torch.tensor([0, 0])}
    assert match_anchors(of_preset, target, ANCHORS).tolist() == [IGNORED] * 3
    target = {"boxes": BOXES[:0], PADDED_SIZE: torch.tensor([64, 64])}
    assert match_anchors(of_preset, target, ANCHORS).tolist() == [NEGATIVE, NEGATIVE, IGNORED]
