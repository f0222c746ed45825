"""What it costs to open datasets of published sizes: time, peak memory, and memory a worker.

    python benchmarks/annotations.py [--scale 1] [--rounds 2] [--beside SRC] [--write]

COCO, VOC, KITTI and WIDER FACE are generated in a temporary folder, each with as many images and
objects as its training set, or a share of them. COCO's objects have outlines, and one in a hundred
is a crowd with a run-length encoding. Image files are links to a few pictures of the usual size.

Each reading is a process of its own. It says the CPU and the wall time of opening the dataset, the
highest memory of the process, and what a forked worker adds: the growth of its private memory while
it goes through the targets of every image; the pixels are not decoded. ``pycocotools`` is measured
beside COCO where it is installed, and another version of limbeck where ``--beside`` gives its
folder ``src``.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 80
TOUCHED_BEFORE = 200  # samples, so that what a worker needs once is not counted


@dataclass(frozen=True)
class Kind:
    """A dataset of a published size.

    Attributes:
        name: The name of the layout.
        images: The number of images.
        objects: The number of objects.
        size: The (width, height) of the pictures, in pixels.
        suffix: The suffix of the pictures.
        write: Writes the annotations of images of the given names into a folder.
    """

    name: str
    images: int
    objects: int
    size: tuple[int, int]
    suffix: str
    write: Callable[["Kind", Path, list[int]], None]


# -- generated data -------------------------------------------------------------------------------


def link_pictures(kind: Kind, paths: list[Path]) -> None:
    """Put pictures at all paths: links to a few files, as a file system allows some 65,000 each."""
    rng, files = np.random.default_rng(0), paths[: len(paths) // 30_000 + 1]
    width, height = kind.size
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(kind.size, Image.Resampling.BICUBIC).save(path)
    for number, path in enumerate(paths[len(files) :]):
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(files[number % len(files)], path)


def counts(kind: Kind, images: int) -> list[int]:
    """The number of objects of each image; some have none."""
    drawn = np.random.default_rng(1).geometric(1 / (kind.objects / kind.images + 1), images) - 1
    return [int(count) for count in drawn]


def box(rng: random.Random, kind: Kind) -> tuple[int, int, int, int]:
    """A box within the picture: x, y, width and height."""
    width, height = kind.size
    x, y = rng.randrange(width - 20), rng.randrange(height - 20)
    return x, y, rng.randint(10, width - x - 2), rng.randint(10, height - y - 2)


def outlines(rng: random.Random, kind: Kind) -> list[str]:
    """Polygons of 4 to 30 corners as COCO writes them, one or two an object."""
    width, height = kind.size

    def polygon() -> list[float]:
        corners = rng.randint(4, 30)
        return [round(rng.uniform(1, side), 2) for _ in range(corners) for side in (width, height)]

    return [json.dumps([polygon() for _ in range(rng.choice((1, 1, 1, 2)))]) for _ in range(1000)]


def write_coco(kind: Kind, folder: Path, objects: list[int]) -> None:
    """One JSON file, with all keys of the published ones."""
    rng = random.Random(0)
    shapes, at = outlines(rng, kind), 0
    width, height = kind.size
    runs = [rng.randint(1, 900) for _ in range(200)]
    crowd = json.dumps({"counts": runs, "size": [height, width]})
    with (folder / "instances.json").open("w") as file:
        file.write('{"info": {"year": 2017}, "licenses": [], "images": [')
        for number in range(len(objects)):
            name = f"{number:012}.jpg"
            file.write(
                f'{", " * (number > 0)}{{"license": 3, "file_name": "{name}", "coco_url": '
                f'"http://images.cocodataset.org/train2017/{name}", "height": {height}, "width": '
                f'{width}, "date_captured": "2013-11-14 11:18:45", "flickr_url": '
                f'"http://farm9.staticflickr.com/8186/{number:010}_87a8b9e65a_z.jpg", "id": '
                f"{number}}}"
            )
        file.write('], "annotations": [')
        for image, count in enumerate(objects):
            for _ in range(count):
                x, y, w, h = box(rng, kind)
                shape = crowd if at % 100 == 99 else rng.choice(shapes)
                file.write(
                    f'{", " * (at > 0)}{{"segmentation": {shape}, "area": {w * h * 0.61:.4f}, '
                    f'"iscrowd": {int(shape is crowd)}, "image_id": {image}, "bbox": [{x}.25, '
                    f'{y}.5, {w}.13, {h}.07], "category_id": {at % CLASSES + 1}, "id": {at}}}'
                )
                at += 1
        names = [{"id": i + 1, "name": f"class {i}"} for i in range(CLASSES)]
        file.write(f'], "categories": {json.dumps(names)}}}')
    link_pictures(kind, [folder / f"images/{i:012}.jpg" for i in range(len(objects))])


VOC_OBJECT = """
\t<object>
\t\t<name>{name}</name>
\t\t<pose>Left</pose>
\t\t<truncated>0</truncated>
\t\t<difficult>{difficult}</difficult>
\t\t<bndbox>
\t\t\t<xmin>{x}</xmin>
\t\t\t<ymin>{y}</ymin>
\t\t\t<xmax>{right}</xmax>
\t\t\t<ymax>{bottom}</ymax>
\t\t</bndbox>
\t</object>"""


def write_voc(kind: Kind, folder: Path, objects: list[int]) -> None:
    """An XML file for each image."""
    rng = random.Random(0)
    names = [f"2008_{number:06}" for number in range(len(objects))]
    for part in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets/Main/train.txt").write_text("\n".join(names))
    width, height = kind.size
    for name, count in zip(names, objects, strict=True):
        found = []
        for _ in range(count):
            x, y, w, h = box(rng, kind)
            edges = {"x": x + 1, "y": y + 1, "right": x + w, "bottom": y + h}
            difficult = int(rng.random() < 0.1)
            found.append(
                VOC_OBJECT.format(
                    name=rng.choice(["person", "car", "dog"]), difficult=difficult, **edges
                )
            )
        (folder / f"Annotations/{name}.xml").write_text(
            f"<annotation>\n\t<folder>VOC2012</folder>\n\t<filename>{name}.jpg</filename>\n"
            "\t<source>\n\t\t<database>The VOC2008 Database</database>\n\t</source>\n\t<size>\n"
            f"\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n"
            f"\t</size>\n\t<segmented>0</segmented>{''.join(found)}\n</annotation>\n"
        )
    link_pictures(kind, [folder / f"JPEGImages/{name}.jpg" for name in names])


def write_kitti(kind: Kind, folder: Path, objects: list[int]) -> None:
    """A text file for each frame, and a list of all."""
    rng = random.Random(0)
    names = [f"{number:06}" for number in range(len(objects))]
    for part in ("training/label_2", "ImageSets"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets/train.txt").write_text("\n".join(names))
    for name, count in zip(names, objects, strict=True):
        lines = []
        for _ in range(count):
            x, y, w, h = box(rng, kind)
            what = rng.choice(["Car", "Van", "Pedestrian", "Cyclist", "DontCare", "Truck"])
            edges = f"{x}.17 {y}.55 {x + w}.02 {y + h}.93"
            lines.append(f"{what} 0.00 1 -1.57 {edges} 1.67 1.87 3.69 -16.53 2.39 58.49 1.57\n")
        (folder / f"training/label_2/{name}.txt").write_text("".join(lines))
    link_pictures(kind, [folder / f"training/image_2/{name}.png" for name in names])


def write_widerface(kind: Kind, folder: Path, objects: list[int]) -> None:
    """One text file of all faces, with the images in 61 folders."""
    rng = random.Random(0)
    names = [f"{i % 61}--Event/{i % 61}_Event_{i:06}.jpg" for i in range(len(objects))]
    lines = []
    for name, count in zip(names, objects, strict=True):
        lines += [name, str(count)]
        faces = [f"{' '.join(map(str, box(rng, kind)))} 1 0 0 0 2 0 " for _ in range(count)]
        lines += faces or ["0 0 0 0 0 0 0 0 0 0 "]
    (folder / "wider_face_split").mkdir(parents=True)
    (folder / "wider_face_split/wider_face_train_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    link_pictures(kind, [folder / "WIDER_train/images" / name for name in names])


KINDS = (
    Kind("COCO", 118_287, 860_001, (640, 480), ".jpg", write_coco),
    Kind("VOC", 16_551, 47_223, (496, 376), ".jpg", write_voc),
    Kind("KITTI", 7_481, 51_865, (1240, 376), ".png", write_kitti),
    Kind("WIDER FACE", 12_880, 159_424, (1024, 768), ".jpg", write_widerface),
)


# -- one reading, in a process of its own ---------------------------------------------------------


def open_limbeck(name: str, folder: Path) -> tuple[Callable[[], object], Callable[[object], None]]:
    """What opens a dataset with limbeck, and what goes through the targets of its images."""
    import torch

    from limbeck import data
    from limbeck.data import annotated

    pixels = torch.zeros(3, 1, 1, dtype=torch.uint8)
    opened = {
        "COCO": lambda: data.COCO(folder / "images", folder / "instances.json"),
        "VOC": lambda: data.VOC(folder, "train"),
        "KITTI": lambda: data.KITTI(folder, "train"),
        "WIDER FACE": lambda: data.WIDERFace(folder, "train"),
    }[name]

    def touch(dataset: object, most: int | None = None) -> None:
        annotated.to_rgb = lambda file: pixels.expand(3, file.height, file.width)
        for index in range(len(dataset) if most is None else min(most, len(dataset))):
            dataset[index]

    return opened, touch


def open_pycocotools(folder: Path) -> tuple[Callable[[], object], Callable[[object], None]]:
    """The same with pycocotools."""
    from pycocotools.coco import COCO

    def touch(dataset: object, most: int | None = None) -> None:
        for image in sorted(dataset.imgs)[:most]:
            dataset.loadAnns(dataset.getAnnIds(imgIds=[image]))

    return lambda: COCO(folder / "instances.json"), touch


def memory(file: str, key: str) -> float:
    """A number of a file of ``/proc/self``, in MiB."""
    lines = Path("/proc/self", file).read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def grown_in_a_worker(touch: Callable[..., None], dataset: object) -> float:
    """By how much the private memory of a forked process grows, in MiB."""
    reading, writing = os.pipe()
    if not (worker := os.fork()):
        touch(dataset, TOUCHED_BEFORE)
        before = memory("smaps_rollup", "Private_Dirty")
        touch(dataset)
        grown = memory("smaps_rollup", "Private_Dirty") - before
        os.write(writing, str(grown).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        grown = float(pipe.read())
    os.waitpid(worker, 0)
    return grown


def read(reader: str, name: str, folder: Path) -> dict[str, float]:
    """Open a dataset once, and measure it."""
    known = reader == "pycocotools"
    opened, touch = open_pycocotools(folder) if known else open_limbeck(name, folder)
    imported = memory("status", "VmHWM")
    cpu, wall = time.process_time(), time.perf_counter()
    dataset = opened()
    took = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    peak = memory("status", "VmHWM")
    return took | {
        "imported": imported,
        "peak": peak,
        "worker": grown_in_a_worker(touch, dataset),
    }


# -- the table ------------------------------------------------------------------------------------


def measured(
    kind: Kind, folder: Path, readers: dict[str, str], rounds: int
) -> dict[str, list[dict[str, float]]]:
    """The readings of each reader, which take turns; ``readers`` has the ``src`` of each."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in readers}
    for _ in range(rounds):
        for name, source in readers.items():
            paths = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
            command = [sys.executable, __file__, "--read", name, kind.name, str(folder)]
            done = subprocess.run(
                command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True
            )
            if done.returncode:
                sys.exit(f"{name} does not read {kind.name}:\n{done.stderr}")
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def lines(kind: Kind, images: int, objects: int, found: dict[str, list[dict[str, float]]]) -> str:
    """A line of the table for each reader."""
    text = []
    for name, readings in found.items():
        cpu, wall, imported, peak, worker = (
            statistics.median(reading[key] for reading in readings)
            for key in ("cpu", "wall", "imported", "peak", "worker")
        )
        cells = [kind.name, f"{images:,}", f"{objects:,}", name, f"{cpu:.2f}", f"{wall:.2f}"]
        cells += [f"{imported:,.0f}", f"{peak:,.0f}", f"{worker:,.1f}"]
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join(text)


