import numpy as np
import pytest
import torch

from limbeck.models.detection.parts import atss
from limbeck.models.detection.parts.atss import ATSSMatcher, candidates
from limbeck.models.detection.parts.matcher import IGNORED, NEGATIVE, PADDED_SIZE
from tests.methods.modern import case_of

GRIDS = ((12, 16), (6, 8), (3, 4), (2, 2), (1, 1))
COUNTS = [rows * columns for rows, columns in GRIDS]


def anchors_of(grids=GRIDS):
    """Squares of 8 strides on the upper left corner of every cell, from a stride of 8 on."""
    levels = []
    for level, (rows, columns) in enumerate(grids, 3):
        y, x = (torch.arange(side) * 2.0**level for side in (rows, columns))
        centres = torch.stack([x.repeat(rows), y.repeat_interleave(columns)], dim=1)
        half = 4 * 2**level
        levels.append(torch.cat([centres - half, centres + half], dim=1))
    return torch.cat(levels)


def boxes_of(count, generator):
    corners = torch.rand(count, 2, generator=generator) * 60
    return torch.cat([corners, corners + torch.rand(count, 2, generator=generator) * 60 + 4], 1)


def oracle(boxes, anchors, counts, topk=9, allowed=None):
    """Algorithm 1 of the paper in loops: each anchor's object, -1 for none; and the thresholds."""
    owner, best, thresholds = [-1] * len(anchors), [-1.0] * len(anchors), []
    for number, box in enumerate(boxes):
        centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        chosen, start = [], 0
        for count in counts:
            far = []
            for index in range(start, start + count):
                x, y = ((anchors[index][i] + anchors[index][i + 2]) / 2 for i in (0, 1))
                if allowed is None or allowed[index]:
                    far.append((np.hypot(x - centre[0], y - centre[1]), index, x, y))
            chosen += sorted(far)[:topk]
            start += count
        overlaps = [plain_iou(box, anchors[index]) for _, index, _, _ in chosen]
        thresholds.append(np.mean(overlaps) + np.std(overlaps, ddof=1))
        for (_, index, x, y), overlap in zip(chosen, overlaps, strict=True):
            depth = min(x - box[0], y - box[1], box[2] - x, box[3] - y)
            if overlap >= thresholds[-1] and depth > 0.01 and overlap > best[index]:
                owner[index], best[index] = number, overlap
    return owner, thresholds


def plain_iou(box, other):
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
    return width * height / (areas - width * height)


@pytest.mark.parametrize("name", ["one", "two", "overlapping"])
def test_positives_are_the_authors(shared, name):
    regions, case = (
        case_of(shared, "ld.npz", "regions"),
        case_of(shared, "ld.npz", f"regions.{name}"),
    )
    matcher = ATSSMatcher(int(regions["topk"]))
    counts = regions["per_level"].tolist()
    matched = matcher([{"boxes": case["boxes"]}], regions["anchors"], counts)
    assert (case["assigned_gt"] > 0).sum() > 5
    assert torch.equal(matched[0] + 1, case["assigned_gt"])


@pytest.mark.parametrize("at_a_time", [2**24, 700])
def test_a_batch_is_matched_as_each_image_by_itself_in_loops(monkeypatch, at_a_time):
    """Objects are counted through the batch, in which one image has none."""
    monkeypatch.setattr(atss, "_BLOCK", at_a_time)
    generator = torch.Generator().manual_seed(3)
    anchors, images = anchors_of(), [boxes_of(n, generator) for n in (5, 0, 9)]
    matched = ATSSMatcher()([{"boxes": boxes} for boxes in images], anchors, COUNTS)
    start = 0
    for boxes, found in zip(images, matched, strict=True):
        owner, _ = oracle(boxes.tolist(), anchors.tolist(), COUNTS)
        expected = torch.tensor([NEGATIVE if i < 0 else i + start for i in owner])
        assert torch.equal(found, expected)
        start += len(boxes)
    assert (matched >= 0).sum() > 30


def test_cells_on_the_padding_are_no_candidates_and_are_ignored():
    generator = torch.Generator().manual_seed(5)
    anchors, boxes = anchors_of(), boxes_of(6, generator)
    target = {"boxes": boxes, PADDED_SIZE: torch.tensor([64, 96])}
    whole = {"boxes": boxes, PADDED_SIZE: torch.tensor([96, 128])}
    small, large = ATSSMatcher()([target, whole], anchors, COUNTS)
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    inside = (centres[:, 0] < 96) & (centres[:, 1] < 64)
    owner, _ = oracle(boxes.tolist(), anchors.tolist(), COUNTS, allowed=inside.tolist())
    expected = torch.tensor([NEGATIVE if i < 0 else i for i in owner])
    assert torch.equal(small, torch.where(inside, expected, IGNORED))
    alone = ATSSMatcher()([{"boxes": boxes}], anchors, COUNTS)[0]
    assert torch.equal(large, alone + 6 * (alone >= 0))
    assert not torch.equal(small[inside], alone[inside])  # fewer candidates, other thresholds


def test_thresholds_are_mean_and_deviation_of_the_candidates():
    generator = torch.Generator().manual_seed(5)
    anchors, boxes = anchors_of(), boxes_of(4, generator)
    found = candidates(boxes, anchors, COUNTS, 9, None, torch.zeros(4, dtype=torch.long))
    _, expected = oracle(boxes.tolist(), anchors.tolist(), COUNTS)
    assert found.anchors.shape == (4, 9 * 3 + 4 + 1)
    torch.testing.assert_close(found.threshold, torch.tensor(expected).float())


def test_a_batch_without_objects_is_all_background():
    matched = ATSSMatcher()([{"boxes": torch.zeros(0, 4)}] * 2, anchors_of(), COUNTS)
    assert matched.shape == (2, sum(COUNTS))
    assert (matched == NEGATIVE).all()
