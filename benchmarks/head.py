"""What a step of HEAD costs, against the parts that it cannot do without.

    python benchmarks/head.py [--rounds 10] [--write]

R = step of HEAD / (step of RetinaNet and assist without a teacher + the teacher's backbone, neck
and two fully connected layers under inference_mode, of equally many regions). The teacher's
pooling, the adapters and the losses are what is above 1. "By hand" is what those cost in a script:
the teacher's part with its pooling, and the adapters on as many regions, with a mean squared error,
forward, backward and SGD. The peak is that of a step in memory, see ``memory.py``.
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
from torch.nn import functional as F

from limbeck import Distillation
from limbeck.frame import network_frame
from limbeck.methods import HEAD, TFHEAD, Method
from limbeck.methods.head.assist import WIDTH, hidden_layers
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
from memory import peak
from step_ratio import detection_batch, distilled, inference, training_step

CLASSES = 80
TABLE = """\
| step | CPU s | R, CPU time | R, wall | / by hand, CPU time | / assist alone, CPU | / RetinaNet | \
peak, MiB |
|---|---|---|---|---|---|---|---|"""


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


def adapters_by_hand(count: int, adapters: list[nn.Linear]) -> Step:
    """Adapters of that many regions, with the squared errors that train them and what is below."""
    own = [torch.rand(count, each.in_features, requires_grad=True) for each in adapters]
    hints = [torch.rand(count, each.out_features) for each in adapters]

    def loss() -> Tensor:
        pairs = zip(adapters, own, hints, strict=True)
        return sum(F.mse_loss(adapter(feature), hint) for adapter, feature, hint in pairs)

    return training_step([p for adapter in adapters for p in adapter.parameters()], loss)


def lines(batch: int, size: int, samples: int, rounds: int) -> Iterator[str]:
    """The table, line by line."""
    images, targets = detection_batch(size, batch)
    teacher = FasterRCNN("resnet50", CLASSES, preset="mmdetection").eval()
    pairs = {
        "RetinaNet": student_of({}),
        "assist": student_of({"it": HEAD(akd=None, ckd=None, samples=samples)}),
        "HEAD": student_of({"it": HEAD(samples=samples)}, teacher),
        "TF-HEAD, R-CNN assist": student_of({"it": TFHEAD(samples=samples)}),
    }
    steps = {name: distilled(pair, images, targets) for name, pair in pairs.items()}
    without, whole = teacher_parts(teacher, images, samples)
    regions = samples * batch
    akd = [nn.Linear(WIDTH, WIDTH) for _ in range(2)]
    shared = adapters_by_hand(regions, [*akd, nn.Linear(256, WIDTH)])
    own = adapters_by_hand(regions, [nn.Linear(256, 9 * WIDTH)])  # one for each anchor of a cell
    measured = interleaved([*steps.values(), without, whole, shared, own], rounds, warm_up=1)
    alone = steps["assist"]
    floors = {
        "assist": ((), ()),
        "HEAD": ((alone, without), (alone, whole, shared)),
        "TF-HEAD, R-CNN assist": ((alone,), (alone, own)),
    }
    what = f"Steps of {batch} x {size} px, {samples} regions an image"
    yield f"{above(what, rounds)}\n\n{TABLE}"
    for name, (floor, hand) in floors.items():
        step = steps[name]
        cells = [
            spread(ratios(measured, step, under, clock)) if under else "-"
            for under, clock in ((floor, CPU), (floor, WALL), (hand, CPU), ((alone,), CPU))
        ]
        plain = spread(ratios(measured, step, [steps["RetinaNet"]], CPU))
        seconds = statistics.median(times[step][CPU] for times in measured)
        yield f"| {name} | {seconds:.3f} | {' | '.join(cells)} | {plain} | {peak(step):.0f} |"


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
