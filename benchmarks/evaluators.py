"""How long the evaluators take at the size of the validation sets.

    python benchmarks/evaluators.py [--rounds 5] [--write]
    python benchmarks/evaluators.py --coco [--images 5000] [--detections 100] [--classes 80]

Objects and detections are generated: of KITTI 3,769 images with about 5 objects and 20 detections
a class, of WIDER FACE 3,226 images with about 40,000 faces and 200 detections an image. ``update``
takes an image a call. "Plain" are the loops of the tests, over images, thresholds, objects and
boxes, on the first images alone; the ratio is that of seconds an image. On the CPU.

``--coco`` measures COCO's instead, on as many images, detections an image and classes as are asked
for, with 7.3 objects an image. "Class by class" is the way of torchmetrics: one evaluation by
faster-coco-eval for all classes, and one for each. "faster-coco-eval" is one evaluation alone, with
the making of its dictionaries. Both run once. The last row has fifteen times as many classes.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["RAYON_NUM_THREADS"] = "1"

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision

sys.path.append(str(Path(__file__).parents[1]))  # for the tests' loops

from tests.metrics import plain_kitti, plain_widerface

from limbeck.metrics import COCOAveragePrecision, KITTIAveragePrecision, WIDERFaceAveragePrecision
from limbeck.metrics.detections import DetectionMetric
from measuring import CPU, begin, conditions, publish, seconds, settings

Image = tuple[dict[str, Tensor], dict[str, Tensor]]
CLASSES = ("Car", "Pedestrian", "Cyclist")
OVERLAPS = (0.7, 0.5, 0.5)
HEAD = """\
| evaluator | images | targets | detections | update, s | compute, s | detections/s | plain / ours |
|---|---|---|---|---|---|---|---|"""
COCO_HEAD = """\
| COCO AP: images | detections an image | classes | update, s | compute, s \
| class by class / ours | faster-coco-eval / ours |
|---|---|---|---|---|---|---|"""
COCO_TEXT = """\
One evaluation gives all scores, those of the classes among them, and they are equal to the last
bit. "Class by class" is the way of torchmetrics and faster-coco-eval: an evaluation for all
classes, and one for each. "faster-coco-eval" is one evaluation alone. An image has 7.3 objects, of
which one in fifty is a crowd."""
MORE_CLASSES = 15


def boxes(count: int, frame: tuple[int, int]) -> Tensor:
    """Of 10 to 150 pixels a side."""
    corners = torch.rand(count, 2) * torch.tensor(frame)
    return torch.cat([corners, corners + 10 + 140 * torch.rand(count, 2) ** 2], dim=1)


def detections(target: dict[str, Tensor], count: int, classes: int, frame: tuple) -> dict:
    """One near each target, the others anywhere."""
    near = target["boxes"][:count]
    near = near + 0.05 * torch.randn(near.shape) * (near[:, 2:] - near[:, :2]).repeat(1, 2)
    others = count - len(near)
    labels = [target["labels"][:count], torch.randint(1, classes + 1, (others,))]
    return {
        "boxes": torch.cat([near, boxes(others, frame)]),
        "labels": torch.cat(labels),
        "scores": torch.rand(count),
    }


def kitti_image() -> Image:
    """A tenth of the objects are neighbours; a region is not labelled."""
    frame, count = (1242, 375), int(torch.poisson(torch.tensor(15.0)))
    regions = boxes(1, frame).expand(3, 4)
    target = {
        "boxes": torch.cat([boxes(count, frame), regions]),
        "labels": torch.cat([torch.randint(1, 4, (count,)), torch.arange(1, 4)]),
        "iscrowd": torch.cat([torch.rand(count) < 0.1, torch.ones(3)]).long(),
        "truncation": torch.cat([torch.rand(count) ** 4, -torch.ones(3)]),
        "occlusion": torch.cat([torch.randint(0, 4, (count,)), -torch.ones(3)]).long(),
    }
    return detections(target, 60, len(CLASSES), frame), target


def wider_image() -> Image:
    """Most have few faces, some hundreds; every second one is easy."""
    frame, count = (1024, 768), int(torch.empty(()).exponential_(1 / 12.3)) + 1
    chance = torch.rand(count)
    target = {
        "boxes": boxes(count, frame),
        "labels": torch.ones(count, dtype=torch.long),
        "easy": chance < 0.2,
        "medium": chance < 0.35,
        "hard": chance < 0.8,
    }
    return detections(target, 200, 1, frame), target


def plain_kitti_curves(images: list[Image]) -> None:
    """All classes and levels."""
    for label, overlap in enumerate(OVERLAPS, 1):
        for level in plain_kitti.LEVELS:
            plain_kitti.plain_curve(images, label, level, overlap, today=True)


def plain_wider_curves(images: list[Image]) -> None:
    """All settings."""
    for setting in plain_widerface.SETTINGS:
        plain_widerface.plain_curve(images, setting)


def coco_image(count: int, classes: int) -> Image:
    """As many objects as COCO has; one in fifty is a crowd."""
    frame, objects = (640, 480), int(torch.poisson(torch.tensor(7.3)))
    target = {
        "boxes": boxes(objects, frame),
        "labels": torch.randint(1, classes + 1, (objects,)),
        "iscrowd": (torch.rand(objects) < 0.02).long(),
    }
    return detections(target, count, classes, frame), target


def by_program(images: list[Image], *, each_class: bool) -> Callable[[], object]:
    """faster-coco-eval, as torchmetrics calls it."""
    program = MeanAveragePrecision(class_metrics=each_class, backend="faster_coco_eval")
    program.warn_on_many_detections = False
    for found, truth in images:
        program.update([found], [truth])
    return program.compute


def coco_line(options: argparse.Namespace, classes: int, *, compare: bool) -> str:
    """One row of COCO's table."""
    images = [coco_image(options.detections, classes) for _ in range(options.images)]
    metric = COCOAveragePrecision([str(number) for number in range(classes)])
    update, compute = took(metric, images, options.rounds)
    others = [
        f"{seconds(by_program(images, each_class=each))[CPU] / compute:.1f}" if compare else "-"
        for each in (True, False)
    ]
    sizes = [f"{number:,}" for number in (options.images, options.detections, classes)]
    return f"| {' | '.join([*sizes, f'{update:.2f}', f'{compute:.2f}', *others])} |"


