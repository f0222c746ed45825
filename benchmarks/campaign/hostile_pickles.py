"""Pickles that name functions, through every verb that reads weights or checkpoints."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from campaign import pickles
from campaign.attack import BAIT, Hostile, Words
from campaign.sound import Sound


def attacks(sound: Sound) -> Iterator[Hostile]:
    """Every function in every file, and a few as checkpoints and as weights of a recipe."""
    for number, function in enumerate(pickles.FUNCTIONS):
        for kind, write in pickles.FILES.items():
            ways = list(pickles.WAYS.values())
            way = ways[(number + len(kind)) % len(ways)]
            verb = ("inspect", "convert")[number % 2]
            title = f"{kind} names {function[0]}.{function[1]}"
            yield Hostile(title, 1, _evil_file(function, way, kind, write, verb), refused=True)
    for number, function in enumerate(pickles.FUNCTIONS[:12]):
        way = list(pickles.WAYS.values())[number % 4]
        yield Hostile(
            f"last.ckpt names {function[0]}.{function[1]}",
            1,
            _evil_run(sound, function, way, "resume"),
            refused=True,
        )
        yield Hostile(
            f"--ckpt_path names {function[0]}.{function[1]}",
            1,
            _evil_run(sound, function, way, "validate"),
            refused=True,
        )
    for function in pickles.FUNCTIONS[:6]:
        yield Hostile(
            f"a recipe's weights name {function[0]}.{function[1]}",
            1,
            _evil_weights(sound, function),
            refused=True,
        )


def _filled(folder: Path, function: tuple[str, str, str]) -> tuple[str, str, str]:
    """With a canary, a bait and a script of this folder."""
    bait = folder / BAIT
    bait.write_text("bait")
    script = folder / "script.py"
    script.write_text(f"open({str(folder / 'canary')!r}, 'w')")
    module, name, argument = function
    return (
        module,
        name,
        argument.format(canary=str(folder / "canary"), bait=str(bait), script=str(script)),
    )


def _evil_file(
    function: tuple[str, str, str], way: Any, kind: str, write: Any, verb: str
) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        path = write(way(*_filled(folder, function)), folder / kind)
        return (verb, path) if verb == "inspect" else (verb, path, folder / "out.safetensors")

    return make


def _evil_run(
    sound: Sound, function: tuple[str, str, str], way: Any, verb: str
) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        shutil.copytree(sound.run, folder / "run")
        last = folder / "run/checkpoints/last.ckpt"
        pickles.in_zip(way(*_filled(folder, function)), last)
        if verb == "resume":
            return "fit", "--resume", folder / "run"
        return "validate", "--config", sound.folder / "run.yaml", "--ckpt_path", last

    return make


def _evil_weights(sound: Sound, function: tuple[str, str, str]) -> Callable[[Path], Words]:
    def make(folder: Path) -> Words:
        path = pickles.in_zip(pickles.by_global(*_filled(folder, function)), folder / "evil.pth")
        return (
            "validate",
            "--config",
            sound.folder / "run.yaml",
            "--model.student.init_args.weights",
            path,
        )

    return make
