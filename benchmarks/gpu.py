"""What a large GPU does with a distillation step: one command, at most eight minutes.

    python benchmarks/gpu.py [--minutes 8] [--write]

Images a second, R, peak memory and host waits of RetinaNet R50 to R18 at 800 x 1344 plainly and
with each method, of Faster R-CNN and of classifiers; what the early stop of the teacher saves;
torchvision's eager step; the loader. Everything is generated, nothing is downloaded. Rows come in
the order of their weight, and those that the time does not allow are named. R = step / (plain step
+ the part of the teacher that the methods need), in the same variant. Host waits are the
operations of a step for which the host waits for the device, as torch's debug mode counts them.
``--size``, ``--batch`` and ``--rounds`` make it small enough to try it on a CPU.
"""

import json
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import to_pil_image

from gpu_rows import LAST, SIZE, Row, Scale, detection_batch, detection_pair, rows
from limbeck import Distillation
from limbeck.data import COCO, Concatenated, DetectionAugmentation
from limbeck.frame import network_frame
from limbeck.methods import FitNet
from limbeck.training.data import DataModule
from measuring import WALL, Step, device, interleaved, ratios, settings, write
from precision import FLOAT32, Variant, moved, step_of
from step_ratio import inference
from step_ratio import retinanet as torchvisions_retinanet

GIB = 2**30


# -- measuring ------------------------------------------------------------------------------------


def host_waits(step: Step) -> int | None:
    """For how many operations of a step the host waits; None where there is no GPU."""
    if device().type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(each.message) for each in said)


def peak(step: Step) -> float | None:
    """The most memory that is allocated during a step, GiB; None where there is no GPU."""
    if device().type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / GIB


def teaching(pair: Distillation, images: object, variant: Variant) -> Step:
    """The part of the teacher's forward that the methods need."""

    def teach() -> None:
        half = torch.autocast(device().type, variant.half, enabled=variant.half is not None)
        with half, network_frame(pair.teacher):
            pair._taught[None].teach(images, pair.student)

    return inference(teach)


def evaluating(model: nn.Module, images: object, variant: Variant) -> Step:
    """A detector's whole forward pass."""

    def evaluate() -> None:
        half = torch.autocast(device().type, variant.half, enabled=variant.half is not None)
        with half, network_frame(model):
            model(images)

    return inference(evaluate)


def line(row: Row, rounds: int) -> str:
    """The row, measured."""
    torch.manual_seed(0)
    pair, batch = row.make().to(device()), moved(row.batch())
    pair.observe(*batch)  # MGD finds its flow by it
    pair.solve()
    step = step_of(pair, batch, row.variant)
    floor: list[Step] = []
    if pair.teacher is not None:
        alone = (row.alone() if row.alone else Distillation(pair.student)).to(device())
        floor = [step_of(alone, batch, row.variant), teaching(pair, batch[0], row.variant)]
    measured = interleaved([step, *floor], rounds, warm_up=2)
    took = statistics.median(times[step][WALL] for times in measured)
    ratio = statistics.median(ratios(measured, step, floor, WALL)) if floor else None
    cells = [row.name, row.variant.name, f"{len(batch[0]) / took:.1f}"]
    return f"| {' | '.join([*cells, *also(step, ratio)])} |"


def also(step: Step, ratio: float | None) -> list[str]:
    """R, the peak and the waits of a step, as cells."""
    found = (("{:.3f}", ratio), ("{:.1f}", peak(step)), ("{}", host_waits(step)))
    return ["-" if value is None else form.format(value) for form, value in found]


def teacher_line(scale: Scale, rounds: int, variant: Variant) -> str:
    """A RetinaNet's forward as far as its pyramid, against the whole of it."""
    images = moved(detection_batch(scale.size, scale.batch)[0])
    pair = detection_pair(FitNet(["fpn"])).to(device())
    if variant.last:
        pair.to(memory_format=torch.channels_last)
    pair.teacher.eval()
    stopped = teaching(pair, images, variant)
    whole = evaluating(pair.teacher, images, variant)
    measured = interleaved([stopped, whole], rounds, warm_up=2)
    ratio = statistics.median(ratios(measured, whole, [stopped], WALL))
    took = statistics.median(times[stopped][WALL] for times in measured)
    return f"| as far as its pyramid | {variant.name} | {scale.batch / took:.1f} | {ratio:.2f} |"


def torchvision_step(scale: Scale) -> Step:
    """The same pair as a script with torchvision alone has it: float32, the whole teacher."""
    student = torchvisions_retinanet("resnet18").to(device()).train()
    teacher = torchvisions_retinanet("resnet50").to(device()).eval()
    hints: dict[str, Tensor] = {}
    maps: dict[str, Tensor] = {}
    teacher.backbone.register_forward_hook(lambda *told: hints.update(told[-1]))
    student.backbone.register_forward_hook(lambda *told: maps.update(told[-1]))
    optimizer = torch.optim.SGD(student.parameters(), lr=1e-4, momentum=0.9)
    images, targets = moved(detection_batch(scale.size, scale.batch))

    def step() -> None:
        with torch.no_grad(), network_frame(teacher):
            teacher(images)
        with network_frame(student):
            loss = sum(student(images, targets).values())
        hint = sum(F.mse_loss(maps[level], hints[level]) for level in maps)
        (loss + 1e-6 * hint).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def torchvision_line(scale: Scale, rounds: int) -> str:
    """Torchvision's eager step."""
    step = torchvision_step(scale)
    measured = interleaved([step], rounds, warm_up=2)
    took = statistics.median(times[step][WALL] for times in measured)
    name = f"torchvision's eager step with its whole teacher, batch {scale.batch}"
    cells = [name, "float32", f"{scale.batch / took:.1f}", *also(step, None)]
    return f"| {' | '.join(cells)} |"


