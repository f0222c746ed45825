"""What a distillation step costs, against the least that it can cost.

    python benchmarks/step_ratio.py [--rounds 30] [--rows kd hint] [--write]

R = distillation step / (plain student step + the part of the teacher's forward that the method
needs, under inference_mode). 1.00 is the floor of a sequential implementation. The variants of a
row run in random order, round by round, on one thread; R is the median of the rounds' ratios, with
quartiles. "By hand" is the same step written without limbeck, for that pair only.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from by_hand import Compared, Maps, cosine_distance
from limbeck import Distillation
from limbeck.frame import network_frame
from limbeck.methods import KD, FeatureCosine, FitNet
from limbeck.models import FeatureTeacher
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

CLASSES = 100
# Makes a method by hand, of the maps of the student and of the teacher.
MakeByHand = Callable[[Maps, Maps], nn.Module]
LAYERS = ("layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: pair and method.
        step: the distillation step.
        floor: what it cannot do without; their times are added.
        hand: the same step without limbeck, or None.
    """

    name: str
    step: Step
    floor: tuple[Step, ...]
    hand: Step | None = None

    @property
    def variants(self) -> list[Step]:
        """Everything that is timed."""
        return [self.step, *self.floor, *([self.hand] if self.hand else [])]


def training_step(parameters: list[nn.Parameter], loss: Callable[[], Tensor]) -> Step:
    """Forward, backward and SGD with momentum."""
    optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9)

    def step() -> None:
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def inference(forward: Callable[[], object]) -> Step:
    """A forward pass that keeps nothing."""

    def step() -> None:
        with torch.inference_mode():
            forward()

    return step


# -- classification -------------------------------------------------------------------------------


def classifier(name: str) -> nn.Module:
    """A torchvision classifier with fresh weights."""
    return torchvision.models.get_model(name, weights=None, num_classes=CLASSES)


def trunk(network: nn.Module, images: Tensor) -> list[Tensor]:
    """C3, C4 and C5 of a ResNet, by hand."""
    x = network.maxpool(network.relu(network.bn1(network.conv1(images))))
    levels = []
    for name in LAYERS:
        x = getattr(network, name)(x)
        levels.append(x)
    return levels[1:]


def logits_of(network: nn.Module, top: Tensor) -> Tensor:
    """The rest of a ResNet, by hand."""
    return network.fc(network.avgpool(top).flatten(1))


def plain(images: Tensor, labels: Tensor) -> Step:
    """The student's step without a teacher."""
    student = classifier("resnet18").train()
    return training_step(
        list(student.parameters()), lambda: F.cross_entropy(student(images), labels)
    )


def distilled(pair: Distillation, images: object, targets: object) -> Step:
    """Limbeck's step."""
    pair.train()
    return training_step(pair.trainable_parameters(), lambda: pair(images, targets).total)


def hint_by_hand(adapted: bool) -> MakeByHand:
    """Mean squared errors of maps, behind 1x1 adapters or as they are."""
    return partial(Compared, F.mse_loss, adapted=adapted)


def kd_by_hand(teacher: nn.Module, images: Tensor, labels: Tensor) -> Step:
    """Soft labels, for this pair only."""
    student = classifier("resnet18").train()

    def loss() -> Tensor:
        with torch.no_grad():
            soft = teacher(images)
        logits = student(images)
        p, q = F.log_softmax(soft / 4, 1), F.log_softmax(logits / 4, 1)
        kl = F.kl_div(q, p, reduction="batchmean", log_target=True)
        return F.cross_entropy(logits, labels) + 16 * kl

    return training_step(list(student.parameters()), loss)


def hints_by_hand(
    teacher: nn.Module, images: Tensor, labels: Tensor, make: MakeByHand, weight: float = 1.0
) -> Step:
    """What a method by hand makes of C3, C4 and C5, for ResNets only."""
    student = classifier("resnet18").train()
    method = make(trunk(student, images[:1]), trunk(teacher, images[:1]))

    def loss() -> Tensor:
        with torch.no_grad():
            hints = trunk(teacher, images)
        guided = trunk(student, images)
        total = F.cross_entropy(logits_of(student, guided[-1]), labels)
        return total + weight * method(guided, hints, labels)

    return training_step([*student.parameters(), *method.parameters()], loss)


