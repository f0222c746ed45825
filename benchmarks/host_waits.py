"""How often the host waits for the device in a training step, of every method on models it fits.

    python benchmarks/host_waits.py [--rows RetinaNet] [--operators] [--write]

No GPU is needed: a step runs on a device that computes on the CPU and counts (``counting.py``,
which says what it cannot see). A wait is an operation whose value or size the host has to know: it
idles until all that it asked for before is done, and the device idles while it catches up. A copy
from the host's ordinary memory waits in the same way. The step is the second one of a batch of 16,
forward and backward: constants that are made once are there. Whose operation it is goes by the
Python function that asked for it, where torch, ``torchvision.ops`` and torchvision's box coder and
matcher are looked through.

Imitation's masks are counted at 800 x 1344 pixels, too, on the 268,569 anchors of a Faster R-CNN's
pyramid, as for a device whose memory is not known.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from counting import AWAY, COPY, LAUNCH, WAIT, Counts, counted
from limbeck import Distillation
from limbeck.methods import (
    AT,
    CWD,
    DIST,
    DKD,
    FGD,
    HEAD,
    KD,
    LD,
    MGD,
    PKD,
    TFHEAD,
    CrossKD,
    DetectorDKD,
    FeatureCosine,
    FineGrainedImitation,
    FitNet,
    MaskedGenerative,
    Method,
    ReviewKD,
)
from limbeck.methods.fgfi import masks_of_images
from limbeck.models import (
    FCOS,
    GFL,
    SSD,
    BasicBlocks,
    Classifier,
    FasterRCNN,
    FasterRCNNC4,
    RetinaNet,
    ShuffleDet,
    YOLOv2,
)
from measuring import publish, settings

IMAGES, SIZE, CLASSES = 16, 128, 3
SMALL = BasicBlocks((1, 1, 1, 1), (8, 8, 16, 16))
WIDE = BasicBlocks((1, 1, 1, 1), (16, 16, 32, 32))
PRESETS = ("torchvision", "detectron2", "mmdetection")
# Fresh detectors propose next to nothing: what is counted goes by the images, not by the boxes.
RETINANET: dict[str, Any] = {"fpn_channels": 32, "head_depth": 1}
FASTER: dict[str, Any] = {"fpn_channels": 32, "box_head_channels": 16}
BOX_HEADS: dict[str, Any] = {"DetectorDKD": (DetectorDKD, None)}  # methods of two-stage detectors
TABLE = """\
| student | method | waits | copies | of both, limbeck's own | beyond the plain step | launches |
|---|---|---|---|---|---|---|"""

MASKS = """\
| imitation masks of 16 images, 800 x 1344 | waits | copies | launches |
|---|---|---|---|"""

Build = Callable[[], nn.Module]
# What makes a method, by name, and a teacher of its own where it needs another one than its row's.
Methods = dict[str, tuple[Callable[[], Method], Build | None]]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        student: what builds the student.
        teacher: what builds the teacher of the methods that need one.
        methods: the methods that fit.
    """

    student: Build
    teacher: Build
    methods: Methods


def on_maps(*places: str) -> Methods:
    """The methods that compare the maps of any two models."""
    return {
        "AT": (partial(AT, places), None),
        "CWD": (partial(CWD, places), None),
        "FeatureCosine": (partial(FeatureCosine, places), None),
        "FitNet": (partial(FitNet, places, adapter="conv"), None),
        "MaskedGenerative": (partial(MaskedGenerative, places), None),
        "PKD": (partial(PKD, places, adapter="conv"), None),
        "ReviewKD": (partial(ReviewKD, places), None),
    }


def on_boxes(*places: str) -> Methods:
    """The methods that need boxes beside maps; imitation takes those that have anchors."""
    return {"FGD": (partial(FGD, places), None), "imitation": (FineGrainedImitation, None)}


