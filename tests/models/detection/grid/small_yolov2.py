"""A small YOLOv2, objects for it, and the plain arithmetic of its loss."""

import math

import torch

from limbeck.models import YOLOv2

SIZE = (96, 128)  # 3 x 4 cells
SHAPES = [(20.0, 30.0), (60.0, 40.0), (90.0, 90.0)]
CLASSES = 4


def tiny(width=0.05, **arguments):
    return YOLOv2(width, CLASSES, **{"image_size": SIZE, "anchor_shapes": SHAPES} | arguments)


def objects(*rows):
    """A target of rows (label, x1, y1, x2, y2)."""
    rows = torch.tensor(rows)
    return {"boxes": rows[:, 1:], "labels": rows[:, 0].long()}


def some_objects():
    """Two images: one with two objects of one anchor, one across the border, one of all; one."""
    crowded = objects(
        (1, 10.0, 10.0, 31.0, 41.0),
        (3, 12.0, 8.0, 31.0, 40.0),  # of the same cell and shape: this one is last
        (2, 100.0, 64.0, 156.0, 128.0),  # its centre lies on the right and lower border
        (4, 0.0, 0.0, 128.0, 96.0),
    )
    return [crowded, objects((2, 70.0, 20.0, 120.0, 60.0))]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def plain_iou(a, b):
    """Of boxes of (centre x, centre y, width, height)."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    ]
    common = max(sides[0], 0.0) * max(sides[1], 0.0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)