def classification_rows(size: int, batch: int) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Rows by the names that ``--rows`` takes; built when their turn comes."""
    images, labels = torch.rand(batch, 3, size, size), torch.randint(CLASSES, (batch,))
    levels = ["C3", "C4", "C5"]

    def noise() -> Row:
        return Row("plain R18 against itself", plain(images, labels), (plain(images, labels),))

    def kd() -> Row:
        teacher = classifier("resnet50").eval()
        pair = Distillation(classifier("resnet18"), teacher, [KD()])
        return Row(
            "KD on logits, R50 -> R18",
            distilled(pair, images, labels),
            (plain(images, labels), inference(lambda: teacher(images))),
            kd_by_hand(teacher, images, labels),
        )

    def hint(name: str, adapter: str) -> Row:
        teacher = classifier(name).eval()
        method = FitNet(levels, adapter=adapter)
        return Row(
            f"FitNet C3 to C5, {name} -> resnet18, adapters: {adapter}",
            distilled(Distillation(classifier("resnet18"), teacher, [method]), images, labels),
            (plain(images, labels), inference(lambda: trunk(teacher, images))),
            hints_by_hand(teacher, images, labels, hint_by_hand(adapter == "conv")),
        )

    yield "noise", noise
    yield "kd", kd
    yield "hint", partial(hint, "resnet34", "none")
    yield "adapters", partial(hint, "resnet50", "conv")


# -- detection ------------------------------------------------------------------------------------


def retinanet(name: str) -> RetinaNet:
    """Torchvision's RetinaNet on any of its ResNets, with fresh weights."""
    network = torchvision.models.get_model(name, weights=None)
    top = LastLevelP6P7(256, 256)
    backbone = _resnet_fpn_extractor(network, 5, returned_layers=[2, 3, 4], extra_blocks=top)
    return RetinaNet(backbone, CLASSES)


def detection_by_hand(
    teacher: RetinaNet, images: list[Tensor], targets: list, make: MakeByHand, weight: float = 1.0
) -> Step:
    """What a method by hand makes of the maps of the FPN, for RetinaNets only."""
    student = retinanet("resnet18").train()
    with torch.no_grad():
        method = make(*(pyramid(model, normalised(model, images)) for model in (student, teacher)))

    def loss() -> Tensor:
        with torch.no_grad():
            hints = pyramid(teacher, normalised(teacher, images))
        framed, boxes = normalised(student, images, targets)
        levels = pyramid(student, (framed, boxes))
        total = sum(dense_losses(student, framed, levels, boxes).values())
        return total + weight * method(levels, hints, boxes)

    return training_step([*student.parameters(), *method.parameters()], loss)


def pyramid(model: RetinaNet, seen: tuple) -> list[Tensor]:
    """The maps of the FPN for a batch as the network sees it, the finest first."""
    return list(model.backbone(seen[0].tensors).values())


def normalised(model: RetinaNet, images: list[Tensor], targets: list | None = None) -> tuple:
    """A batch as the network sees it, not resized."""
    with network_frame(model):
        return model.transform(images, targets)


def dense_losses(model: RetinaNet, framed: object, levels: list[Tensor], boxes: list) -> Mapping:
    """What a RetinaNet does after its FPN in training."""
    return model.compute_loss(boxes, model.head(levels), model.anchor_generator(framed, levels))


def detection_batch(size: int, batch: int) -> tuple[list[Tensor], list]:
    """Images with two boxes each."""
    images = list(torch.rand(batch, 3, size, size))
    box = torch.tensor([[10.0, 20.0, 90.0, 120.0], [60.0, 40.0, 200.0, 180.0]]) * size / 256
    return images, [{"boxes": box, "labels": torch.tensor([1, 7])} for _ in images]


def plain_detector(images: list[Tensor], targets: list) -> Step:
    """The student's step without a teacher."""
    student = retinanet("resnet18").train()

    def loss() -> Tensor:
        with network_frame(student):
            return sum(student(images, targets).values())

    return training_step(list(student.parameters()), loss)