def took(metric: DetectionMetric, images: list[Image], rounds: int) -> tuple[float, float]:
    """The medians of the CPU time of all updates, and of ``compute``."""

    def update() -> None:
        metric.reset()
        for prediction, target in images:
            metric.update([prediction], [target])

    updates, computes = [], []
    for _ in range(rounds):
        updates.append(seconds(update)[CPU])
        computes.append(seconds(metric.compute)[CPU])
    return statistics.median(updates), statistics.median(computes)


def line(
    name: str,
    metric: DetectionMetric,
    images: list[Image],
    plain: tuple[Callable[[list[Image]], None], int],
    rounds: int,
) -> str:
    """One row of the table, medians of CPU time."""
    update, compute = took(metric, images, rounds)
    whole = update + compute
    loops, few = plain
    ratio = seconds(lambda: loops(images[:few]))[CPU] / few / (whole / len(images))
    targets, found = (sum(len(image[side]["labels"]) for image in images) for side in (1, 0))
    sizes = f"{len(images):,} | {targets:,} | {found:,}"
    return (
        f"| {name} | {sizes} | {update:.2f} | {compute:.2f} | {found / whole:,.0f} | {ratio:.0f} |"
    )


def street_and_faces(rounds: int) -> list[str]:
    """The table of KITTI and WIDER FACE."""
    kitti = [kitti_image() for _ in range(3769)]
    wider = [wider_image() for _ in range(3226)]
    metric = KITTIAveragePrecision(CLASSES)
    faces = WIDERFaceAveragePrecision()
    return [
        HEAD,
        line("KITTI", metric, kitti, (plain_kitti_curves, 40), rounds),
        line("WIDER FACE", faces, wider, (plain_wider_curves, 100), rounds),
    ]


def coco(options: argparse.Namespace) -> list[str]:
    """The table of COCO, under its heading."""
    many = MORE_CLASSES * options.classes
    return [
        COCO_TEXT,
        "",
        COCO_HEAD,
        coco_line(options, options.classes, compare=True),
        coco_line(options, many, compare=False),
    ]


def main() -> None:
    """Measure and print the table."""
    parser = settings(__doc__, rounds=5)
    parser.add_argument("--coco", action="store_true", help="COCO's evaluator instead")
    parser.add_argument("--images", type=int, default=5000, help="of COCO")
    parser.add_argument("--detections", type=int, default=100, help="an image of COCO")
    parser.add_argument("--classes", type=int, default=80, help="of COCO")
    options = parser.parse_args()
    begin()
    found = coco(options) if options.coco else street_and_faces(options.rounds)
    measured = f"CPU time, {options.rounds} rounds, {conditions()}; medians."
    script = "benchmarks/evaluators.py" + (" --coco" if options.coco else "")
    title = ["## COCO's evaluator", "", f"    python {script} --write", ""] if options.coco else []
    publish(script, [*title, measured, "", *found], options.write)


if __name__ == "__main__":
    main()
