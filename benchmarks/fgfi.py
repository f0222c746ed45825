"""What fine-grained imitation costs: its masks against the published procedure, and a step.

    python benchmarks/fgfi.py [--rounds 10] [--write]

Masks are of one image with 20 boxes. "Published" is the original's procedure, rewritten from what
its code does: the IoU of all anchors and boxes in the +1 convention, over coordinates expanded
to (anchors, boxes); twice, once for each box's best and once for the mask; then a loop over the
boxes. ``box_iou`` is the same mask from torchvision's IoU, vectorised.

R = step of imitation / (plain step of the student + the teacher's backbone under inference_mode).
Adapters, masks and the loss are what is above 1. "Whole adapter" is the same step with the adapter
on the whole map, as the original has it.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import copy
import statistics
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import box_iou

from limbeck import Distillation
from limbeck.frame import network_frame
from limbeck.landmarks import landmarks
from limbeck.methods import FineGrainedImitation
from limbeck.methods.fgfi import imitation_masks
from limbeck.models import FasterRCNN, FasterRCNNC4, ShuffleDet, YOLOv2
from limbeck.models.detection.detector import Detector
from limbeck.taps import Taps
from measuring import (
    CPU,
    WALL,
    Step,
    above,
    begin,
    interleaved,
    publish,
    ratios,
    settings,
    spread,
)
from step_ratio import distilled, inference

CLASSES = 20
MASKS = """\
| masks of one image, 20 boxes | CPU ms | published / ours | box_iou / ours |
|---|---|---|---|"""
STEPS = """\
| step | CPU s | R, CPU time | R, wall | / plain | whole adapter / ours |
|---|---|---|---|---|---|"""


class WholeAdapter(FineGrainedImitation):
    """Imitation whose adapter computes what the mask then hides, too."""

    def _adapted(self, level: str, feature: Tensor, where: tuple[Tensor, ...]) -> Tensor:
        image, row, column = where
        return self.adapters[level.replace(".", "_")](feature)[image, :, row, column]


def published_mask(anchors: Tensor, grid: tuple[int, int], boxes: Tensor) -> Tensor:
    """The mask of one level, as the original finds it."""

    def overlaps() -> Tensor:
        count, number = len(anchors), len(boxes)
        ours = anchors[:, None].expand(count, number, 4)
        theirs = boxes[None].expand(count, number, 4)
        areas = [(b[..., 2] - b[..., 0] + 1) * (b[..., 3] - b[..., 1] + 1) for b in (ours, theirs)]
        upper, lower = torch.min(ours, theirs), torch.max(ours, theirs)
        width = (upper[..., 2] - lower[..., 0] + 1).clamp(min=0)
        height = (upper[..., 3] - lower[..., 1] + 1).clamp(min=0)
        return width * height / (areas[0] + areas[1] - width * height)

    best = overlaps().amax(dim=0)
    iou = overlaps().view(*grid, -1, len(boxes))
    mask = torch.zeros(grid, dtype=torch.long)
    for number in range(len(boxes)):
        mask += (iou[..., number] > 0.5 * best[number].item()).sum(dim=2)
    return mask > 0


def box_iou_mask(anchors: Tensor, grid: tuple[int, int], boxes: Tensor) -> Tensor:
    """The same by torchvision's IoU."""
    iou = box_iou(boxes, anchors)
    near = iou > 0.5 * iou.amax(dim=1, keepdim=True)
    return near.view(len(boxes), *grid, -1).any(dim=3).any(dim=0)


def anchors_and_grids(model: Detector, size: tuple[int, int]) -> tuple[list[Tensor], list]:
    """Of every level, for an image of that size."""
    taps = Taps(model.eval(), {name: landmarks(model)[name] for name in ("anchors", "maps")})
    with torch.no_grad(), network_frame(model):
        seen = taps.learn(lambda: model([torch.rand(3, *size)]))
    taps.close()
    return seen["anchors"][0], [tuple(level.shape[-2:]) for level in seen["maps"]]


def boxes_in(size: tuple[int, int], count: int) -> Tensor:
    """Random boxes (count, 4)."""
    height, width = size
    corner = torch.rand(count, 2) * torch.tensor([width, height]) * 0.6
    return torch.cat([corner, corner + 16 + torch.rand(count, 2) * min(size) * 0.4], dim=1)


