"""Draws what each method shows of trained pairs, into docs/methods/pictures.

    limbeck quickstart
    limbeck compare comparisons/cifar10_kd.yaml
    limbeck compare comparisons/bccd_rtdetr.yaml
    python benchmarks/method_pictures.py [--only at fgd]

The RetinaNets are those of the quickstart; the classifiers, and the transformer detectors, are
those of the two comparisons, whose data lie in ``../shared``, or where ``LIMBECK_SHARED`` says.
Faster R-CNNs are trained here on generated images, as is what a method adds to a student, and are
kept in ``runs/method_pictures``: some minutes on one core. A picture whose models or data are not
there is left out, which is said. ``captions.yaml`` has a caption for each picture. Generated images
lie under them in grey, and photographs not at all.
"""

import os

# Before torch is imported: the pictures are drawn beside other work.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import PIL.Image
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.transforms import v2

from limbeck import Distillation, methods
from limbeck.commands.method_picture import write
from limbeck.data import VOC, ImageFolder, Shapes
from limbeck.data.shapes import SHAPES
from limbeck.methods import Method
from limbeck.methods.pictures import OverImages
from limbeck.models import (
    GFL,
    BasicBlocks,
    Classifier,
    FasterRCNN,
    load_student,
)
from measuring import DOCUMENTS, begin

Batch = tuple[Any, Any]
Pair = tuple[nn.Module, nn.Module | None]

FOLDER = DOCUMENTS / "methods" / "pictures"
TRAINED = Path("runs/method_pictures")
SHARED = Path(os.environ.get("LIMBECK_SHARED", "../shared"))
COLOURS, SHADES = 256, 16  # of a PNG, and of each channel
GREYS, DARK = 8, 0.5  # how many greys there are, and the lightest of them
CELL = 260  # the pixels of a column of images
BATCH, STEPS, ADDED = 8, 200, 60  # images and steps of a training, and of what a method adds
SHOWN = 11, 16  # images of the validation set, of which no model has seen any
SHAPES_OF = {"plain": ((1, 1, 1), (8, 16, 32)), "teacher": ((2, 2, 2), (32, 64, 128))}
CELLS = "Platelets", "RBC", "WBC"
FRAME: dict[str, Any] = {"num_classes": len(SHAPES), "norm": "trained", "min_size": 96}
ON_SHAPES = "The images, here in grey, are generated (`limbeck.data.Shapes`); "
QUICKSTART = f"{ON_SHAPES}teacher and student are the RetinaNets that `limbeck quickstart` trains."


@dataclass(frozen=True)
class Folders:
    """Where models are that were trained by others.

    Attributes:
        quickstart: Of the quickstart.
        cifar10: Of the comparison on CIFAR-10.
        cells: Of the comparison of RT-DETRs on blood cells.
    """

    quickstart: Path
    cifar10: Path
    cells: Path


class MissingError(Exception):
    """What a picture is drawn from is not there."""


Maker = Callable[[str, Folders], nn.Module]


# -- models ------------------------------------------------------------------------------------


def kept(comparison: Path, run: str) -> nn.Module:
    """The student of a run of a comparison."""
    folders = sorted(comparison.glob(f"runs/{run}_*/student"))
    if not folders:
        raise MissingError(f"{comparison} has no finished run {run}")
    return load_student(folders[0])


def retinanets(folders: Folders) -> Pair:
    """The student that was trained plainly, and the teacher."""
    return kept(folders.quickstart, "plain_0"), kept(folders.quickstart, "teacher_0")


def classifiers(run: str, folders: Folders) -> Pair:
    """The student of a run, and the published ResNet-20."""
    weights = SHARED / "data/weights/cifar10_resnet20.pth"
    if not weights.is_file():
        raise MissingError(f"{weights} is not there")
    blocks = BasicBlocks((3, 3, 3), (16, 32, 64), stem_stride=1, shortcuts="padded")
    return kept(folders.cifar10, run), Classifier(blocks, 10, weights=weights)


