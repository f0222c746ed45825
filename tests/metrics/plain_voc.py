"""PASCAL VOC's evaluation as one plain loop, on inclusive 1-based boxes, and what it reads."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

SIDES = ("xmin", "ymin", "xmax", "ymax")


def plain_curve(det: np.ndarray, gt: np.ndarray, threshold: float) -> tuple[np.ndarray, ...]:
    """Section 3 of the specification, word by word, on inclusive 1-based boxes of one class."""
    taken, verdicts = set(), []
    for image, _, _, *box in det[np.argsort(-det[:, 2], kind="stable")]:
        best, match = 0.0, None
        for row in np.flatnonzero(gt[:, 0] == image):
            other = gt[row, 2:6]
            w = min(box[2], other[2]) - max(box[0], other[0]) + 1
            h = min(box[3], other[3]) - max(box[1], other[1]) + 1
            areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other)]
            iou = max(w, 0) * max(h, 0) / (sum(areas) - max(w, 0) * max(h, 0))
            if iou > best:
                best, match = iou, row
        if best > threshold and gt[match, 6]:
            verdicts.append((0, 0))
        elif best > threshold and match not in taken:
            taken.add(match)
            verdicts.append((1, 0))
        else:
            verdicts.append((0, 1))
    right, wrong = np.cumsum(np.array(verdicts).reshape(-1, 2), axis=0, dtype=float).T
    return right / (gt[:, 6] == 0).sum(), right / np.maximum(right + wrong, 1)


def plain_ap(det: np.ndarray, gt: np.ndarray) -> float:
    """By 11 points, of one class."""
    if not len(gt):
        return 0.0
    recall, precision = plain_curve(det, gt, 0.5)
    reached = (precision[recall >= step] for step in np.arange(0.0, 1.1, 0.1))
    return float(np.mean([max(some, default=0.0) for some in reached]))


def read_annotations(root: Path, stems: list[str], names: list[str]) -> np.ndarray:
    """Image, class, x1, y1, x2, y2, difficult."""
    gt = []
    for image, stem in enumerate(stems):
        for thing in ElementTree.parse(root / f"Annotations/{stem}.xml").iter("object"):
            box = [float(thing.findtext(f"bndbox/{side}")) for side in SIDES]
            label = names.index(thing.findtext("name"))
            gt.append([image, label, *box, int(thing.findtext("difficult"))])
    return np.array(gt)


def read_detections(folder: Path, stems: list[str]) -> np.ndarray:
    """Image, class, score, x1, y1, x2, y2, of a real detector; no file where it found nothing."""
    det = []
    for image, stem in enumerate(stems):
        path = folder / f"{stem}.txt"
        det += [[image, *row] for row in np.loadtxt(path, ndmin=2)] if path.exists() else []
    return np.array(det)


def read_detection_files(folder: Path, stems: list[str], names: list[str]) -> np.ndarray:
    """The same columns, of the development kit's ``comp4_det_test_<class>.txt``."""
    det = []
    for label, name in enumerate(names):
        for line in (folder / f"comp4_det_test_{name}.txt").read_text().splitlines():
            stem, *numbers = line.split()
            det.append([stems.index(stem), label, *map(float, numbers)])
    return np.array(det)
