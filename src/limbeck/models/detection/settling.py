"""A detector's arguments, with none left open: as given, as its weights say, or as usual."""

import inspect
from collections.abc import Mapping
from typing import Any

from limbeck.models.build import LimbeckModel
from limbeck.models.weights import Source, open_weights, stated_by
from limbeck.presets import Preset, preset_of
from limbeck.ranges import POSITIVE, SHARE, SIDE, Range, refuse_outside, written

# What the arguments of all detectors may be, in any of them that has such an argument. The upper
# bounds are above all published models: numbers beyond them ask for more memory than there is.
_CHANNELS = Range(1, 2048)
_DETECTIONS = Range(1, 100_000)
_RANGES = {
    "num_classes": Range(1, 20_000),
    "levels": Range(0, 16),
    "width": Range(0, 4, open=True),
    "stem_channels": _CHANNELS,
    "fpn_channels": Range(1, 1024),
    "box_head_channels": Range(1, 8192),
    "extra_channels": _CHANNELS,
    "head_depth": Range(1, 32),
    "frozen_stages": Range(0),
    "anchor_sizes": Range(0, 1e6, open=True),
    "aspect_ratios": Range(0, 1e3, open=True),
    "scales": POSITIVE,
    "steps": POSITIVE,
    "image_size": SIDE,
    "min_size": SIDE,
    "max_size": SIDE,
    "dropout": Range(0, 1, open_above=True),
    "mean": Range(-1e3, 1),  # of images in [0, 1], and not in 0 to 255
    "std": Range(0, 1e3, open=True),
    "score_threshold": SHARE,
    "nms_threshold": SHARE,
    "detections_per_image": _DETECTIONS,
    "detections_per_class": _DETECTIONS,
    "topk_candidates": _DETECTIONS,
}


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
        ValueError: The weights cannot be read, there is no preset of that name, or a number is
            outside of the range of its argument.
    """
    parameters = inspect.signature(detector.__init__).parameters
    given = {name: scope[name] for name in parameters if name not in ("self", "weights")}
    refuse_impossible(given)
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


def refuse_impossible(given: Mapping[str, Any]) -> None:
    """Refuse arguments that no detector can be built of, before anything is read or built.

    Args:
        given: The arguments by their names.

    Raises:
        ValueError: An argument is outside of its range, or a list is empty.
    """
    refuse_outside(_RANGES, given)
    for name in ("anchor_sizes", "aspect_ratios"):
        if given.get(name) is not None and not given[name]:
            raise ValueError(
                f"{name} is {written(given[name])}; expected one or more of them. Give some, or "
                "leave it out for the usual ones."
            )


def first_not_none(*values: Any) -> Any:
    """The first value that is not None, or None where all are."""
    return next((value for value in values if value is not None), None)
