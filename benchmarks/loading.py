"""What a batch costs on its way from image files to the models, beside a plain torchvision loop.

    python benchmarks/loading.py [--rounds 10] [--write]

Files are generated. ``make`` reads the files of a batch, augments them and puts them together, as a
worker does it; ``move`` sends that batch to another process and copies it once there, as for a GPU;
``scale`` makes float32 in [0, 1] of it, here on the CPU. The plain loop is that of torchvision's
references: Pillow, transforms that end with float32, tensors that are sent as they are. CPU time of
one process, milliseconds an image; both loops in random order, round by round, medians.
"""

import os

# Before torch is imported: spinning threads and a busy neighbour would be measured instead.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["OMP_NUM_THREADS"] = "1"

import io
import json
import pickle
import statistics
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import pil_to_tensor

from limbeck.data import (
    COCO,
    ClassificationAugmentation,
    DetectionAugmentation,
    ImageFolder,
    VisionDataset,
)
from limbeck.data.loading import AugmentedBatches, scaled
from limbeck.data.sampling import Draw
from measuring import (
    CPU,
    Step,
    Times,
    begin,
    conditions,
    interleaved,
    publish,
    ratios,
    seconds,
    settings,
    spread,
)

BOX = [100.0, 80.0, 200.0, 150.0]  # x, y, width, height


@dataclass(frozen=True)
class Case:
    """One kind of images, loaded by both loops.

    Attributes:
        name: As the table has it.
        count: The number of images in a batch.
        plain: Makes a batch as a plain loop does.
        ours: Makes a batch as a worker of limbeck's does.
    """

    name: str
    count: int
    plain: Callable[[], Any]
    ours: Callable[[], Any]


