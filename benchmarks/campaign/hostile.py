"""Files made to run code, to start programs, to reach elsewhere, or to take all memory."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from campaign import hostile_bombs, hostile_cards, hostile_names, hostile_pickles, hostile_pictures
from campaign.attack import BAIT, Hostile
from campaign.results import Result
from campaign.sandbox import GIB, Limits, limbeck
from campaign.sound import Sound


def everything(sound: Sound) -> Iterator[Hostile]:
    """All of them."""
    yield from hostile_pickles.attacks(sound)
    yield from hostile_cards.attacks(sound)
    yield from hostile_bombs.attacks(sound)
    yield from hostile_bombs.absurd_numbers(sound)
    yield from hostile_pictures.attacks(sound)
    yield from hostile_names.attacks(sound)
    yield from hostile_names.links(sound)


def campaign(
    folder: Path, sound: Sound, share: float, tell: Callable[[str], None], only: str = ""
) -> Result:
    """Every hostile file, or of a small campaign every third.

    Args:
        folder: To work in.
        sound: Files to start from.
        share: Of the files that are tried.
        tell: Takes a line at a time.
        only: A word in the names of those that are tried.
    """
    result = Result("hostile files")
    names = (
        "code",
        "programs",
        "network",
        "outside",
        "above 2 GB",
        "above 30 s",
        "crash",
        "traceback",
    )
    result.counts = dict.fromkeys(names, 0)
    gs = _fake_programs(folder)
    each_of = [h for h in everything(sound) if only in h.name]
    for number, hostile in enumerate(each_of[:: max(1, round(1 / share))]):
        place = folder / f"{number:03}"
        place.mkdir(parents=True)
        words = hostile.make(place)
        path = f"{gs}{os.pathsep}{os.environ.get('PATH', '')}"
        environment = {
            "PATH": path,
            "CANARY": str(place / "canary"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HOME": str(place / "home"),
            "TORCH_HOME": str(place / "home"),
            "HF_HOME": str(place / "home"),
        }
        limits = Limits(environment, bait=f"{place.name}/{BAIT}", room=hostile.room)
        outcome = limbeck(words, place, limits, patience=90)
        found = [*outcome.faults]
        if (place / "canary").exists():
            found.append("code")
        if hostile.refused and outcome.code == 0:
            found.append("accepted")
        if hostile.check is not None and not found:
            found += hostile.check(place, outcome)
        result.tried += 1
        if found:
            key = (
                hostile.name if hostile.name not in result.failed else f"{hostile.name} ({number})"
            )
            how = f"`limbeck {' '.join(str(w) for w in words)}`"
            more = "; ".join([*outcome.started, *outcome.connected, *outcome.opened])[:200]
            end = outcome.signal or outcome.code
            what = f"{outcome.memory / GIB:.1f} GiB, {outcome.seconds:.0f} s, exit {end}"
            result.failed[key] = (
                f"[{hostile.point}] {', '.join(found)} ({what}); {how}: {more} {outcome.said[:200]}"
            )
            result.count([name for name in found if name in names])
            tell(f"{key}: {result.failed[key]}")
        else:
            shutil.rmtree(place)
    return result


def _fake_programs(folder: Path) -> Path:
    """Programs that pictures may start, which leave a canary where they are."""
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name in ("gs", "gswin64c", "djpeg", "ppmquant", "xdg-open"):
        path = programs / name
        path.write_text('#!/bin/sh\ntouch "$CANARY"\n')
        path.chmod(0o755)
    return programs
