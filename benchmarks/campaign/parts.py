"""The kinds of the campaign, and how much of each its three sizes try."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from campaign import hostile, recipes, sound
from campaign.results import Result


@dataclass(frozen=True)
class Size:
    """How much is tried.

    Attributes:
        kills: In each setting, at random moments.
        mutations: Cuts, and as many flips, of each format.
        recipes: The share of the bad recipes.
        disks: Full disks.
    """

    kills: int
    mutations: int
    recipes: float
    disks: int


SIZES = {
    "small": Size(kills=6, mutations=6, recipes=1 / 3, disks=3),
    "medium": Size(kills=15, mutations=40, recipes=1, disks=9),
    "large": Size(kills=40, mutations=200, recipes=1, disks=9),
}


def tell(line: str) -> None:
    """As it comes: a campaign takes minutes to hours."""
    print(f"  {line}", flush=True)


def _recipes(folder: Path, size: Size, seed: int) -> list[Result]:
    return [recipes.campaign(folder, size.recipes, tell)]


def _hostile(folder: Path, size: Size, seed: int) -> list[Result]:
    made = sound.make(folder.with_name("sound"))
    return [hostile.campaign(folder, made, size.recipes, tell)]


KINDS: dict[str, Callable[[Path, Size, int], list[Result]]] = {
    "recipes": _recipes,
    "hostile": _hostile,
}
