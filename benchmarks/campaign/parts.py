"""The kinds of the campaign, and how much of each its three sizes try."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from campaign import cases, cuts, disks, hostile, kills, recipes, signals, sound, targets
from campaign.results import Result

# Takes a folder to work in, how much is tried, and a seed.
Kind = Callable[[Path, "Size", int], list[Result]]


@dataclass(frozen=True)
class Size:
    """How much is tried.

    Attributes:
        kills: In each setting, at random moments, and between two writes.
        mutations: Cuts, and as many flips, of each format.
        share: Of the bad recipes and the hostile files.
        disks: Full disks.
    """

    kills: int
    mutations: int
    share: float
    disks: int


SIZES = {
    "small": Size(kills=6, mutations=6, share=1 / 3, disks=3),
    "medium": Size(kills=15, mutations=40, share=1, disks=9),
    "large": Size(kills=40, mutations=200, share=1, disks=9),
}


def tell(line: str) -> None:
    """As it comes: a campaign takes minutes to hours."""
    print(f"  {line}", flush=True)


def _windows(folder: Path, size: Size, seed: int) -> list[Result]:
    made = sound.make(folder.with_name("sound"))
    return [kills.at_writes(folder, made, 2 * size.kills, seed, tell)]


def _kills(setting: kills.Setting) -> Kind:
    def campaign(folder: Path, size: Size, seed: int) -> list[Result]:
        made = sound.make(folder.with_name("sound"))
        return kills.at_random_moments(folder, made, setting, size.kills, seed, tell)

    return campaign


def _signals(folder: Path, size: Size, seed: int) -> list[Result]:
    made = sound.make(folder.with_name("sound"))
    return signals.campaign(folder, made, size.kills, seed, tell)


def _cuts(folder: Path, size: Size, seed: int) -> list[Result]:
    made = sound.make(folder.with_name("sound"))
    return [cuts.campaign(folder, made, size.mutations, seed, tell)]


def _hostile(folder: Path, size: Size, _seed: int) -> list[Result]:
    made = sound.make(folder.with_name("sound"))
    return [hostile.campaign(folder, made, size.share, tell)]


def _recipes(folder: Path, size: Size, _seed: int) -> list[Result]:
    return [recipes.campaign(folder, size.share, tell)]


def _targets(folder: Path, size: Size, _seed: int) -> list[Result]:
    return [targets.campaign(folder, size.share, tell)]


def _disks(folder: Path, size: Size, _seed: int) -> list[Result]:
    made = sound.make(folder.with_name("sound"))
    return [disks.campaign(folder, made, size.disks, tell)]


def _cases(folder: Path, _size: Size, _seed: int) -> list[Result]:
    return [cases.campaign(folder, tell)]


KINDS: dict[str, Kind] = {
    "windows": _windows,
    "kills": _kills(kills.ONE_PROCESS),
    "processes": _kills(kills.TWO_PROCESSES),
    "nodes": _kills(kills.TWO_NODES),
    "signals": _signals,
    "cuts": _cuts,
    "hostile": _hostile,
    "recipes": _recipes,
    "targets": _targets,
    "disks": _disks,
    "cases": _cases,
}
