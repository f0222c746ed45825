"""What ``limbeck predict`` takes, against a bare loop over the same images.

    python benchmarks/predict.py [--rounds 4] [--images 8] [--size 320] [--workers 1] [--write]

The student is a RetinaNet on ResNet-18 of random weights that gives 8 detections an image; the
images are generated JPEGs of 640 x 480. A bare loop loads the student, opens an image with Pillow,
asks the model (which resizes and does its own NMS), draws with torchvision's draw_bounding_boxes,
writes with torchvision, and dumps the JSON at the end. The variants run in random order, round by
round.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import statistics
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import torch
from torchvision.io import write_jpeg, write_png
from torchvision.transforms.v2.functional import pil_to_tensor
from torchvision.utils import draw_bounding_boxes

from limbeck.commands.predict import predict
from limbeck.models import RetinaNet, load_student, save_student
from measuring import (
    CPU,
    WALL,
    Step,
    above,
    begin,
    device,
    interleaved,
    publish,
    ratios,
    settings,
    spread,
)

CLASSES = ("person", "bicycle", "car", "dog", "traffic light")
DETECTIONS = 8  # an image
TEXT = f"""\
## Predicting

`limbeck predict` against a bare loop: Pillow, the model with its own NMS, torchvision's
draw_bounding_boxes and writers, {DETECTIONS} detections an image. CPU time is that of the main
process, without its workers.

    python benchmarks/predict.py --write"""
HEAD = """\
| what | CPU ms an image | / bare loop, CPU time | / bare loop, wall |
|---|---|---|---|"""


def make_student(folder: Path, size: int) -> None:
    """A detector whose every image has as many detections."""
    model = RetinaNet(
        "resnet18",
        len(CLASSES),
        preset="torchvision",
        min_size=size,
        max_size=size * 4 // 3,
        score_threshold=0.0,
        detections_per_image=DETECTIONS,
    )
    save_student(model.eval(), folder, classes=CLASSES)


def make_images(folder: Path, count: int) -> list[Path]:
    """Smooth colours with a little noise, which compress as photographs do."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    paths = [folder / f"{number:04}.jpg" for number in range(count)]
    for path in paths:
        coarse = PIL.Image.fromarray(rng.integers(0, 256, (15, 20, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((640, 480), PIL.Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + rng.integers(-6, 7, smooth.shape)
        PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return paths


def bare_loop(student: Path, paths: list[Path], out: Path, *, jpeg: bool) -> None:
    """What one would write for this student alone."""
    out.mkdir(exist_ok=True)
    model, results = load_student(student).to(device()), {}
    for path in paths:
        with PIL.Image.open(path) as opened:
            pixels = pil_to_tensor(opened.convert("RGB"))
        with torch.inference_mode():
            found = {k: v.cpu() for k, v in model([(pixels / 255).to(device())])[0].items()}
        names = [CLASSES[label - 1] for label in found["labels"].tolist()]
        texts = [f"{n} {s:.2f}" for n, s in zip(names, found["scores"].tolist(), strict=True)]
        drawn = draw_bounding_boxes(pixels, found["boxes"], texts, width=2)
        if jpeg:
            write_jpeg(drawn, str(out / f"{path.stem}.jpg"), quality=90)
        else:
            write_png(drawn, str(out / f"{path.stem}.png"))
        rows = zip(names, found["scores"].tolist(), found["boxes"].tolist(), strict=True)
        results[str(path)] = [{"class": n, "score": s, "box": b} for n, s, b in rows]
    (out / "predictions.json").write_text(json.dumps(results, indent=2))


def variants(folder: Path, options: argparse.Namespace) -> list[tuple[str, Step, Step]]:
    """The name of each, how it is run, and the bare loop that it is compared with."""
    student, paths = folder / "student", make_images(folder / "images", options.images)
    make_student(student, options.size)
    png, jpeg = (
        partial(bare_loop, student, paths, folder / f"bare{jpeg}", jpeg=jpeg)
        for jpeg in (False, True)
    )
    ours = partial(predict, student, paths, threshold=0.0)
    fast = {"picture_format": "jpeg", "workers": options.workers}
    return [
        ("bare loop, PNG", png, png),
        ("`predict`", partial(ours, folder / "png"), png),
        ("`predict --batch_size 4`", partial(ours, folder / "batches", batch_size=4), png),
        ("bare loop, JPEG", jpeg, jpeg),
        (
            "`predict --picture_format jpeg`",
            partial(ours, folder / "jpeg", picture_format="jpeg"),
            jpeg,
        ),
        (
            f"`predict --picture_format jpeg --workers {options.workers}`",
            partial(ours, folder / "workers", **fast),
            jpeg,
        ),
    ]


def table(options: argparse.Namespace) -> Iterator[str]:
    """The table, line by line."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    with tempfile.TemporaryDirectory() as folder:
        rows = variants(Path(folder), options)
        measured = interleaved([step for _, step, _ in rows], options.rounds, warm_up=1)
    what = f"{options.images} images of 640 x 480, {options.size} px in the model"
    yield f"{TEXT}\n\n{above(what, options.rounds)}\n\n{HEAD}"
    for name, step, bare in rows:
        took = statistics.median(times[step][CPU] for times in measured) / options.images
        shown = [spread(ratios(measured, step, [bare], clock)) for clock in (CPU, WALL)]
        yield f"| {name} | {took * 1000:.0f} | {shown[0]} | {shown[1]} |"


def main() -> None:
    """Measure and print the table."""
    parser = settings(__doc__, rounds=4)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size", type=int, default=320, help="the shorter side in the model")
    parser.add_argument("--workers", type=int, default=1, help="of the last row")
    options = parser.parse_args()
    begin()
    publish("benchmarks/predict.py", table(options), options.write)


if __name__ == "__main__":
    main()
