"""Cards of students that name code, addresses and files, or are malformed."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from campaign import card_texts, pickles
from campaign.attack import BAIT, Hostile, Words, read_by, student_with
from campaign.sound import Sound


def attacks(sound: Sound) -> Iterator[Hostile]:
    """Whatever a card can name, and cards that are none."""
    for verb in ("predict", "inspect", "teacher"):
        for trust in (True, False):
            title = f"student.json names load_student, trust {trust}, of an inner folder, in {verb}"
            yield Hostile(title, 1, _inner(sound, verb, trust), refused=True)
    for number, (path, arguments) in enumerate(card_texts.CALLABLES):
        verb = ("predict", "inspect")[number % 2]
        title = f"student.json names {path}({', '.join(arguments)}) in {verb}"
        yield Hostile(title, 1, _named(sound, path, arguments, verb), refused=True)
    for path, arguments in card_texts.AUGMENTATIONS:
        title = f"student.json's augmentation is {path}"
        yield Hostile(title, 1, _augmented(sound, path, arguments), refused=True)
    for name, change in card_texts.MALFORMED.items():
        for verb in ("predict", "inspect"):
            yield Hostile(
                f"malformed student.json in {verb}: {name}",
                9,
                _malformed(sound, change, verb),
                refused=name not in card_texts.LENIENT,
            )


# Callables of the three trusted packages that fetch, open, or run more than they build.


def _inner(sound: Sound, verb: str, trust: bool) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        inner = folder / "inner"
        inner.mkdir()
        command = f"touch {folder / 'canary'}"
        card = json.loads((sound.student / "student.json").read_text())
        card["build"] = {"class_path": "os.system", "init_args": {"command": command}}
        (inner / "student.json").write_text(json.dumps(card))
        shutil.copy(sound.student / "student.safetensors", inner)
        arguments: dict[str, Any] = {"folder": str(inner)} | ({"trust": True} if trust else {})
        build = {"class_path": "limbeck.models.load_student", "init_args": arguments}
        return read_by(
            verb, student_with(sound, folder, lambda card: card.update(build=build)), sound
        )

    return make


def _filled_arguments(folder: Path, arguments: Any) -> Any:
    """Canary and bait in every text of the arguments; what is baited with exists."""
    shutil.rmtree(folder / "bait_dir", ignore_errors=True)
    (folder / "bait_dir").mkdir()
    (folder / "bait_dir/hubconf.py").write_text(f"open({str(folder / 'canary')!r}, 'w')")
    (folder / "bait_dir/config.json").write_text('{"architecture": "resnet18"}')
    (folder / "bait.pth").write_bytes(
        pickles.by_global("os", "system", f"touch {folder / 'canary'}")
    )
    text = json.dumps(arguments)
    return json.loads(
        text.replace("{canary}", str(folder / "canary")).replace("{bait}", str(folder / BAIT))
    )


def _named(
    sound: Sound, path: str, arguments: dict[str, Any], verb: str
) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        build = {"class_path": path, "init_args": _filled_arguments(folder, arguments)}
        return read_by(
            verb, student_with(sound, folder, lambda card: card.update(build=build)), sound
        )

    return make


def _augmented(sound: Sound, path: str, arguments: dict[str, Any]) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        stated = {"class_path": path, "init_args": _filled_arguments(folder, arguments)}
        return read_by(
            "predict",
            student_with(sound, folder, lambda card: card["metadata"].update(augmentation=stated)),
            sound,
        )

    return make


def _malformed(
    sound: Sound, change: Callable[[dict[str, Any]], Any], verb: str
) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        return read_by(verb, student_with(sound, folder, change), sound)

    return make
