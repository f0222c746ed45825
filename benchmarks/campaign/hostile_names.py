"""Names that are paths, markup, keys and YAML; links that lead elsewhere."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from campaign import material
from campaign.attack import Check, Hostile, Words, predicted, read_by, student_with, validated
from campaign.sandbox import Outcome
from campaign.sound import Sound

ABSOLUTE = Path("/tmp/campaign_absolute")  # one of the names
NAMES = (
    "../../x",
    "x/../../../x",
    str(ABSOLUTE),
    "a/b",
    "..",
    ".",
    "con",
    "NUL.txt",
    "a\\b",
    "[bold]",
    "[/red]",
    "sign [/red]",
    "[link=http://bait.example]",
    "a\nb: c",
    "a: b",
    "- a",
    "{a}",
    "*a",
    "&a",
    "!!python/name:os.system",
    "'",
    '"',
    "#",
    "%s",
    "{0}",
    "a,b",
    "a\tb",
    "\x1b[31mred",
    "\x00",
    " ",
    "é",
    "e\u0301",
    "\u202egnp.exe",
    "x" * 300,
    "True",
    "null",
    "1e3",
    "~",
    "AP",
    "AP/x",
    "=1+1",
    "train/total",
    "Red",
    "red",
    "red ",
    "😀",
    "\ud800",
)


def attacks(sound: Sound) -> Iterator[Hostile]:
    """Names of classes and of pictures, and folders that are named twice."""
    for name in NAMES:
        shown = ascii(name)[:40]
        yield Hostile(
            f"a class {shown}: validate --detections", 3, _class_named(name), _inside("detections")
        )
        yield Hostile(
            f"a class {shown}: fit, predict, and the student", 3, _class_fit(name), _inside("run")
        )
        yield Hostile(
            f"a class {shown}: convert to Detectron2",
            3,
            _class_converted(sound, name),
            _yaml_whole(),
        )
    for number, pair in enumerate(
        (
            ("a/b", "a_b"),
            ("a b", "a_b"),
            ("x" * 300, "x" * 300 + "y"),
            ("Red", "red"),
            ("a:b", "a_b"),
            ("é", "e\u0301"),
        )
    ):
        yield Hostile(
            f"classes that are equal after escaping, {number}: {ascii(pair)[:60]}",
            3,
            _class_named(*pair),
            _files_of_classes,
        )
    for name in (
        "[bold].png",
        "[red].png",
        "a\nb.png",
        " .png",
        "-x.png",
        "--output.png",
        "é.png",
        "x" * 200 + ".png",
        "%s.png",
        "a'b.png",
        "\x1b[31m.png",
    ):
        yield Hostile(f"a picture called {ascii(name)[:40]}", 3, _picture_named(sound, name))
    yield Hostile(
        "predict onto its own pictures", 3, _onto_itself(sound), _pictures_kept, refused=True
    )
    yield Hostile(
        "predict onto its own pictures by a link",
        3,
        _onto_itself(sound, link=True),
        _pictures_kept,
        refused=True,
    )
    yield Hostile("predict onto the student", 3, lambda f: _onto_student(sound, f), _student_kept)
    yield Hostile("predict with --output a file", 9, lambda f: _output_file(sound, f), refused=True)
    yield Hostile(
        "two pictures of one name but for case or suffix", 3, lambda f: _same_stem(sound, f)
    )


def _dataset_of(folder: Path, *names: str) -> material.Recipe:
    data = material.coco(folder / "coco", 8)
    content = json.loads((folder / "coco/ann.json").read_text())
    for number, name in enumerate(names):
        content["categories"][number]["name"] = name
    (folder / "coco/ann.json").write_text(json.dumps(content))
    return data


def _class_named(*names: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        words = validated(folder, _dataset_of(folder, *names))
        return (*words, "--detections", folder / "deep/er/detections")

    return make


def _class_fit(name: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        data = _dataset_of(folder, name)
        train = data | {"init_args": data["init_args"] | {"training": True}}
        path = material.write_recipe(folder / "recipe.yaml", material.recipe(train, data))
        return "fit", "--config", path, "--trainer.default_root_dir", folder / "deep/er/run"

    return make


def _class_converted(sound: Sound, name: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        shutil.copytree(sound.folder / "resnet", folder / "student")
        card = json.loads((folder / "student/student.json").read_text())
        card["classes"][0] = name
        (folder / "student/student.json").write_text(json.dumps(card))
        (folder / "deep/er").mkdir(parents=True)
        return "convert", folder / "student", folder / "deep/er/out.pkl", "--to", "detectron2"

    return make


def _inside(name: str) -> Check:
    """Nothing but the folder that was given, flat; the console shows names as they are."""

    def check(folder: Path, outcome: Outcome) -> list[str]:
        given = folder / "deep/er" / name
        written = (path for path in (folder / "deep").rglob("*") if path.is_file())
        beside = {path.name for path in written if given not in path.parents}
        above = {path.name for path in folder.iterdir()} - {"coco", "recipe.yaml", "deep"}
        absolute = {str(path) for path in (ABSOLUTE,) if path.exists()}
        outside = sorted(beside | above | absolute)
        found = [f"wrote outside: {outside}"] if outside else []
        files = [path for path in given.rglob("*") if path.is_file()]
        if name == "detections" and outcome.code == 0:
            flat = [path for path in files if path.parent.name == name]
            if not len(flat) == len(files) == len(material.CLASSES):
                found.append(f"{len(flat)} files in the folder, {len(files)} in all, for 3 classes")
        return found

    return check


def _yaml_whole() -> Check:
    def check(folder: Path, outcome: Outcome) -> list[str]:
        import yaml

        beside = folder / "deep/er/out.yaml"
        if outcome.code != 0 or not beside.exists():
            return []
        try:
            keys = set(yaml.safe_load(beside.read_text()))
        except yaml.YAMLError as error:
            return [f"the written configuration is no YAML ({type(error).__name__})"]
        keys -= {"MODEL", "VERSION", "INPUT", "TEST", "DATASETS"}
        return [f"the written configuration has the keys {sorted(map(str, keys))}"] if keys else []

    return check


def _files_of_classes(folder: Path, outcome: Outcome) -> list[str]:
    files = [p for p in (folder / "deep/er/detections").rglob("*") if p.is_file()]
    lower = {str(p).lower() for p in files}
    return [] if outcome.code or len(lower) == 3 else [f"{len(lower)} files for 3 classes"]


def _picture_named(sound: Sound, name: str) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        (folder / "in").mkdir()
        shutil.copy(sound.images / "a.png", folder / "in" / name)
        return predicted(sound, folder / "in")

    return make


def _onto_itself(sound: Sound, *, link: bool = False) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        (folder / "in").mkdir()
        shutil.copy(sound.images / "a.png", folder / "in/a.png")
        (folder / "hash").write_text(sha256((folder / "in/a.png").read_bytes()).hexdigest())
        (folder / "link").symlink_to("in") if link else None
        return (
            "predict",
            sound.student,
            folder / "in",
            "--output",
            folder / ("link" if link else "in"),
            "--threshold",
            0,
        )

    return make


def _pictures_kept(folder: Path, _: Outcome) -> list[str]:
    same = sha256((folder / "in/a.png").read_bytes()).hexdigest() == (folder / "hash").read_text()
    return [] if same else ["the photograph was overwritten"]


def _onto_student(sound: Sound, folder: Path) -> Words:
    shutil.copytree(sound.student, folder / "student")
    shutil.copy(sound.images / "a.png", folder / "student.png")
    return (
        "predict",
        folder / "student",
        folder / "student.png",
        "--output",
        folder / "student",
        "--threshold",
        0,
    )


def _student_kept(folder: Path, _: Outcome) -> list[str]:
    found = {p.name for p in (folder / "student").iterdir()}
    return [] if {"student.json", "student.safetensors"} <= found else ["the student is gone"]


def _output_file(sound: Sound, folder: Path) -> Words:
    (folder / "out").write_text("")
    return "predict", sound.student, sound.images / "a.png", "--output", folder / "out"


def _same_stem(sound: Sound, folder: Path) -> Words:
    (folder / "in").mkdir()
    for name in ("a.png", "A.PNG", "b.png"):
        shutil.copy(sound.images / "a.png", folder / "in" / name)
    return predicted(sound, folder / "in")


def links(sound: Sound) -> Iterator[Hostile]:
    """Links and pipes where files are expected."""

    def weights(folder: Path) -> Words:
        student = student_with(sound, folder, lambda _: None)
        (student / "student.safetensors").rename(folder / "bait.safetensors")
        (student / "student.safetensors").symlink_to(folder / "bait.safetensors")
        return read_by("predict", student, sound)

    def card(folder: Path) -> Words:
        student = student_with(sound, folder, lambda _: None)
        (student / "student.json").unlink()
        (student / "student.json").symlink_to("/etc/passwd")
        return read_by("predict", student, sound)

    def endless(name: str) -> Callable[[Path], Words]:
        def make(folder: Path) -> Words:
            student = student_with(sound, folder, lambda _: None)
            (student / name).unlink()
            (student / name).symlink_to("/dev/zero")
            return read_by("predict", student, sound)

        return make

    def pipe(folder: Path) -> Words:
        os.mkfifo(folder / "a.png")
        return predicted(sound, folder / "a.png")

    def pipe_weights(folder: Path) -> Words:
        os.mkfifo(folder / "a.pth")
        return "inspect", folder / "a.pth"

    def part(folder: Path) -> Words:
        (folder / "bait.txt").write_text("kept")
        (folder / "out").mkdir()
        (folder / "out/predictions.json").symlink_to(folder / "bait.txt")
        return "predict", sound.student, sound.images / "a.png", "--output", folder / "out"

    yield Hostile("student.safetensors is a link out of the folder", 1, weights, refused=True)
    yield Hostile("student.json is a link to /etc/passwd", 1, card, refused=True)
    yield Hostile("student.json is /dev/zero", 7, endless("student.json"), refused=True)
    yield Hostile(
        "student.safetensors is /dev/zero", 7, endless("student.safetensors"), refused=True
    )
    yield Hostile("a picture that is a pipe", 7, pipe, refused=True)
    yield Hostile("weights that are a pipe", 7, pipe_weights, refused=True)
    yield Hostile("predictions.json is a link to another file", 3, part, _link_kept)


def _link_kept(folder: Path, _: Outcome) -> list[str]:
    return [] if (folder / "bait.txt").read_text() == "kept" else ["wrote through a link"]