def faster_rcnn(role: str, folders: Folders) -> nn.Module:
    """A Faster R-CNN on the backbone of a RetinaNet of the quickstart, which stays as it is."""
    retinanet = kept(folders.quickstart, f"{role}_0")
    model = FasterRCNN(
        BasicBlocks(*SHAPES_OF[role]),
        **FRAME,
        levels=(3, 5),
        fpn_channels=48,
        box_head_channels=128,
        anchor_sizes=[[16], [28], [44]],
        aspect_ratios=[1.0],
    )
    model.backbone.load_state_dict(retinanet.get_submodule("backbone").state_dict())
    model.backbone.requires_grad_(False)
    model.roi_heads.fg_bg_sampler.batch_size_per_image = 64
    return model


def transformers(folders: Folders) -> Pair:
    """The student that was trained plainly on blood cells, and the teacher."""
    return kept(folders.cells, "plain_0"), kept(folders.cells, "teacher_0")


@cache
def trained(make: Maker, role: str, folders: Folders) -> nn.Module:
    """A detector that is trained here, or was by an earlier call."""
    torch.manual_seed(0)
    model = make(role, folders)
    train(Distillation(model, None, []), STEPS, f"{make.__name__}_{role}")
    return model


def here(make: Maker, folders: Folders) -> Pair:
    """A student and a teacher that are trained here."""
    return trained(make, "plain", folders), trained(make, "teacher", folders)


def two_kinds(folders: Folders) -> Pair:
    """The quickstart's student, and a two-stage teacher."""
    return kept(folders.quickstart, "plain_0"), trained(faster_rcnn, "teacher", folders)


def gfls(_: Folders) -> Pair:
    """Two GFLs; their weights have no part in what LD chooses."""
    levels = {"levels": (3, 6), "fpn_channels": 64, "head_depth": 1}
    shape = SHAPES_OF["plain"]
    student, teacher = (GFL(BasicBlocks(*shape), **FRAME, **levels) for _ in range(2))
    return student, teacher


def alone(folders: Folders) -> Pair:
    """The quickstart's student, without a teacher."""
    return kept(folders.quickstart, "plain_0"), None


def train(pair: Distillation, steps: int, name: str) -> None:
    """Train a pair on generated images, unless it was: AdamW, one cycle."""
    path = TRAINED / f"{name}.pt"
    if path.is_file():
        pair.load_state_dict(torch.load(path, weights_only=True))
        return
    optimizer = torch.optim.AdamW(pair.trainable_parameters(), 2e-3, weight_decay=0.01)
    schedule = OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    for number in range(steps):
        first = number * BATCH
        losses = pair.train()(*generated(range(first, first + BATCH), seed=1))
        optimizer.zero_grad()
        losses.total.backward()
        nn.utils.clip_grad_norm_(pair.trainable_parameters(), 10.0)
        optimizer.step()
        schedule.step()
        pair.advance()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(pair.state_dict(), path)


# -- images ------------------------------------------------------------------------------------


def generated(indices: Sequence[int], seed: int = 0) -> Batch:
    """Generated images and their targets; the seed 0 is that of the validation sets."""
    items = [Shapes(count=10**6, seed=seed)[index] for index in indices]
    return [image.float() / 255 for image, _ in items], [target for _, target in items]


def shapes() -> Batch:
    """The generated images that are drawn."""
    return generated(SHOWN)


def photographs(step: int) -> Batch:
    """Every so manieth of the 5,000 test images of CIFAR-10, which lie class by class."""
    root = SHARED / "data/imagefolder/cifar10/test"
    if not root.is_dir():
        raise MissingError(f"{root} is not there")
    data = ImageFolder(root)
    items = [data[index] for index in range(0, len(data), step)]
    images = torch.stack([image.float() / 255 for image, _ in items])
    return images, torch.tensor([int(label) for _, label in items])


