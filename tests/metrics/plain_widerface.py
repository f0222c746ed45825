"""WIDER FACE's evaluation as plain loops, and the lists of its validation set."""

from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

SETTINGS = ("easy", "medium", "hard")
Image = tuple[dict[str, Tensor], dict[str, Tensor]]


def plain_curve(images: list[Image], setting: str) -> tuple[np.ndarray, np.ndarray]:
    """Recall and precision at 1000 thresholds."""
    scores = np.concatenate([found["scores"].double().numpy() for found, _ in images])
    lowest, highest = scores.min(), scores.max()
    total, faces = np.zeros((1000, 2)), 0
    for found, truth in images:
        counted = truth[setting].bool().numpy()
        faces += counted.sum()
        if not len(counted) or not len(found["scores"]):
            continue
        normal = (found["scores"].double().numpy() - lowest) / (highest - lowest)
        order = np.argsort(-normal, kind="stable")
        proposals, recalled = judged(
            found["boxes"].double().numpy()[order], truth["boxes"].double().numpy(), counted
        )
        for t in range(1000):
            above = int((normal >= 1 - (t + 1) / 1000).sum())
            if above:
                total[t] += proposals[above - 1], recalled[above - 1]
    with np.errstate(invalid="ignore"):
        return total[:, 1] / faces, total[:, 1] / total[:, 0]


def judged(boxes: np.ndarray, faces: np.ndarray, counted: np.ndarray) -> tuple[list, list]:
    """Proposals and recalled faces after each box of an image, the highest score first."""
    taken, dropped, proposals, recalled = set(), 0, [], []
    for number, box in enumerate(boxes, 1):
        width = np.minimum(box[2], faces[:, 2]) - np.maximum(box[0], faces[:, 0]) + 1
        height = np.minimum(box[3], faces[:, 3]) - np.maximum(box[1], faces[:, 1]) + 1
        both = width.clip(min=0) * height.clip(min=0)
        area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
        areas = (faces[:, 2] - faces[:, 0] + 1) * (faces[:, 3] - faces[:, 1] + 1)
        iou = both / (area + areas - both)
        best = int(iou.argmax())
        if iou[best] >= 0.5 and not counted[best]:
            dropped += 1
        elif iou[best] >= 0.5:
            taken.add(best)
        proposals.append(number - dropped)
        recalled.append(len(taken))
    return proposals, recalled


def read_faces(folder: Path) -> list[dict[str, Tensor]]:
    """The targets of all images of the validation set, from the evaluation's own files."""
    lists = {s: per_image(loadmat(folder / f"wider_{s}_val.mat")["gt_list"]) for s in SETTINGS}
    targets = []
    boxes = per_image(loadmat(folder / "wider_face_val.mat")["face_bbx_list"])
    for number, xywh in enumerate(boxes):
        corners = torch.from_numpy(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))
        target = {"boxes": corners.float(), "labels": torch.ones(len(xywh), dtype=torch.long)}
        for setting in SETTINGS:
            target[setting] = torch.zeros(len(xywh), dtype=torch.bool)
            indices = lists[setting][number].astype(int).ravel()  # from 1
            target[setting][torch.from_numpy(indices) - 1] = True
        targets.append(target)
    return targets


def per_image(cells: np.ndarray) -> list[np.ndarray]:
    return [image[0] for event in cells[:, 0] for image in event]
