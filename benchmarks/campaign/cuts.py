"""Cut and flipped files of every kind that limbeck reads, through the verb that reads it."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from campaign import material
from campaign.results import Result
from campaign.sandbox import GIB, Limits, limbeck
from campaign.sound import Sound

Words = tuple[object, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: Of the kind.
        file: The sound file, in its folder, which is damaged and restored.
        words: What reads it.
        fresh: A folder that is copied anew for each try, where the verb writes into it.
        sealed: Whether a checksum has to see every change.
    """

    name: str
    file: Path
    words: Words
    fresh: Path | None = None
    sealed: bool = False


def kinds(sound: Sound, folder: Path) -> Iterator[Kind]:
    """All of them, in copies under ``folder``."""
    student = shutil.copytree(sound.student, folder / "student")
    predicted = ("predict", student, sound.images / "a.png", "--output", folder / "out")
    yield Kind("student.safetensors", student / "student.safetensors", predicted, sealed=True)
    yield Kind("student.json", student / "student.json", predicted)
    run = shutil.copytree(sound.run, folder / "run")
    resumed = ("fit", "--resume", run)
    for name in ("checkpoints/last.ckpt", "config.yaml", "metrics.csv"):
        sealed = name.endswith("last.ckpt")
        yield Kind(f"{Path(name).name}, resumed", run / name, resumed, run, sealed)
    best = run / "checkpoints/best.ckpt"
    yield Kind(
        "best.ckpt", best, ("validate", "--config", sound.folder / "run.yaml", "--ckpt_path", best)
    )
    yield from _weights(sound, folder)
    recipe = Path(shutil.copy(sound.folder / "run.yaml", folder / "recipe.yaml"))
    yield Kind("recipe, validate", recipe, ("validate", "--config", recipe))
    yield Kind("recipe, inspect", recipe, ("inspect", recipe))
    yield from _data(folder)
    for path in sorted(sound.images.iterdir()):
        copy = Path(shutil.copy(path, folder / path.name))
        words = ("predict", sound.student, copy, "--output", folder / "out")
        yield Kind(f"image {path.suffix}", copy, words)


def _weights(sound: Sound, folder: Path) -> Iterator[Kind]:
    names = {
        "zip.pth": "torch zip",
        "legacy.pth": "torch legacy",
        "d2_narrow.pkl": "Detectron2's .pkl",
        "mm_narrow.pth": "mmdetection's .pth",
        "dark.weights": "darknet's .weights",
    }
    for name, kind in names.items():
        path = Path(shutil.copy(sound.folder / name, folder / name))
        yield Kind(f"{kind}, inspect", path, ("inspect", path))
    beside = folder / "d2"
    beside.mkdir()
    model = Path(shutil.copy(sound.folder / "detectron2.pkl", beside / "model.pkl"))
    config = Path(shutil.copy(sound.folder / "detectron2.yaml", beside / "model.yaml"))
    words = ("convert", model, folder / "out.safetensors")
    yield Kind("Detectron2's configuration, convert", config, words)
    beside = folder / "mm"
    beside.mkdir()
    model = Path(shutil.copy(sound.folder / "mmdetection.pth", beside / "model.pth"))
    config = Path(shutil.copy(sound.folder / "mmdetection.py", beside / "model.py"))
    words = ("convert", model, folder / "out.safetensors")
    yield Kind("mmdetection's configuration, convert", config, words)


def _data(folder: Path) -> Iterator[Kind]:
    layouts = {
        "COCO's JSON": (material.coco, "ann.json"),
        "VOC's XML": (material.voc, "Annotations/0000.xml"),
        "VOC's list": (material.voc, "ImageSets/Main/val.txt"),
        "KITTI's text": (material.kitti, "training/label_2/000000.txt"),
        "WIDER FACE's text": (material.wider_face, "wider_face_split/wider_face_val_bbx_gt.txt"),
    }
    for kind, (make, name) in layouts.items():
        root = folder / kind.replace(" ", "_").replace("'", "")
        yield Kind(kind, root / name, _validated(make(root), root))
    for number, kind in enumerate(("WIDER FACE's .mat", "WIDER FACE's .mat, uncompressed")):
        root = folder / f"matlab{number}"
        data = material.wider_face(root, matlab=True, compressed=not number)
        yield Kind(kind, root / "wider_face_split/wider_face_val.mat", _validated(data, root))
        lists = data["init_args"]["ground_truth"]
        yield Kind(f"{kind}: lists", Path(lists, "wider_hard_val.mat"), _validated(data, root))
    root = folder / "image_folder"
    data = material.image_folder(root / "data")
    stated = material.recipe(data, data, material.network())
    words = ("validate", "--config", material.write_recipe(root / "recipe.yaml", stated))
    yield Kind("a picture of a dataset", root / "data/red/002.png", words)