HEAD = """\
| dataset | images | objects | reader | CPU s | wall s | MiB after imports | peak, MiB | more a \
worker, MiB |
|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Generate, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the published sizes")
    parser.add_argument("--rounds", type=int, default=2)
    names = [kind.name for kind in KINDS]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--beside", help="src folder of another version of limbeck")
    parser.add_argument(
        "--write", action="store_true", help="into docs/results/performance.md as well"
    )
    parser.add_argument("--read", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        reader, name, folder = options.read
        print(json.dumps(read(reader, name, Path(folder))))
        return
    from importlib.util import find_spec

    from measuring import conditions
    from measuring import write as write_table

    readers = {"limbeck": ""} | ({"limbeck before": options.beside} if options.beside else {})
    text = [f"Medians of {options.rounds} rounds, {conditions()}.", "", HEAD]
    print("\n".join(text), flush=True)
    for kind in KINDS:
        if kind.name not in options.only:
            continue
        of_kind = readers
        if kind.name == "COCO" and find_spec("pycocotools"):
            of_kind = readers | {"pycocotools": ""}
        with tempfile.TemporaryDirectory() as folder:
            objects = counts(kind, max(2, round(kind.images * options.scale)))
            kind.write(kind, Path(folder), objects)
            found = measured(kind, Path(folder), of_kind, options.rounds)
        text.append(lines(kind, len(objects), sum(objects), found))
        print(text[-1], flush=True)
    if options.write:
        write_table("benchmarks/annotations.py", "\n".join(text))


if __name__ == "__main__":
    main()
