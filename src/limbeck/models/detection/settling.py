"""A detector's arguments, with none left open: as given, as its weights say, or as usual."""

import inspect
from collections.abc import Mapping
from typing import Any

from limbeck.models.build import LimbeckModel
from limbeck.models.weights import Source, open_weights, stated_by
from limbeck.presets import Preset, preset_of


def settle(
    detector: type[LimbeckModel],
    scope: Mapping[str, Any],
    usual: Mapping[str, Any] | None = None,
    presets: Mapping[Any, Preset] | None = None,
) -> tuple[Source, dict[str, Any]]:
    """Open the weights of a detector, and settle the arguments that the user left open (as None).

    An open argument gets the value that the weights state, otherwise the usual one. It is to be the
    first line of a constructor, since it takes ``locals()``.

    Args:
        detector: The class whose constructor calls this; it says its numerics.
        scope: The names in that constructor and their values, ``locals()``. Only the constructor's
            parameters are taken from it.
        usual: The usual values of further arguments, or of numerics where they depend on another
            argument, such as the backbone. Default (None): the class's numerics say all of them.
        presets: The presets that the detector has, by name. One of them is chosen by the argument
            ``preset``, and has the usual values of the numerics that are None otherwise. Default
            (None): the detector has no presets.

    Returns:
        The weights, opened, and all arguments without the weights.

    Raises:
        FileNotFoundError: There is no such file or folder of weights.
        ValueError: The weights cannot be read, or there is no preset of that name.
    """
    parameters = inspect.signature(detector.__init__).parameters
    given = {name: scope[name] for name in parameters if name not in ("self", "weights")}
    weights = open_weights(scope["weights"])
    stated = stated_by(weights, detector.numerics)
    usual = {**detector.numerics, **(usual or {})}
    if presets is not None:
        name = first_not_none(given["preset"], stated.get("preset"), usual["preset"])
        preset = preset_of(name, presets)
        usual = {n: getattr(preset, n, None) if v is None else v for n, v in usual.items()}
    settled = {
        n: first_not_none(given[n], stated.get(n), v) for n, v in usual.items() if n in given
    }
    return weights, given | settled


def first_not_none(*values: Any) -> Any:
    """The first value that is not None, or None where all are."""
    return next((value for value in values if value is not None), None)
