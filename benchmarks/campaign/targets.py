"""Batches of one's own loop that the documentation does not allow: refused by ``check``, by all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from campaign.results import Result
from campaign.sandbox import Child, Limits
from limbeck import Distillation, models
from limbeck.commands.errors import of_ours

SIDE, CLASSES = 64, 3
Batch = tuple[Any, Any]


def _trunk() -> Any:
    return models.BasicBlocks([1, 1, 1], [8, 8, 16])


_ANCHORS = {"levels": (3, 4), "fpn_channels": 16, "min_size": SIDE, "max_size": SIDE}
_LARGE = {"weights": None, "weights_backbone": None, "num_classes": CLASSES + 1}
_SIZES = {"min_size": SIDE, "max_size": SIDE}
_OF = torchvision.models.detection
DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "RetinaNet": lambda: models.RetinaNet(
        _trunk(), CLASSES, head_depth=1, anchor_sizes=[[14, 20], [28, 40]], **_ANCHORS
    ),
    "FasterRCNN": lambda: models.FasterRCNN(
        _trunk(), CLASSES, box_head_channels=16, anchor_sizes=[[14], [28]], **_ANCHORS
    ),
    "FasterRCNNC4": lambda: models.FasterRCNNC4(
        _trunk(), CLASSES, box_head_channels=16, anchor_sizes=[[14, 28]], **_SIZES
    ),
    "SSD": lambda: models.SSD("mobilenet_v3_large", CLASSES),
    "ShuffleDet": lambda: models.ShuffleDet(
        0.25, CLASSES, image_size=(SIDE, SIDE), anchor_shapes=[[14, 14], [30, 30]]
    ),
    "YOLOv2": lambda: models.YOLOv2(0.05, CLASSES, image_size=(SIDE, SIDE)),
    "torchvision's FCOS": lambda: _OF.fcos_resnet50_fpn(**_LARGE, **_SIZES),
    "torchvision's RetinaNet": lambda: _OF.retinanet_resnet50_fpn(**_LARGE, **_SIZES),
    "torchvision's Faster R-CNN": lambda: _OF.fasterrcnn_mobilenet_v3_large_320_fpn(
        **_LARGE, **_SIZES
    ),
    "torchvision's SSDLite": lambda: _OF.ssdlite320_mobilenet_v3_large(**_LARGE),
}


def _detection(**changes: Any) -> Batch:
    image = changes.pop("image", torch.rand(3, SIDE, SIDE))
    target = {"boxes": torch.tensor([[10.0, 10, 30, 34]]), "labels": torch.tensor([1])} | changes
    return [torch.rand(3, SIDE, SIDE), image], [_sound(), target]


def _sound() -> dict[str, Tensor]:
    return {"boxes": torch.tensor([[12.0, 8, 40, 44]]), "labels": torch.tensor([2])}


def _box(*corners: float) -> Tensor:
    return torch.tensor([corners])


NAN, INFINITE = float("nan"), float("inf")
# In the second image or target of the batch.
BATCHES: dict[str, Callable[[], Batch]] = {
    "label 0": lambda: _detection(labels=torch.tensor([0])),
    "label -1": lambda: _detection(labels=torch.tensor([-1])),
    "label K + 1": lambda: _detection(labels=torch.tensor([CLASSES + 1])),
    "label 255": lambda: _detection(labels=torch.tensor([255])),
    "labels float": lambda: _detection(labels=torch.tensor([1.0])),
    "labels bool": lambda: _detection(labels=torch.tensor([True])),
    "labels (N, 1)": lambda: _detection(labels=torch.tensor([[1]])),
    "two labels of one box": lambda: _detection(labels=torch.tensor([1, 2])),
    "a box of no width": lambda: _detection(boxes=_box(10, 10, 10, 30)),
    "a box upside down": lambda: _detection(boxes=_box(30, 34, 10, 10)),
    "a box with NaN": lambda: _detection(boxes=_box(10, 10, NAN, 30)),
    "a box that is infinite": lambda: _detection(boxes=_box(10, 10, INFINITE, 30)),
    "a box of five numbers": lambda: _detection(boxes=_box(10, 10, 30, 30, 1)),
    "boxes (4,)": lambda: _detection(boxes=torch.tensor([10.0, 10, 30, 30])),
    "boxes of int64": lambda: _detection(boxes=torch.tensor([[10, 10, 30, 30]])),
    "boxes from 0 to 1": lambda: _detection(boxes=_box(0.1, 0.1, 0.4, 0.5)),
    "a box outside of the image": lambda: _detection(boxes=_box(200, 200, 300, 300)),
    "no key boxes": lambda: (_detection()[0], [{"labels": torch.tensor([1])}, _sound()]),
    "no key labels": lambda: (_detection()[0], [{"boxes": _box(1, 1, 9, 9)}, _sound()]),
    "an image from 0 to 255": lambda: _detection(image=torch.rand(3, SIDE, SIDE) * 255),
    "an image from -1 to 1": lambda: _detection(image=torch.rand(3, SIDE, SIDE) * 2 - 1),
    "an image of uint8": lambda: _detection(image=torch.zeros(3, SIDE, SIDE, dtype=torch.uint8)),
    "an image with NaN": lambda: _detection(image=torch.full((3, SIDE, SIDE), NAN)),
    "an image of one channel": lambda: _detection(image=torch.rand(1, SIDE, SIDE)),
    "an image (H, W, 3)": lambda: _detection(image=torch.rand(SIDE, SIDE, 3)),
    "a target too few": lambda: (_detection()[0], [_sound()]),
    "no images": lambda: ([], []),
}


def _classes(labels: Any, images: Tensor | None = None) -> Batch:
    return torch.rand(4, 3, 32, 32) if images is None else images, labels


_RIGHT = torch.tensor([0, 1, 2, 1])
OF_CLASSIFIERS: dict[str, Callable[[], Batch]] = {
    "label K": lambda: _classes(torch.tensor([0, 1, 2, CLASSES])),
    "label -1": lambda: _classes(torch.tensor([0, 1, 2, -1])),
    "label -100": lambda: _classes(torch.tensor([0, 1, 2, -100])),
    "labels float": lambda: _classes(_RIGHT.float()),
    "labels of three of four": lambda: _classes(_RIGHT[:3]),
    "images from 0 to 255": lambda: _classes(_RIGHT, torch.rand(4, 3, 32, 32) * 255),
    "images of uint8": lambda: _classes(_RIGHT, torch.zeros(4, 3, 32, 32, dtype=torch.uint8)),
    "images with NaN": lambda: _classes(_RIGHT, torch.full((4, 3, 32, 32), NAN)),
    "images of one channel": lambda: _classes(_RIGHT, torch.rand(4, 1, 32, 32)),
}


def _check(make: Callable[[], nn.Module], batch: Callable[[], Batch]) -> None:
    """Print how ``check`` takes it."""
    torch.manual_seed(0)
    pair = Distillation(make())
    optimizer = torch.optim.SGD(pair.trainable_parameters(), lr=0.01)
    images, targets = batch()
    try:
        pair.check(images, targets, optimizer)
    except Exception as error:
        whose = "refused" if of_ours(error) is not None else "foreign"
        print(f"{whose} {type(error).__name__}: {' '.join(str(error).split())[:200]}")
    else:
        print("accepted")


def campaign(folder: Path, share: float, tell: Callable[[str], None]) -> Result:
    """Every detector and a classifier, with every batch.

    Args:
        folder: To work in.
        share: Of the batches that are tried.
        tell: Takes a line at a time.
    """
    result = Result("batches of one's own loop that are not allowed", point=2)
    folder.mkdir(parents=True)
    every = max(1, round(1 / share))
    classifier = {"Classifier": lambda: models.Classifier(_trunk(), CLASSES)}
    for names, batches in ((DETECTORS, BATCHES), (classifier, OF_CLASSIFIERS)):
        for number, (name, make) in enumerate(names.items()):
            if (said := _said(folder, make, _right(batches))) != "accepted":
                result.failed[f"{name}: a sound batch"] = said
            for what, batch in list(batches.items())[number % every :: every]:
                said = _said(folder, make, batch)
                result.tried += 1
                if not said.startswith("refused"):
                    result.failed[f"{name}: {what}"] = said
                    result.count([said.split()[0] if said else "crash"])
            tell(f"{name}: {sum(key.startswith(name) for key in result.failed)} not refused")
    return result


def _said(folder: Path, make: Callable[[], nn.Module], batch: Callable[[], Batch]) -> str:
    return Child((), folder, Limits(), lambda: _check(make, batch)).wait().said


def _right(batches: dict[str, Any]) -> Callable[[], Batch]:
    if batches is BATCHES:
        return lambda: ([torch.rand(3, SIDE, SIDE) for _ in range(2)], [_sound(), _sound()])
    return lambda: _classes(_RIGHT)