def cells() -> Batch:
    """Two photographs of blood cells, as wide as their network takes them, and their cells."""
    root = SHARED / "data/voc_bccd/VOCdevkit/VOC2007"
    if not root.is_dir():
        raise MissingError(f"{root} is not there")
    data = VOC(root, "val", classes=CELLS)
    items = [v2.Resize((192, 256))(data[index]) for index in range(2)]
    return [image.float() / 255 for image, _ in items], [target for _, target in items]


def grey(image: Tensor) -> Tensor:
    """An image in a few dark greys, on which colours are seen and of which a file is small."""
    smooth = F.avg_pool2d(image.mean(dim=0, keepdim=True), 3, stride=1, padding=1)
    return smooth.mul(GREYS).round().div(GREYS / DARK).expand_as(image)


# -- pictures ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """How a method is drawn.

    Attributes:
        method: The method.
        pair: What makes the models, or finds them.
        told: What they are, in sentences.
        batch: What gives the images and targets.
        under: What is drawn of an image under what the method shows.
        classes: The class names.
        levels: What the titles of the columns begin with that are drawn.
        steps: For how many steps it trains what it adds to the student.
        calibrated: Whether it is calibrated on a thousand images.
    """

    method: Callable[[], Method]
    pair: Callable[[Folders], Pair]
    told: str = QUICKSTART
    batch: Callable[[], Batch] = shapes
    under: Callable[[Tensor], Tensor] = grey
    classes: Sequence[str] = SHAPES
    levels: tuple[str, ...] = ("",)
    steps: int = 0
    calibrated: bool = False


HEADS = (
    "both are Faster R-CNNs on the backbones of the RetinaNets of `limbeck quickstart`, and their "
    f"other layers were trained for {STEPS} steps of {BATCH} images"
)
LEARNING = f" The student has gone on with the method for {ADDED} steps of {BATCH} images."
ADDING = partial(Drawn, steps=ADDED, told=QUICKSTART + LEARNING)
OF_LOGITS = partial(
    Drawn,
    pair=partial(classifiers, "plain_0"),
    batch=partial(photographs, 250),
    told="Both models are of the comparison on CIFAR-10 (`comparisons/cifar10_kd.yaml`): the "
    "published ResNet-20 as the teacher, and the student that was trained plainly. The images are "
    "20 of the test images, two of each class, in the order of the classes.",
)
PICTURES: dict[str, Drawn] = {
    "at": Drawn(lambda: methods.AT(["C3"]), retinanets),
    "crosskd": ADDING(methods.CrossKD, retinanets),
    "cwd": Drawn(lambda: methods.CWD(["P3"]), retinanets),
    "detector_dkd": Drawn(
        methods.DetectorDKD,
        partial(here, faster_rcnn),
        f"{ON_SHAPES}{HEADS}.",
    ),
    "dist": OF_LOGITS(methods.DIST),
    "dkd": OF_LOGITS(methods.DKD),
    "feature_cosine": ADDING(lambda: methods.FeatureCosine(["P3", "P4"]), retinanets),
    "fgd": Drawn(lambda: methods.FGD(["P3"]), retinanets),
    "fgfi": Drawn(lambda: methods.FineGrainedImitation(["P3", "P4"]), retinanets),
    "fitnet": ADDING(lambda: methods.FitNet(["P3", "P4"], 5.0, normalise=True), retinanets),
    "head": Drawn(
        lambda: methods.HEAD(proposals=30, samples=30),
        two_kinds,
        f"{ON_SHAPES}the student is the plain RetinaNet of `limbeck quickstart`, the teacher a "
        "Faster R-CNN on the backbone of the teacher there.",
    ),
    "kd": OF_LOGITS(methods.KD),
    "ld": Drawn(
        methods.LD,
        gfls,
        f"{ON_SHAPES}the cells depend on the objects and on the anchors of a GFL alone, whose "
        "weights have no part in it.",
        levels=("stride 8", "stride 16"),
    ),
    "masked_generative": ADDING(lambda: methods.MaskedGenerative(["P3"], 1e-3), retinanets),
    "mgd": Drawn(
        lambda: methods.MGD(["C0.pre", "C1.pre"]),
        partial(classifiers, "mgd_0"),
        "Both models are of the comparison on CIFAR-10 (`comparisons/cifar10_kd.yaml`): the "
        "published ResNet-20 as the teacher, and a student that was trained with the method.",
        batch=partial(photographs, 250),
        calibrated=True,
    ),
    "pkd": Drawn(lambda: methods.PKD(["P3", "P4"]), retinanets),
    "query_kd": Drawn(
        methods.QueryKD,
        transformers,
        "Both models are of the comparison on blood cells (`comparisons/bccd_rtdetr.yaml`): the "
        "RT-DETR that teaches, and the smaller one that was trained plainly. The photographs "
        "themselves are left out.",
        batch=cells,
        under=partial(torch.full_like, fill_value=0.92),
        classes=CELLS,
    ),
    "reviewkd": ADDING(lambda: methods.ReviewKD(["P3", "P4"]), retinanets, levels=("P3",)),
    "tfhead": Drawn(
        lambda: methods.TFHEAD(proposals=30, samples=30),
        alone,
        f"{ON_SHAPES}the student is the plain RetinaNet of `limbeck quickstart`; there is no "
        "teacher.",
    ),
}


def draw(name: str, drawn: Drawn, folders: Folders) -> str:
    """Draw one method, and give its caption."""
    torch.manual_seed(0)
    pair = Distillation(*drawn.pair(folders), {name: drawn.method()})
    images, targets = drawn.batch()
    if drawn.steps:
        train(pair, drawn.steps, name)
    if drawn.calibrated:
        for some in zip(*(torch.split(each, 100) for each in photographs(5)), strict=True):
            pair.observe(*some, name)
        pair.solve(name)
    shown = pair.picture(images, targets, name)
    assert shown is not None
    if isinstance(shown, OverImages):
        kept_columns = {t: c for t, c in shown.columns.items() if t.startswith(drawn.levels)}
        shown = replace(shown, columns=kept_columns)
        images = [drawn.under(image) for image in images]
    path = FOLDER / f"{name}.png"
    write(shown, images, targets, drawn.classes, path)
    columns = len(shown.columns) + 1 if isinstance(shown, OverImages) else 3
    with PIL.Image.open(path) as picture:
        size = CELL * columns, CELL * columns * picture.height // picture.width
        small = picture.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS)
    if isinstance(shown, OverImages):
        small, chosen = small.point(_few), PIL.Image.Quantize.MEDIANCUT
    else:
        chosen = PIL.Image.Quantize.MAXCOVERAGE  # a bar's ends are rare
    small.quantize(COLOURS, chosen, dither=PIL.Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB", flush=True)
    return f"{shown.caption} {drawn.told}"


def _few(value: int) -> int:
    """One of few shades of a channel: of few colours a file is small, and greys stay grey."""
    wide = 256 // SHADES
    return min(255, round(value / wide) * wide)


def main() -> None:
    """Draw all pictures, or some, and write their captions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PICTURES, default=list(PICTURES))
    parser.add_argument("--quickstart", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--cifar10", type=Path, default=Path("runs/cifar10_kd"))
    parser.add_argument("--cells", type=Path, default=Path("runs/bccd_rtdetr"))
    arguments = parser.parse_args()
    begin()
    captions = {}
    for name in arguments.only:
        try:
            folders = Folders(arguments.quickstart, arguments.cifar10, arguments.cells)
            captions[name] = draw(name, PICTURES[name], folders)
        except MissingError as error:
            print(f"{name} is left out: {error}")
    path = FOLDER / "captions.yaml"
    before = yaml.safe_load(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(yaml.safe_dump(before | captions, width=100, allow_unicode=True), "utf-8")


if __name__ == "__main__":
    main()