def save_photo(path: Path, height: int, width: int) -> None:
    """Save what compresses like a photograph: soft ground with some noise."""
    rng = np.random.default_rng(abs(hash(path.name)) % 2**32)
    small = rng.integers(0, 256, (max(height // 20, 2), max(width // 20, 2), 3), dtype=np.uint8)
    soft = PIL.Image.fromarray(small).resize((width, height), PIL.Image.Resampling.BICUBIC)
    noisy = np.asarray(soft) + rng.normal(0, 8, (height, width, 3))
    PIL.Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def plain_image(path: Path | str) -> tv_tensors.Image:
    """Read an image as torchvision's datasets do."""
    with PIL.Image.open(path) as file:
        return tv_tensors.Image(pil_to_tensor(file.convert("RGB")))


def batches(dataset: VisionDataset, augmentation: Any, count: int) -> Callable[[], Any]:
    """Make the same batch again and again, as a worker of limbeck's does."""
    made = AugmentedBatches(dataset, augmentation.training())
    draws = [Draw(0, index) for index in range(count)]
    return lambda: made[draws]


def detection(folder: Path, count: int = 16) -> Case:
    """Images of COCO's size, resized for a detector."""
    names = [f"{index}.jpg" for index in range(count)]
    for name in names:
        save_photo(folder / name, 480, 640)
    content = {
        "images": [
            {"id": n, "file_name": name, "height": 480, "width": 640}
            for n, name in enumerate(names)
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": BOX, "area": 30000, "iscrowd": 0}
            for n in range(count)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    file = folder / "annotations.json"
    file.write_text(json.dumps(content))
    augmentation = DetectionAugmentation(short_sides=(800,), long_side=1333)
    transform = v2.Compose(
        [
            v2.RandomShortestSize([800], 1333),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    x, y, width, height = BOX

    def sample(name: str) -> tuple[Tensor, dict[str, Tensor]]:
        image = plain_image(folder / name)
        corners = torch.tensor([[x, y, x + width, y + height]])
        boxes = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(480, 640))
        image, target = transform(image, {"boxes": boxes, "labels": torch.tensor([1])})
        return image.as_subclass(Tensor), {k: v.as_subclass(Tensor) for k, v in target.items()}

    def plain() -> Any:
        return tuple(zip(*map(sample, names), strict=True))

    ours = batches(COCO(folder, file, training=True), augmentation, count)
    return Case(f"480 x 640 JPEG to 800 x 1066, batch {count}", count, plain, ours)


def classification(folder: Path, height: int, width: int, size: int, count: int) -> Case:
    """Images of two classes, cropped for a classifier."""
    for index in range(count):
        path = folder / f"class{index % 2}" / f"{index}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        save_photo(path, height, width)
    dataset = ImageFolder(folder)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(size),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )

    def plain() -> Any:
        files = zip(dataset.paths, dataset.labels.tolist(), strict=True)
        samples = [(transform(plain_image(path)), label) for path, label in files]
        return default_collate([(i.as_subclass(Tensor), label) for i, label in samples])

    ours = batches(dataset, ClassificationAugmentation(size=size), count)
    name = f"{height} x {width} JPEG to {size} x {size}, batch {count}"
    return Case(name, count, plain, ours)


def moved(batch: Any, room: Tensor) -> None:
    """Send a batch to another process, and copy its images once there, as into pinned memory."""
    stream = io.BytesIO()
    ForkingPickler(stream).dump(batch)
    images, _ = pickle.loads(stream.getvalue())
    start = 0
    for image in [images] if isinstance(images, Tensor) else images:
        place = room[start : start + image.numel() * image.element_size()].view(image.dtype)
        place.as_strided(image.shape, torch.empty_like(image, device="meta").stride()).copy_(image)
        start += image.numel() * image.element_size()


def fresh(step: Step) -> Times:
    """The times of a step on a batch that was not sent before, as its memory is shared after."""
    if not isinstance(step, partial):
        return seconds(step)
    batch = step.args[0]()
    return seconds(lambda: step.func(batch, *step.args[1:]))


def lines(case: Case, rounds: int) -> list[str]:
    """The rows of one kind of images."""
    plain = case.plain()
    images = [plain[0]] if isinstance(plain[0], Tensor) else plain[0]
    room = torch.zeros(sum(image.numel() * 4 for image in images), dtype=torch.uint8)
    steps = {
        "make": (case.plain, case.ours),
        "move": (partial(moved, case.plain, room), partial(moved, case.ours, room)),
        "scale": (None, partial(lambda batch: scaled(batch.images), case.ours)),
    }
    asked = [step for pair in steps.values() for step in pair if step is not None]
    measured = interleaved(asked, rounds, warm_up=2, measure=fresh)
    found = []
    for name, pair in steps.items():
        shown = [
            "-"
            if step is None
            else f"{1e3 * statistics.median(t[step][CPU] for t in measured) / case.count:.3f}"
            for step in pair
        ]
        over, under = pair[1], pair[0]
        ratio = "-" if under is None else spread(ratios(measured, over, [under], CPU))
        found.append(f"| {' | '.join([case.name, name, *shown, ratio])} |")
    return found


HEAD = """\
| images | | plain loop, ms an image | limbeck, ms an image | limbeck / plain |
|---|---|---|---|---|"""


def table(rounds: int) -> Iterator[str]:
    """The table, line by line."""
    yield (
        f"CPU time, medians of {rounds} interleaved rounds (ratios with quartiles); "
        f"{conditions()}. `make`: read, decode, augment and put together in a worker; `move`: "
        "send to another process and copy once there; `scale`: to float32 in [0, 1], which a GPU "
        f"does in the place of this CPU.\n\n{HEAD}"
    )
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("detection", "large", "small"):
            (root / name).mkdir()
        cases = [
            detection(root / "detection"),
            classification(root / "large", 375, 500, 224, 32),
            classification(root / "small", 32, 32, 32, 64),
        ]
        for case in cases:
            yield from lines(case, rounds)


def main() -> None:
    """Measure and print the table."""
    options = settings(__doc__, rounds=10).parse_args()
    begin()
    publish("benchmarks/loading.py", table(options.rounds), options.write)


if __name__ == "__main__":
    main()