def mask_lines(rounds: int) -> Iterator[str]:
    """One row without a pyramid, one with."""
    c4 = FasterRCNNC4("resnet18", CLASSES, preset="fgfi"), (600, 1000)
    fpn = FasterRCNN("resnet18", CLASSES), (800, 1344)
    for name, (model, size) in {"one map, 600 x 1000": c4, "FPN, 800 x 1344": fpn}.items():
        anchors, grids = anchors_and_grids(model, size)
        boxes = boxes_in(size, 20)

        def level_by_level(mask: object, places=(anchors, grids), boxes=boxes) -> None:
            for of_level, grid in zip(*places, strict=True):
                mask(of_level, grid, boxes)

        ours = partial(imitation_masks, anchors, grids, boxes)
        published, iou = (partial(level_by_level, m) for m in (published_mask, box_iou_mask))
        measured = interleaved([ours, published, iou], rounds)
        milliseconds = 1000 * statistics.median(times[ours][CPU] for times in measured)
        cells = [spread(ratios(measured, step, [ours], CPU)) for step in (published, iou)]
        count = sum(map(len, anchors))
        yield f"| {name}, {count} anchors | {milliseconds:.2f} | {' | '.join(cells)} |"


def backbone_of(teacher: Detector, images: list[Tensor]) -> Step:
    """The part of the teacher that imitation needs."""

    def features() -> None:
        with network_frame(teacher):
            teacher.backbone(teacher.transform(images)[0].tensors)

    return inference(features)


def step_lines(batch: int, size: int, rounds: int) -> Iterator[str]:
    """The published pairs, and one with a pyramid."""
    square, wide = (size, size), (size // 2 // 32 * 32, size * 3 // 2 // 32 * 32)
    pairs = {
        "VGG16 to VGG11, Faster R-CNN": (
            partial(FasterRCNNC4, "vgg11", CLASSES, preset="fgfi", frozen_stages=3),
            FasterRCNNC4("vgg16", CLASSES, preset="fgfi"),
            square,
        ),
        "R50-FPN to R18-FPN, Faster R-CNN": (
            partial(FasterRCNN, "resnet18", CLASSES, frozen_stages=2, norm="trained"),
            FasterRCNN("resnet50", CLASSES),
            square,
        ),
        "1x to 0.5x, ShuffleDet": (
            partial(ShuffleDet, 0.5, CLASSES),
            ShuffleDet(1.0, CLASSES),
            wide,
        ),
        "1x to 0.25x, YOLOv2": (
            partial(YOLOv2, 0.25, CLASSES),
            YOLOv2(1.0, CLASSES),
            square,
        ),
    }
    for name, (build, teacher, extent) in pairs.items():
        images = list(torch.rand(batch, 3, *extent))
        labels = torch.arange(1, 6)
        targets = [{"boxes": boxes_in(extent, 5), "labels": labels} for _ in images]
        student = build()  # its proposals, and so the work, are those of its fresh weights
        plain = distilled(Distillation(copy.deepcopy(student)), images, targets)
        # The fresh teacher's maps are large: at a weight of any size the student would diverge.
        step, whole = (
            distilled(
                Distillation(copy.deepcopy(student), teacher, [kind(weight=1e-9)]), images, targets
            )
            for kind in (FineGrainedImitation, WholeAdapter)
        )
        needed = backbone_of(teacher.eval(), images)
        measured = interleaved([step, whole, plain, needed], rounds)
        cells = [spread(ratios(measured, step, [plain, needed], clock)) for clock in (CPU, WALL)]
        cells += [
            spread(ratios(measured, of, [by], CPU)) for of, by in ((step, plain), (whole, step))
        ]
        seconds = statistics.median(times[step][CPU] for times in measured)
        yield f"| {name} | {seconds:.2f} | {' | '.join(cells)} |"


def tables(options: argparse.Namespace) -> Iterator[str]:
    """Both tables, line by line."""
    yield above(f"Steps of {options.batch} x {options.size} px", options.rounds)
    yield f"\n{MASKS}"
    yield from mask_lines(options.rounds)
    yield f"\n{STEPS}"
    yield from step_lines(options.batch, options.size, options.rounds)


def main() -> None:
    """Measure and print both tables."""
    parser = settings(__doc__, rounds=10)
    parser.add_argument("--batch", type=int, default=2, help="images a step")
    parser.add_argument("--size", type=int, default=384, help="their height and width, pixels")
    options = parser.parse_args()
    begin()
    publish("benchmarks/fgfi.py", tables(options), options.write)


if __name__ == "__main__":
    main()
