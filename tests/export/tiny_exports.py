"""A tiny detector of each family, whose random heads find something on every photograph."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from limbeck import models
from tests import tiny_detrs, tiny_libreyolos
from tests.conftest import SHARED

SIDE = 64
_TRUNK = models.BasicBlocks(depths=(1, 1, 1, 1), widths=(8, 8, 16, 16))
_SHARED: dict[str, Any] = {"num_classes": 3, "norm": "trained"}
_ASPECT = {"min_size": SIDE, "max_size": 96, **_SHARED}
_SMALL = {"levels": (3, 5), "fpn_channels": 16, "score_threshold": 0.02}
_WIDE = _SMALL | {"fpn_channels": 32, "head_depth": 1}
_SIZES = ((14.0, 20.0), (28.0, 40.0), (56.0, 80.0))
_GRID: dict[str, Any] = {"image_size": (64, 96), "anchor_shapes": [(16.0, 16.0), (40.0, 24.0)]}
_RCNN: dict[str, Any] = _ASPECT | {"box_head_channels": 16, "score_threshold": 0.02}
_SSD: dict[str, Any] = {"image_size": (64, 64), "levels": (3, 6), **_SHARED}

DETECTORS: dict[str, Callable[[], nn.Module]] = {
    "retinanet": lambda: models.RetinaNet(
        _TRUNK, **_ASPECT, **_SMALL, head_depth=1, anchor_sizes=_SIZES, aspect_ratios=(1.0,)
    ),
    "retinanet, mmdetection": lambda: models.RetinaNet(
        _TRUNK,
        **_ASPECT | _SMALL,
        head_depth=1,
        anchor_sizes=_SIZES,
        aspect_ratios=(1.0,),
        preset="mmdetection",
    ),
    "fcos": lambda: models.FCOS(_TRUNK, **_ASPECT, **_WIDE),
    "gfl": lambda: models.GFL(_TRUNK, **_ASPECT, **_WIDE),
    "faster_rcnn": lambda: models.FasterRCNN(
        _TRUNK, **_RCNN, levels=(3, 5), fpn_channels=16, anchor_sizes=[[s] for s in (16, 32, 64)]
    ),
    "faster_rcnn_c4": lambda: models.FasterRCNNC4(_TRUNK, **_RCNN, anchor_sizes=[[16, 32]]),
    "faster_rcnn_c4, fgfi": lambda: models.FasterRCNNC4(
        _TRUNK, **_RCNN, anchor_sizes=[[16, 32]], preset="fgfi"
    ),
    "ssd": lambda: models.SSD(_TRUNK, **_SSD),
    "ssdlite": lambda: models.SSD(_TRUNK, **_SSD, lite=True),
    "shuffledet": lambda: models.ShuffleDet(0.15, 3, **_GRID),
    "yolov2": lambda: models.YOLOv2(1 / 16, 3, **_GRID, passthrough="darknet"),
    **{f"hf, {each}": (lambda each=each: tiny_detrs.seeded(each)) for each in tiny_detrs.CONFIGS},
}
LIBRARY = {
    name: (lambda name=name: tiny_libreyolos.seeded(name)) for name in tiny_libreyolos.NETWORKS
}

_HEADS = ("head", "rpn.head", "roi_heads.box_predictor")


@cache
def detector(name: str) -> nn.Module:
    """A detector in evaluation mode, with the same weights every time."""
    torch.manual_seed(1)
    if name in LIBRARY:
        return _spread(LIBRARY[name]().eval())
    made = DETECTORS[name]()
    torch.manual_seed(1)
    if name.startswith("hf, "):  # of fresh queries, all are equal
        for module in made.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.normal_(module.bias, std=0.3)
        handles = _noting(made)
        with torch.no_grad():
            made.eval()(list(photographs()))
        for handle in handles:
            handle.remove()
    for path in _HEADS:
        try:
            head = made.get_submodule(path)
        except AttributeError:
            continue
        for module in head.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.1)
    return made.eval()


@torch.no_grad()
def _spread(made: Any) -> nn.Module:
    """The detector, whose layers give each cell and each photograph its own values."""
    torch.manual_seed(1)
    for module in made.network.modules():
        if isinstance(module, nn.Conv2d) and module.weight[0].numel() > 17:  # no layer of bins
            nn.init.kaiming_normal_(module.weight)
    handles = _noting(made)

    def spread(layer: nn.Conv2d, _: Any, output: Tensor) -> Tensor:
        mean, deviation = output.mean((0, 2, 3)), output.std((0, 2, 3)) + 1e-9
        layer.weight.div_(deviation[:, None, None, None])
        layer.bias.sub_(mean).div_(deviation)
        return (output - mean[:, None, None]) / deviation[:, None, None]

    paths = [path for of_kind in made.last_layers.layers.values() for path, _ in of_kind]
    layers = [
        made.network.get_submodule(p) for p in dict.fromkeys([*paths, *made.family.objectness])
    ]
    handles += [layer.register_forward_hook(spread, prepend=True) for layer in layers]
    made(list(photographs()))
    for handle in handles:
        handle.remove()
    return made


def paths() -> list[Path]:
    """The files of three photographs."""
    if SHARED is None:
        pytest.skip("needs the photographs of ../shared/data, which this clone lacks")
    data = SHARED / "data"
    return [sorted((data / each).rglob("*.jpg"))[0] for each in ("voc_helmet", "coco", "widerface")]


@cache
def photographs() -> tuple[Tensor, ...]:
    """Three photographs of different sizes, as floats in [0, 1]."""
    found = []
    for path in paths():
        image = Image.open(path).convert("RGB")
        image.thumbnail((200, 150))
        found.append(pil_to_tensor(image) / 255)
    return tuple(found)


def _noting(made: Any) -> list[Any]:
    """Let every batch normalisation take its statistics from the next images."""
    norms = [each for each in made.network.modules() if hasattr(each, "running_var")]
    return [norm.register_forward_pre_hook(_note_statistics) for norm in norms]


def _note_statistics(norm: Any, arguments: tuple[Tensor, ...]) -> None:
    (maps,) = arguments
    norm.running_mean.copy_(maps.mean((0, 2, 3)))
    norm.running_var.copy_(maps.var((0, 2, 3)))