def rows() -> dict[str, Row]:
    """Every model with the methods that fit."""
    matching: Methods = {"MGD": (partial(MGD, ["C4", "C5"], norm="batch"), None)}
    logits: Methods = {"DIST": (DIST, None), "DKD": (DKD, None), "KD": (KD, None)}
    found = {
        "Classifier": Row(
            partial(Classifier, SMALL, CLASSES),
            partial(Classifier, WIDE, CLASSES),
            matching | logits | on_maps("C3", "C4", "C5"),
        )
    }
    crossed: Methods = {"CrossKD": (CrossKD, None)}
    pyramid = matching | on_maps("fpn") | on_boxes("fpn")
    for preset in PRESETS:
        dense = partial(RetinaNet, num_classes=CLASSES, preset=preset, **RETINANET)
        staged = partial(FasterRCNN, num_classes=CLASSES, preset=preset, **FASTER)
        head: Methods = {"HEAD": (HEAD, partial(staged, WIDE))}
        free: Methods = {"TF-HEAD": (partial(TFHEAD, 1.0, 1.0, box_head_channels=16), None)}
        found[f"RetinaNet, {preset}"] = Row(
            partial(dense, SMALL), partial(dense, WIDE), pyramid | head | free | crossed
        )
        mirrored: Methods = {"HEAD": (HEAD, partial(dense, WIDE))}
        found[f"FasterRCNN, {preset}"] = Row(
            partial(staged, SMALL), partial(staged, WIDE), pyramid | mirrored | BOX_HEADS
        )
    fcos = partial(FCOS, num_classes=CLASSES, **RETINANET)
    found["FCOS"] = Row(partial(fcos, SMALL), partial(fcos, WIDE), pyramid | crossed)
    gfl = partial(GFL, num_classes=CLASSES, **RETINANET)
    distilled = pyramid | crossed | {"LD": (LD, None)}
    found["GFL"] = Row(partial(gfl, SMALL), partial(gfl, WIDE), distilled)
    for preset in ("torchvision", "detectron2", "fgfi"):
        build = partial(
            FasterRCNNC4, num_classes=CLASSES, preset=preset, anchor_sizes=[[16, 32, 64]]
        )
        found[f"FasterRCNNC4, {preset}"] = Row(
            partial(build, SMALL), partial(build, WIDE), on_maps("C4") | on_boxes("C4") | BOX_HEADS
        )
    maps = on_maps("maps") | on_boxes("maps")
    ssd = partial(SSD, num_classes=CLASSES, levels=(3, 7), image_size=(SIZE, SIZE))
    found["SSD"] = Row(partial(ssd, SMALL), partial(ssd, WIDE), matching | maps)
    for name, build, student, teacher in (
        ("ShuffleDet", ShuffleDet, 0.25, 0.5),
        ("YOLOv2", YOLOv2, 0.05, 0.1),
    ):
        of = partial(build, num_classes=CLASSES, image_size=(SIZE, SIZE))
        found[name] = Row(partial(of, student), partial(of, teacher), maps)
    return found


def batch(detects: bool) -> tuple[Any, Any]:
    """Images of one size, with none to three boxes each."""
    images = torch.rand(IMAGES, 3, SIZE, SIZE)
    if not detects:
        return images, torch.arange(IMAGES) % CLASSES
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 8.0, 90.0, 76.0], [60.0, 60.0, 120, 110]])
    labels = torch.tensor([1, 2, 3])
    counts = [(1 + number) % 4 for number in range(IMAGES)]
    return list(images), [{"boxes": boxes[:n] + 1, "labels": labels[:n]} for n in counts]


def moved(value: Any) -> Any:
    """A batch on the device."""
    if isinstance(value, Tensor):
        return value.to(AWAY)
    if isinstance(value, dict):
        return {name: moved(item) for name, item in value.items()}
    return type(value)(moved(item) for item in value)


def pair_of(row: Row, method: str) -> Distillation:
    """The student of a row with one of its methods, or ``plain``."""
    torch.manual_seed(0)
    if method == "plain":
        return Distillation(row.student()).train()
    make, teacher = row.methods[method]
    pair = Distillation(row.student(), (teacher or row.teacher)(), {"it": make()})
    if pair.method("it").calibration is not None:
        pair.observe(*batch(not isinstance(pair.student, Classifier)))
        pair.solve()
    return pair.train()