def detection_rows(size: int, batch: int) -> Iterator[tuple[str, Callable[[], Row]]]:
    """Rows by the names that ``--rows`` takes."""
    images, targets = detection_batch(size, batch)

    def fpn(adapter: str) -> Row:
        teacher = retinanet("resnet50").eval()
        pair = Distillation(retinanet("resnet18"), teacher, [FitNet(["fpn"], adapter=adapter)])
        return Row(
            f"FitNet on the FPN, RetinaNet R50 -> R18, adapters: {adapter}",
            distilled(pair, images, targets),
            (
                plain_detector(images, targets),
                inference(lambda: pyramid(teacher, normalised(teacher, images))),
            ),
            detection_by_hand(teacher, images, targets, hint_by_hand(adapter == "conv")),
        )

    def transformers() -> Row:
        # Imported here: they need a library that limbeck is installed without.
        from transformer_rows import detector, encoded, pair_of, plain_loss, taught_loss

        teacher = detector("ResNet-34", size).eval()
        by_hand, plainly, ours = (detector("ResNet-18", size).train() for _ in range(3))
        parameters = list(by_hand.parameters())
        alone = taught_loss(by_hand.network, teacher.network, images, targets, 1.0)
        return Row(
            "FitNet on the encoder's maps, RT-DETR R34 -> R18, adapters: none",
            distilled(pair_of(ours, teacher, 1.0), images, targets),
            (
                training_step(
                    list(plainly.parameters()), plain_loss(plainly.network, images, targets)
                ),
                inference(lambda: encoded(teacher.network, torch.stack(images))),
            ),
            training_step(parameters, alone),
        )

    def directions() -> Row:
        network = timm.create_model("vit_small_patch16_dinov3", num_classes=0).eval()
        teacher = FeatureTeacher(network)
        method = FeatureCosine({"P4": "grid"})
        return Row(
            "FeatureCosine on P4, DINOv3's ViT-S/16 -> RetinaNet R18",
            distilled(Distillation(retinanet("resnet18"), teacher, [method]), images, targets),
            (plain_detector(images, targets), inference(lambda: tokens(network, images))),
            directions_by_hand(network, images, targets),
        )

    yield "vit", directions
    yield "fpn", partial(fpn, "none")
    yield "fpn-adapters", partial(fpn, "conv")
    yield "transformers", transformers


def tokens(network: nn.Module, images: list[Tensor]) -> Tensor:
    """The map of a vision transformer of timm, by hand, for images of one size."""
    mean, std = (
        torch.tensor(network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std")
    )
    found = network.forward_features((torch.stack(images) - mean) / std)
    grid = (images[0].shape[-2] // 16, images[0].shape[-1] // 16)
    return found[:, network.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)


def directions_by_hand(network: nn.Module, images: list[Tensor], targets: list) -> Step:
    """The cosine of P4 and the tokens, for this pair only."""
    student = retinanet("resnet18").train()
    project = nn.Conv2d(256, network.embed_dim, 1)

    def loss() -> Tensor:
        with torch.no_grad():
            hint = tokens(network, images)
        framed, boxes = normalised(student, images, targets)
        levels = pyramid(student, (framed, boxes))
        total = sum(dense_losses(student, framed, levels, boxes).values())
        return total + cosine_distance(project(levels[1]), hint)

    return training_step([*student.parameters(), *project.parameters()], loss)


# -- measuring ------------------------------------------------------------------------------------


def line(row: Row, rounds: int) -> str:
    """The row, measured: R, R by hand, and limbeck / by hand, each by CPU and by wall time."""
    measured = interleaved(row.variants, rounds)
    cells = [
        spread(ratios(measured, over, under, clock)) if over and all(under) else "-"
        for over, under in ((row.step, row.floor), (row.hand, row.floor), (row.step, (row.hand,)))
        for clock in (CPU, WALL)
    ]
    return f"| {row.name} | {' | '.join(cells)} |"


HEAD = """\
| step | R, CPU time | R, wall | R by hand, CPU | by hand, wall | limbeck / by hand, CPU | wall |
|---|---|---|---|---|---|---|"""


def table(options: argparse.Namespace, rows: Mapping[str, Callable[[], Row]]) -> Iterator[str]:
    """The table, line by line."""
    what = f"Classification {options.batch} x {options.size} px, detection 2 x 256 px"
    yield f"{above(what, options.rounds)}\n\n{HEAD}"
    for name, make in rows.items():
        if not options.rows or name in options.rows:
            yield line(make(), options.rounds)


def main() -> None:
    """Measure and print the table."""
    parser = settings(__doc__, rounds=30)
    parser.add_argument("--size", type=int, default=160, help="classification images, pixels")
    parser.add_argument("--batch", type=int, default=8, help="classification images a step")
    parser.add_argument("--rows", nargs="*", help="only these")
    options = parser.parse_args()
    begin()
    rows = dict(classification_rows(options.size, options.batch)) | dict(detection_rows(256, 2))
    unknown = set(options.rows or ()) - set(rows)
    if unknown:
        parser.error(f"no rows {', '.join(sorted(unknown))}; there are {', '.join(rows)}")
    publish("benchmarks/step_ratio.py", table(options, rows), options.write)


if __name__ == "__main__":
    main()
