"""What a step of HEAD costs, against the parts that it cannot do without.

    python benchmarks/head.py [--rounds 10] [--write]

R = step of HEAD / (step of RetinaNet and assist without a teacher + the teacher's backbone, neck
and two fully connected layers under inference_mode, of equally many regions). Adapters, losses and
the teacher's pooling are what is above 1; with its pooling the teacher's part is "+ pooling".
RetinaNet-R18, Faster R-CNN-R50, 80 classes, 512 regions an image, fresh weights.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import statistics
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from limbeck import Distillation
from limbeck.frame import network_frame
from limbeck.methods import HEAD, TFHEAD, Method
from limbeck.methods.head.assist import hidden_layers
from limbeck.models import FasterRCNN, RetinaNet
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

CLASSES = 80
TABLE = """\
| step | CPU s | R, CPU time | R, wall | R + pooling, CPU | / assist alone, CPU | / RetinaNet |
|---|---|---|---|---|---|---|"""


def student_of(methods: dict[str, Method], teacher: nn.Module | None = None) -> Distillation:
    """A new RetinaNet-R18 with these methods."""
    student = RetinaNet("resnet18", CLASSES, preset="mmdetection", norm="affine", frozen_stages=2)
    return Distillation(student, teacher, methods)


def regions_of(size: int, count: int) -> Tensor:
    """Random boxes (count, 4)."""
    corner = torch.rand(count, 2) * size * 0.6
    return torch.cat([corner, corner + 8 + torch.rand(count, 2) * size * 0.3], dim=1)


def teacher_parts(teacher: FasterRCNN, images: list[Tensor], samples: int) -> tuple[Step, Step]:
    """The teacher's backbone, neck and fully connected layers; and those with its pooling."""
    size = images[0].shape[-1]
    boxes = [regions_of(size, samples) for _ in images]
    heads = teacher.roi_heads
    pooled = torch.rand(samples * len(images), teacher.backbone.out_channels, 7, 7)

    def features() -> dict[str, Tensor]:
        with network_frame(teacher):
            return teacher.backbone(teacher.transform(images)[0].tensors)

    def without() -> None:
        features()
        hidden_layers(heads.box_head, pooled)

    def whole() -> None:
        found = heads.box_roi_pool(features(), boxes, [(size, size)] * len(images))
        hidden_layers(heads.box_head, found)

    return inference(without), inference(whole)


def lines(batch: int, size: int, samples: int, rounds: int) -> Iterator[str]:
    """The table, line by line."""
    images = list(torch.rand(batch, 3, size, size))
    box = torch.tensor([[10.0, 20.0, 90.0, 120.0], [60.0, 40.0, 200.0, 180.0]]) * size / 256
    targets = [{"boxes": box, "labels": torch.tensor([1, 7])} for _ in images]
    teacher = FasterRCNN("resnet50", CLASSES, preset="mmdetection").eval()
    pairs = {
        "RetinaNet": student_of({}),
        "assist": student_of({"it": HEAD(akd=None, ckd=None, samples=samples)}),
        "HEAD": student_of({"it": HEAD(samples=samples)}, teacher),
        "TF-HEAD, R-CNN assist": student_of({"it": TFHEAD(samples=samples)}),
    }
    steps = {name: distilled(pair, images, targets) for name, pair in pairs.items()}
    without, whole = teacher_parts(teacher, images, samples)
    measured = interleaved([*steps.values(), without, whole], rounds)
    alone = steps["assist"]
    floors = {
        "assist": ((), ()),
        "HEAD": ((alone, without), (alone, whole)),
        "TF-HEAD, R-CNN assist": ((alone,), (alone,)),
    }
    what = f"Steps of {batch} x {size} px, {samples} regions an image"
    yield f"{above(what, rounds)}\n\n{TABLE}"
    for name, (floor, pooling) in floors.items():
        step = steps[name]
        cells = [
            spread(ratios(measured, step, under, clock)) if under else "-"
            for under, clock in ((floor, CPU), (floor, WALL), (pooling, CPU), ((alone,), CPU))
        ]
        plain = spread(ratios(measured, step, [steps["RetinaNet"]], CPU))
        seconds = statistics.median(times[step][CPU] for times in measured)
        yield f"| {name} | {seconds:.3f} | {' | '.join(cells)} | {plain} |"


def main() -> None:
    """Measure and print the table."""
    parser = settings(__doc__, rounds=10)
    parser.add_argument("--batch", type=int, default=2, help="images a step")
    parser.add_argument("--size", type=int, default=256, help="their height and width, pixels")
    parser.add_argument("--samples", type=int, default=512, help="regions an image")
    options = parser.parse_args()
    begin()
    found = lines(options.batch, options.size, options.samples, options.rounds)
    publish("benchmarks/head.py", found, options.write)


if __name__ == "__main__":
    main()