def _validated(data: material.Recipe, root: Path) -> Words:
    classes = 1 if data["class_path"].endswith("WIDERFace") else 3
    stated = material.recipe(data, data, material.detector(num_classes=classes))
    return "validate", "--config", material.write_recipe(root / "recipe.yaml", stated)


def mutations(content: bytes, count: int, dice: random.Random) -> Iterator[tuple[str, bytes]]:
    """Cuts at random places, the first few bytes among them, and as many flips of a byte."""
    size = len(content)
    for number in range(count):
        # A file has its structure at its beginning and its end.
        edge = min(size, 512)
        place = (dice.randrange(size), dice.randrange(edge), size - 1 - dice.randrange(edge))[
            number % 3
        ]
        yield f"cut at {place}", content[:place]
        place = (dice.randrange(size), dice.randrange(edge), size - 1 - dice.randrange(edge))[
            number % 3
        ]
        byte = content[place] ^ (1 << dice.randrange(8) if number % 2 else dice.randrange(1, 256))
        yield f"byte {place} is {byte}", content[:place] + bytes([byte]) + content[place + 1 :]


def campaign(
    folder: Path, sound: Sound, count: int, seed: int, tell: Callable[[str], None], only: str = ""
) -> Result:
    """So many cuts and as many flips of each kind.

    Args:
        folder: To work in; what failed stays in ``folder/kept``.
        sound: Files to start from.
        count: Cuts, and flips, of each kind.
        seed: Of the places.
        tell: Takes a line at a time.
        only: A word in the names of the kinds that are tried.
    """
    result = Result("cut and flipped files", point=7)
    names = ("code", "programs", "network", "above 2 GB", "above 30 s", "crash", "traceback")
    result.counts = dict.fromkeys(names, 0)
    work, kept = folder / "work", folder / "kept"
    work.mkdir(parents=True)
    kept.mkdir()
    for kind in kinds(sound, work):
        if only not in kind.name:
            continue
        content = kind.file.read_bytes()
        saved = None if kind.fresh is None else shutil.copytree(kind.fresh, folder / "saved")
        outcome = limbeck(kind.words, work)
        if outcome.code != 0:
            result.failed[f"{kind.name}: as it is"] = (
                f"the sound file fails: {outcome.output[-300:]}"
            )
            tell(f"{kind.name}: the sound file fails: {outcome.said}")
        dice = random.Random(f"{seed} {kind.name}")
        seen: dict[str, int] = {}
        for number, (what, mutated) in enumerate(mutations(content, count, dice)):
            if kind.fresh is not None and saved is not None:
                shutil.rmtree(kind.fresh)
                shutil.copytree(saved, kind.fresh)
            kind.file.write_bytes(mutated)
            outcome = limbeck(kind.words, work, Limits(room=3 * GIB))
            result.tried += 1
            found = [*outcome.faults, *(["code"] if (work / "canary").exists() else [])]
            if kind.sealed and outcome.code == 0:
                found.append("not seen")
            elif kind.sealed and kind.file.name not in outcome.output:
                found.append("file not named")
            if found:
                result.count(found)
                example = kept / f"{kind.name.replace(' ', '_').replace('/', '_')}.{number}"
                example.write_bytes(mutated)
                said = outcome.said.split(":")[0][:60]
                seen[said] = seen.get(said, 0) + 1
                where = f"`cp {example} {kind.file}; limbeck {' '.join(map(str, kind.words))}`"
                point = 6 if "resumed" in kind.name else 7 if found != ["traceback"] else 9
                how = f"[{point}] {', '.join(found)}; {where}: {outcome.said[:200]}"
                result.failed[f"{kind.name}: {what}"] = how
        kind.file.write_bytes(content)
        if saved is not None and kind.fresh is not None:
            shutil.rmtree(kind.fresh)
            shutil.move(saved, kind.fresh)
        tell(f"{kind.name}: {sum(seen.values())} of {2 * count} failed {seen or ''}")
    return result
