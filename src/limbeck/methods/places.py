"""The places of two models that a method compares, and the modules that it has for each."""

from collections.abc import Mapping, Sequence
from functools import cache

from torch import nn

Places = Sequence[str] | Mapping[str, str]


def paired(places: Places) -> dict[str, str]:
    """The student's places and the teacher's, as a method's constructor takes them.

    Args:
        places: Places that both models have, such as ``["C4", "C5"]``, or
            ``{student's place: teacher's place}``.

    Returns:
        ``{student's place: teacher's place}``.

    Raises:
        TypeError: It is one string, which would be read letter by letter.
        ValueError: There are no places.
    """
    if isinstance(places, str):
        raise TypeError(f"places={places!r} is a string; expected a list of places: [{places!r}]")
    if not places:
        raise ValueError(
            f"places={places!r}: there is nothing to compare; expected one place or more. Give "
            "places such as `limbeck inspect` lists."
        )
    return dict(places) if isinstance(places, Mapping) else {place: place for place in places}


def are_of_classes(places: Places) -> bool:
    """Whether some are dense heads' maps of classes in both models, where channels are classes."""
    return any(ours == theirs == "cls_maps" for ours, theirs in paired(places).items())


class PlaceModules(nn.ModuleDict):
    """Modules by the place that they belong to, such as the adapters of a method.

    A place may have dots in its name (``C4.pre``, ``fpn.0``) and a module may not: ``C4_pre`` is
    what parameters and checkpoints call it. The model itself, ``""``, goes by ``<model>``.
    """

    def __getitem__(self, place: str) -> nn.Module:
        return super().__getitem__(_module_name(place))

    def __setitem__(self, place: str, module: nn.Module) -> None:
        super().__setitem__(_module_name(place), module)

    def __contains__(self, place: str) -> bool:
        return super().__contains__(_module_name(place))

    def at(self, place: str) -> nn.Module | None:
        """The module of a place, or of its first level where the place is a list over levels."""
        return next((self[name] for name in (place, f"{place}.0") if name in self), None)


@cache
def _module_name(place: str) -> str:
    name = place.replace(".", "_") or "<model>"
    return f"{name}_" if hasattr(PlaceModules(), name) else name  # such as ``keys``