# -- the loader -----------------------------------------------------------------------------------


def written_coco(folder: Path, count: int) -> Path:
    """A COCO of 640 x 480 JPEGs whose neighbouring pixels are alike, as those of photographs."""
    generator = torch.Generator().manual_seed(0)
    images, objects = [], []
    for number in range(count):
        coarse = torch.rand(1, 3, 15, 20, generator=generator)
        pixels = (F.interpolate(coarse, (480, 640), mode="bicubic")[0].clamp(0, 1) * 255).byte()
        name = f"{number:06}.jpg"
        to_pil_image(pixels).save(folder / name, quality=90)
        images.append({"id": number, "file_name": name, "height": 480, "width": 640})
        box = {"bbox": [10 + number % 50, 20, 100, 200], "area": 20000, "iscrowd": 0}
        objects.append({"id": number + 1, "image_id": number, "category_id": 1, **box})
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "it"}]}
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return path


def loader_line(scale: Scale, dataset: COCO, workers: int) -> str:
    """Images a second out of the loader, resized for a detector."""
    ahead = 2 * workers  # batches that are under way when the first one is asked for
    times = math.ceil(max(16, 3 * ahead) / (len(dataset) // scale.batch))
    data = DataModule(
        dataset,
        Concatenated([dataset] * times),
        batch_size=scale.batch,
        workers=workers,
        augmentation=DetectionAugmentation(short_sides=[scale.size[0]], long_side=scale.size[1]),
    )
    batches = iter(data.train_dataloader())
    for _ in range(ahead):
        next(batches)
    began, count = time.perf_counter(), 0
    for images, _ in batches:
        moved(list(images))
        count += len(images)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    rate = count / (time.perf_counter() - began)
    return f"| {workers} | {rate:.1f} | {rate / workers:.1f} |"


def loader_lines(scale: Scale) -> Iterator[str]:
    """The loader by its number of workers."""
    with tempfile.TemporaryDirectory() as folder:
        file = written_coco(Path(folder), 8 * scale.batch)
        dataset = COCO(folder, file, training=True)
        cores = len(os.sched_getaffinity(0))
        for workers in sorted({1, min(4, cores), min(8, cores), cores}):
            yield attempt(f"{workers} workers", partial(loader_line, scale, dataset, workers))


# -- the command ----------------------------------------------------------------------------------

STEPS = """\
| step | variant | images/s | R | peak, GiB | host waits |
|---|---|---|---|---|---|"""
TEACHER = """\
| RetinaNet R50, batch as above | variant | images/s | whole / stopped |
|---|---|---|---|"""
LOADER = """\
| workers | images/s to the device | a worker |
|---|---|---|"""


def conditions(scale: Scale, rounds: int) -> str:
    """On what it was measured."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
    tf32 = "in TF32" if torch.backends.cudnn.allow_tf32 else "in float32"
    return (
        f"{name}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}; detectors "
        f"{scale.size[0]} x {scale.size[1]} px, classifiers {scale.crop} px; on a GPU the "
        f"convolutions of float32 are {tf32}, as torch has it; medians of {rounds} interleaved "
        "rounds."
    )


def attempt(name: str, made: Callable[[], str]) -> str:
    """A line, or what stands in its place: one row that fails costs no other."""
    try:
        return made()
    except Exception as error:  # out of memory, or what a compiler raises
        return f"| {name} | failed: {type(error).__name__}: {str(error).splitlines()[0][:100]} |"
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def report(scale: Scale, rounds: int, minutes: float) -> Iterator[str]:
    """All tables, line by line."""
    until = time.monotonic() + 60 * minutes
    late: list[str] = []
    yield conditions(scale, rounds)
    yield f"\n{STEPS}"
    yield attempt("torchvision", partial(torchvision_line, scale, rounds))
    for row in rows(scale):
        if time.monotonic() > until:
            late.append(f"{row.name} ({row.variant.name})")
            continue
        yield attempt(f"{row.name} | {row.variant.name}", partial(line, row, rounds))
    yield f"\n{TEACHER}"
    for variant in (FLOAT32, LAST):
        yield attempt(f"teacher | {variant.name}", partial(teacher_line, scale, rounds, variant))
    yield f"\n{LOADER}"
    yield from loader_lines(scale)
    if late:
        yield f"\nNot measured, as the {minutes:g} minutes were over: {'; '.join(late)}."


def main() -> None:
    """Measure and print the tables."""
    parser = settings(__doc__, rounds=5)
    parser.add_argument("--minutes", type=float, default=6.5, help="after which no row begins")
    parser.add_argument("--size", type=int, nargs=2, default=SIZE, help="height and width, pixels")
    parser.add_argument("--batch", type=int, default=16, help="images of a detector's step")
    parser.add_argument("--crops", type=int, default=256, help="images of a classifier's step")
    options = parser.parse_args()
    scale = Scale(tuple(options.size), options.batch, crops=options.crops)
    text = []
    for each in report(scale, options.rounds, options.minutes):
        text.append(each)
        print(each, flush=True)
        if options.write:  # line by line, as a machine may be taken away
            write("benchmarks/gpu.py", "\n".join(text))


if __name__ == "__main__":
    main()
