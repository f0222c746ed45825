"""KITTI's evaluation as plain loops over thresholds, images, objects and boxes."""

from torch import Tensor

LEVELS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.30), "hard": (25, 2, 0.50)}
COUNTED, IGNORED, ABSENT = 0, 1, -1

Image = tuple[dict[str, Tensor], dict[str, Tensor]]
Rows = dict[str, list]


def plain_curve(images: list[Image], label: int, level: str, needed: float, today: bool) -> list:
    """Best precision at or above recall 0, 1/40, ..., 1 of one class and level."""
    rows = [[plain(side) for side in image] for image in images]
    candidates, positives = [], 0
    for found, truth in rows:
        candidates += right_scores(found, truth, label, level, needed, today)
        positives += state_of_objects(truth, label, level, today).count(COUNTED)
    precision = [0.0] * 41
    for index, threshold in enumerate(thinned(candidates, positives)):
        right = wrong = 0
        for found, truth in rows:
            both = right_and_wrong(found, truth, label, level, needed, today, threshold)
            right, wrong = right + both[0], wrong + both[1]
        precision[index] = right / (right + wrong) if right + wrong else 0.0
    return [max(precision[index:]) for index in range(41)]


def right_scores(
    found: Rows, truth: Rows, label: int, level: str, needed: float, today: bool
) -> list:
    """The first pass: each object takes the box of highest score."""
    boxes = state_of_boxes(found, label, level, today)
    taken, scores = set(), []
    for row, state in enumerate(state_of_objects(truth, label, level, today)):
        if state == ABSENT:
            continue
        best = None
        for box, kind in enumerate(boxes):
            if kind == ABSENT or box in taken:
                continue
            if iou(found["boxes"][box], truth["boxes"][row]) > needed and (
                best is None or found["scores"][box] > found["scores"][best]
            ):
                best = box
        if best is not None:
            taken.add(best)
            if state == COUNTED and boxes[best] == COUNTED:
                scores.append(found["scores"][best])
    return scores


def thinned(scores: list, positives: int) -> list:
    """The scores whose recall is nearest to multiples of 1/40."""
    scores, kept, current = sorted(scores, reverse=True), [], 0.0
    for i, score in enumerate(scores):
        last = i == len(scores) - 1
        left = (i + 1) / positives
        right = left if last else (i + 2) / positives
        if right - current < current - left and not last:
            continue
        kept.append(score)
        current += 1 / 40
    return kept


def right_and_wrong(
    found: Rows,
    truth: Rows,
    label: int,
    level: str,
    needed: float,
    today: bool,
    threshold: float,
) -> tuple[int, int]:
    """The second pass: each object takes the box of greatest overlap."""
    boxes = state_of_boxes(found, label, level, today)
    boxes = [
        kind if score >= threshold else ABSENT
        for kind, score in zip(boxes, found["scores"], strict=True)
    ]
    taken, right = set(), 0
    for row, state in enumerate(state_of_objects(truth, label, level, today)):
        if state == ABSENT:
            continue
        best, greatest, too_low = None, 0.0, None
        for box, kind in enumerate(boxes):
            overlap = iou(found["boxes"][box], truth["boxes"][row])
            if kind == ABSENT or box in taken or overlap <= needed:
                continue
            if kind == COUNTED and overlap > greatest:
                best, greatest = box, overlap
            if kind == IGNORED and too_low is None:
                too_low = box
        best = too_low if best is None else best
        if best is not None:
            taken.add(best)
            right += state == COUNTED and boxes[best] == COUNTED
    regions = [
        box
        for box, mine, occlusion in zip(
            truth["boxes"], truth["labels"], truth["occlusion"], strict=True
        )
        if mine == label and occlusion < 0
    ]
    wrong = 0
    for box, kind in enumerate(boxes):
        mine = found["boxes"][box]
        excused = any(shared(mine, region) > needed * area(mine) for region in regions)
        wrong += kind == COUNTED and box not in taken and not excused
    return right, wrong


def state_of_objects(truth: Rows, label: int, level: str, today: bool) -> list[int]:
    height, occlusion, truncation = LEVELS[level]
    states = []
    for row, box in enumerate(truth["boxes"]):
        if truth["labels"][row] != label or truth["occlusion"][row] < 0:
            states.append(ABSENT)
        elif (
            truth["iscrowd"][row]
            or truth["occlusion"][row] > occlusion
            or truth["truncation"][row] > truncation
            or box[3] - box[1] < height
            or (today and box[3] - box[1] == height)
        ):
            states.append(IGNORED)
        else:
            states.append(COUNTED)
    return states


def state_of_boxes(found: Rows, label: int, level: str, today: bool) -> list[int]:
    states = []
    for box, mine in zip(found["boxes"], found["labels"], strict=True):
        if today and int(box[3] - box[1]) < LEVELS[level][0]:
            states.append(IGNORED)  # of any class
        else:
            states.append(COUNTED if mine == label else ABSENT)
    return states


def plain(side: dict[str, Tensor]) -> Rows:
    """Numbers, boxes and truncation with the two decimals of KITTI's files."""
    rows = {field: values.tolist() for field, values in side.items()}
    rows["boxes"] = [[round(corner, 2) for corner in box] for box in rows["boxes"]]
    if "truncation" in rows:
        rows["truncation"] = [round(value, 2) for value in rows["truncation"]]
    return rows


def shared(one: list, other: list) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def area(box: list) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def iou(one: list, other: list) -> float:
    both = shared(one, other)
    return both / (area(one) + area(other) - both)
