"""The pairs, batches and variants of benchmarks/gpu.py, in the order of their weight."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from limbeck import Distillation
from limbeck.methods import (
    AT,
    CWD,
    DIST,
    DKD,
    FGD,
    HEAD,
    KD,
    MGD,
    PKD,
    FineGrainedImitation,
    FitNet,
    MaskedGenerative,
    Method,
    ReviewKD,
)
from limbeck.models import Classifier, FasterRCNN, RetinaNet
from precision import BF16, FLOAT32, Variant

DETECTED, CLASSES = 80, 1000
SIZE = (800, 1344)
LAST = Variant("bf16, channels_last", BF16, last=True)
HALF = Variant("bf16", BF16)
COMPILED = Variant("compiled, bf16, channels_last", BF16, last=True, compiled=True)


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        size: The height and width of a detector's images, pixels.
        batch: The images of a detector's step.
        crop: The height and width of a classifier's images, pixels.
        crops: The images of a classifier's step.
        regions: The regions of an image that HEAD's assist takes.
    """

    size: tuple[int, int] = SIZE
    batch: int = 16
    crop: int = 224
    crops: int = 256
    regions: int = 512


@dataclass(frozen=True)
class Row:
    """One line of the first table.

    Attributes:
        name: The pair and the method.
        make: Makes the pair.
        batch: Makes the batch.
        variant: How its steps are computed.
        alone: Makes what R is measured against beside the teacher's part. None: the student alone.
    """

    name: str
    make: Callable[[], Distillation]
    batch: Callable[[], tuple]
    variant: Variant
    alone: Callable[[], Distillation] | None = None


def detection_batch(size: tuple[int, int], count: int) -> tuple:
    """Images with seven boxes each."""
    generator = torch.Generator().manual_seed(0)
    images = list(torch.rand(count, 3, *size, generator=generator))
    extent = torch.tensor([size[1], size[0]])
    corner = torch.rand(count, 7, 2, generator=generator) * 0.6 * extent
    far = corner + (0.03 + 0.3 * torch.rand(count, 7, 2, generator=generator)) * extent
    boxes = torch.cat([corner, far], dim=2)
    labels = torch.randint(1, DETECTED + 1, (count, 7), generator=generator)
    return images, [{"boxes": b, "labels": n} for b, n in zip(boxes, labels, strict=True)]


def classification_batch(size: int, count: int) -> tuple:
    """Images with a label each."""
    return torch.rand(count, 3, size, size), torch.randint(CLASSES, (count,))


def detection_pair(
    method: Method | None = None, teacher: type[nn.Module] | None = RetinaNet
) -> Distillation:
    """A RetinaNet-R18, and what teaches it."""
    student = RetinaNet("resnet18", DETECTED)
    if method is None:
        return Distillation(student)
    model = None if teacher is None else teacher("resnet50", DETECTED)
    return Distillation(student, model, {"it": method})


def two_stage_pair(method: Method | None = None) -> Distillation:
    """A Faster R-CNN-R18, and what teaches it."""
    student = FasterRCNN("resnet18", DETECTED)
    if method is None:
        return Distillation(student)
    return Distillation(student, FasterRCNN("resnet50", DETECTED), {"it": method})


def classifiers(*methods: Method) -> Distillation:
    """A ResNet-18, and what teaches it."""
    teacher = Classifier("resnet50", CLASSES) if methods else None
    return Distillation(Classifier("resnet18", CLASSES), teacher, methods)


def rows(scale: Scale) -> Iterator[Row]:
    """The rows of the first table, in the order of their weight."""
    # A fresh teacher's maps are large: at a weight of any size the student would diverge.
    methods = {
        "plain": detection_pair,
        "FitNet on P3 to P7": lambda: detection_pair(FitNet(["fpn"], weight=1e-6)),
        "imitation": lambda: detection_pair(FineGrainedImitation(weight=1e-9)),
        "HEAD": lambda: detection_pair(HEAD(akd=1e-6, ckd=1e-6, samples=scale.regions), FasterRCNN),
        "MGD on C3 to C5": lambda: detection_pair(
            MGD(["C3.pre", "C4.pre", "C5.pre"], stage_weights=[1e-9] * 3)
        ),
    }

    def assist() -> Distillation:
        return detection_pair(HEAD(akd=None, ckd=None, samples=scale.regions), None)

    for variant, batch in (
        (LAST, scale.batch),
        (FLOAT32, scale.batch),
        (LAST, 2 * scale.batch),
        (HALF, scale.batch),
    ):
        for name, make in methods.items():
            images = partial(detection_batch, scale.size, batch)
            alone = assist if name == "HEAD" else None
            yield Row(f"RetinaNet R50 to R18, {name}, batch {batch}", make, images, variant, alone)
    modern = {
        "AT": AT(["fpn"], weight=1e-6),
        "CWD": CWD(["fpn"], weight=1e-6),
        "FGD": FGD(["fpn"], weight=1e-6),
        "MaskedGenerative": MaskedGenerative(["fpn"], weight=1e-9),
        "PKD": PKD(["fpn"], weight=1e-6),
        "ReviewKD": ReviewKD(["fpn"], weight=1e-6),
    }
    crops = partial(classification_batch, scale.crop, scale.crops)
    images = partial(detection_batch, scale.size, scale.batch)
    for variant in (LAST, FLOAT32):
        yield Row(
            f"ResNet-50 to 18, KD, batch {scale.crops}", lambda: classifiers(KD()), crops, variant
        )
        yield Row(
            f"ResNet-50 to 18, FitNet C3 to C5, batch {scale.crops}",
            lambda: classifiers(FitNet(["C3", "C4", "C5"], weight=1e-6)),
            crops,
            variant,
        )
        yield Row(
            f"Faster R-CNN R50 to R18, imitation, batch {scale.batch}",
            lambda: two_stage_pair(FineGrainedImitation(weight=1e-9)),
            images,
            variant,
        )
    for name, method in modern.items():
        make = partial(detection_pair, method)
        name = f"RetinaNet R50 to R18, {name} on P3 to P7, batch {scale.batch}"
        yield Row(name, make, images, LAST)
    for method in (DIST(), DKD(), ReviewKD(weight=1e-6)):
        name = f"ResNet-50 to 18, {type(method).__name__}, batch {scale.crops}"
        yield Row(name, partial(classifiers, method), crops, LAST)
    name = f"RetinaNet R50 to R18, FitNet on P3 to P7, batch {scale.batch}"
    yield Row(name, methods["FitNet on P3 to P7"], images, COMPILED)