def step(pair: Distillation) -> tuple[Counts, float]:
    """What one step asks for, and its total loss."""
    torch.manual_seed(0)
    images, targets = batch(not isinstance(pair.student, Classifier))
    with counted() as counts:
        pair = pair.to(AWAY)
        images, targets = moved(images), moved(targets)
        pair(images, targets)  # after which constants are there
        counts.of.clear()
        total = pair(images, targets).total
        total.backward()
        return Counts(counts.of.copy()), float(total.detach())


def counts_of(row: Row) -> Iterator[tuple[str, Counts]]:
    """The plain step, then every method."""
    for method in ("plain", *sorted(row.methods, key=str.lower)):
        yield method, step(pair_of(row, method))[0]


def line(name: str, method: str, counts: Counts, plain: int) -> str:
    """A line of the table."""
    both = counts.total(WAIT, COPY)
    cells = [
        name,
        method,
        counts.total(WAIT),
        counts.total(COPY),
        counts.total(WAIT, COPY, owner="limbeck"),
        "-" if method == "plain" else both - plain,
        counts.total(LAUNCH),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def masks(boxes: int) -> Counts:
    """What the imitation masks of a batch ask for, on the pyramid of a Faster R-CNN."""
    extent, levels = (800, 1344), range(2, 7)
    model = FasterRCNN(SMALL, CLASSES, **FASTER)
    grids = [(math.ceil(extent[0] / 2**k), math.ceil(extent[1] / 2**k)) for k in levels]
    maps = [torch.zeros(1, 1, *grid) for grid in grids]
    images = ImageList(torch.zeros(1, 3, *extent), [extent])
    (anchors,) = model.rpn.anchor_generator(images, maps)
    corner = torch.rand(IMAGES, boxes, 2) * 600
    truth = torch.cat([corner, corner + 16 + torch.rand(IMAGES, boxes, 2) * 300], dim=2)
    counts_at_levels = [3 * height * width for height, width in grids]
    with counted() as counts:
        of_levels = list(torch.split(anchors.to(AWAY), counts_at_levels))
        away = list(truth.to(AWAY).unbind())
        counts.of.clear()
        masks_of_images(of_levels, grids, away)
        return Counts(counts.of.copy())


def mask_lines() -> Iterator[str]:
    """One line for each number of boxes in an image."""
    for boxes in (7, 20, 60):
        counts = masks(boxes)
        cells = (f"{boxes} boxes each", *(counts.total(kind) for kind in (WAIT, COPY, LAUNCH)))
        yield f"| {' | '.join(map(str, cells))} |"


def table(beginning: str, operators: bool) -> Iterator[str]:
    """The tables, line by line."""
    yield (
        f"The second step of {IMAGES} x {SIZE} px, forward and backward, torch "
        f"{torch.__version__}.\n\n{TABLE}"
    )
    for name, row in rows().items():
        if not name.startswith(beginning):
            continue
        plain = 0
        for method, counts in counts_of(row):
            plain = counts.total(WAIT, COPY) if method == "plain" else plain
            yield line(name, method, counts, plain)
            if operators:
                for asked, number in counts.of.most_common():
                    if asked.kind != LAUNCH:
                        yield f"    {number:4} {asked.kind} {asked.operator} of {asked.owner}"
    if not beginning:
        yield f"\n{MASKS}"
        yield from mask_lines()


def main() -> None:
    """Count and print the table."""
    parser = settings(__doc__)
    parser.add_argument("--rows", default="", help="those alone whose student's name begins so")
    parser.add_argument("--operators", action="store_true", help="what is waited for, by operator")
    options = parser.parse_args()
    publish("benchmarks/host_waits.py", table(options.rows, options.operators), options.write)


if __name__ == "__main__":
    main()
