"""What the models cost that `limbeck new` knows by a word, and some more: size, GFLOPs, time.

    python benchmarks/models.py [--rounds 5] [--write]

Detectors see one image of 480 x 640 pixels and have 20 classes, classifiers see one of 224 x 224
and have 100. All have random weights, so detectors find next to nothing, and suppression costs
nothing. The time is that of the CPU on one thread, in rounds in which every model runs once: what
else the machine does counts little. GFLOPs count a multiply-add as two, as `limbeck compare` does.
The transformer is built as the published RT-DETR-R18 is; nothing is downloaded.
"""

import os

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # before torch is imported
os.environ["OMP_NUM_THREADS"] = "1"

import statistics
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck import models
from measuring import CPU, DOCUMENTS, Step, begin, conditions, interleaved, publish, settings

DETECTED, CLASSIFIED = (480, 640), (224, 224)  # height and width, pixels
LIGHT = models.BasicBlocks((1, 1, 1, 1), (32, 64, 128, 256))
RTDETR_R18 = {
    "model_type": "rt_detr",
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        "layer_type": "basic",
        "depths": [2, 2, 2, 2],
        "hidden_sizes": [64, 128, 256, 512],
        "out_features": ["stage2", "stage3", "stage4"],
    },
    "encoder_in_channels": [128, 256, 512],
    "hidden_expansion": 0.5,
    "decoder_layers": 3,
}
HEAD = "| model | parameters (M) | GFLOPs | CPU (ms) |\n|---|---:|---:|---:|"


def pyramid(kind: type[nn.Module], **arguments: object) -> nn.Module:
    """A detector on a pyramid, with the levels that `limbeck new` gives it at this size."""
    levels = (2, 5) if kind is models.FasterRCNN else (3, 5)
    sides = {"min_size": DETECTED[0], "max_size": DETECTED[1]}
    return kind(num_classes=20, levels=levels, **sides, **arguments)


def of_new(kind: type[nn.Module], **arguments: object) -> nn.Module:
    """A detector on the light trunk as `limbeck new` writes it."""
    return pyramid(kind, backbone=LIGHT, fpn_channels=128, norm="trained", **arguments)


def detectors() -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """The detectors by the words of the table."""
    for trunk in ("resnet101", "resnet50", "resnet34", "resnet18", "mobilenet_v2"):
        yield f"`retinanet-{trunk}`", partial(pyramid, models.RetinaNet, backbone=trunk)
    yield "`retinanet-light`", partial(of_new, models.RetinaNet, head_depth=2)
    for word, kind in (
        ("faster-rcnn", models.FasterRCNN),
        ("fcos", models.FCOS),
        ("gfl", models.GFL),
    ):
        for trunk in ("resnet50", "resnet18"):
            yield f"`{word}-{trunk}`", partial(pyramid, kind, backbone=trunk)
    fixed = {"num_classes": 20, "image_size": DETECTED}
    yield "`ssd-mobilenet_v3_large`", partial(models.SSD, "mobilenet_v3_large", **fixed)
    yield "`ssd-light`", partial(models.SSD, LIGHT, levels=(3, 8), norm="trained", **fixed)
    for width in (1.0, 0.25):
        name = f"`ShuffleDet`, width {width:g}"
        yield name, partial(models.ShuffleDet, width, 20, image_size=DETECTED)
    for width in (1.0, 0.15):
        yield f"`YOLOv2`, width {width:g}", partial(models.YOLOv2, width, 20, image_size=DETECTED)
    kept = {"min_size": DETECTED[0], "max_size": DETECTED[1]}
    transformer = partial(models.HuggingFaceDetector, RTDETR_R18, 20, **kept)
    yield "`PekingU/rtdetr_r18vd`", transformer


def classifiers() -> Iterator[tuple[str, Callable[[], nn.Module]]]:
    """The classifiers by the words of the table."""
    for word in (
        *("resnet101", "resnet50", "resnet34", "resnet18", "mobilenet_v2"),
        *("timm:convnext_atto", "timm:mobilenetv4_conv_small", "timm:vit_small_patch16_224"),
    ):
        yield f"`{word}`", partial(models.Classifier, word, num_classes=100)
    yield "`light`", partial(models.Classifier, LIGHT, num_classes=100)


def table(
    makers: Iterator[tuple[str, Callable[[], nn.Module]]], size: tuple[int, int], rounds: int
) -> Iterator[str]:
    """A table, line by line."""
    image = torch.rand(3, *size)
    built = {word: make().eval() for word, make in makers}
    steps: dict[str, Step] = {word: partial(run, model, image) for word, model in built.items()}
    measured = interleaved(steps.values(), rounds, warm_up=1)
    yield HEAD
    for word, model in built.items():
        with FlopCounterMode(display=False) as counter:
            run(model, image)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        gflops = counter.get_total_flops() / 1e9
        took = 1000 * statistics.median(times[steps[word]][CPU] for times in measured)
        yield f"| {word} | {millions:.2f} | {gflops:.2f} | {took:.0f} |"


@torch.no_grad()
def run(model: nn.Module, image: torch.Tensor) -> None:
    """One image through a model."""
    model(image[None] if isinstance(model, models.Classifier) else [image])


def text(rounds: int) -> Iterator[str]:
    """Both tables, and on what they were measured."""
    begin()
    yield f"The median of {rounds} rounds, {conditions()}.\n"
    yield from table(detectors(), DETECTED, rounds)
    yield ""
    yield from table(classifiers(), CLASSIFIED, rounds)


def main() -> None:
    """Measure and print the tables."""
    options = settings(__doc__, rounds=5).parse_args()
    page = DOCUMENTS / "guides" / "choosing.md"
    publish("benchmarks/models.py", text(options.rounds), options.write, page)


if __name__ == "__main__":
    main()
