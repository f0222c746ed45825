"""Values in nested mappings, such as configurations are, and what is wrong with them."""

import ast
import reprlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

Triple = tuple[float, float, float]

# Beyond what any detector has: sizes in pixels, numbers of classes and of detections, and how many
# there are in a list. What is computed from them stays small, then.
_LARGEST = 1e6
_LONGEST = 100
_LONGEST_TEXT = 10_000  # characters of numbers


def at(config: Any, place: str, kind: type | None = None) -> Any:
    """The value at dotted keys.

    Args:
        config: The configuration, mappings in mappings.
        place: The keys, with dots between.
        kind: The type that the value has to have. None: any.

    Returns:
        The value, or None if there is none.

    Raises:
        ValueError: The value is of another type.
    """
    for key in place.split("."):
        config = config.get(key) if isinstance(config, Mapping) else None
    if kind is float and type(config) is int:
        config = float(config) if _is_number(config) else config
    if kind is not None and config is not None and type(config) is not kind:
        raise ValueError(f"{place} is {reprlib.repr(config)}, expected {kind.__name__}.")
    if kind in (int, float) and config is not None and not _is_number(config):
        raise ValueError(
            f"{place} is {reprlib.repr(config)}, which no detector has: expected at most "
            f"{_LARGEST:,.0f}."
        )
    return config


def _is_number(value: object) -> bool:
    """Whether it is a number that a detector may have; neither NaN nor infinity is."""
    return type(value) in (int, float) and abs(value) <= _LARGEST  # type: ignore[arg-type]


def _are_numbers(values: object) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) <= _LONGEST
        and all(map(_is_number, values))
    )


def numbers(config: Any, place: str) -> tuple[float, ...] | None:
    """The numbers at dotted keys.

    Args:
        config: The configuration, mappings in mappings.
        place: The keys, with dots between.

    Returns:
        The numbers, or None if there are none.

    Raises:
        ValueError: There is something else than numbers.
    """
    found = at(config, place)
    # Detectron2's own files have tuples, which YAML takes for strings.
    if isinstance(found, str) and len(found) <= _LONGEST_TEXT:
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = ast.literal_eval(found)
    if found is None or _are_numbers(found):
        return None if found is None else tuple(found)
    raise ValueError(f"{place} is {reprlib.repr(found)}, expected numbers.")


def rows(config: Any, place: str) -> tuple[tuple[float, ...], ...] | None:
    """The lists of numbers at dotted keys.

    Args:
        config: The configuration, mappings in mappings.
        place: The keys, with dots between.

    Returns:
        The lists, or None if there are none.

    Raises:
        ValueError: There is something else than lists of numbers.
    """
    found = at(config, place)
    if found is None:
        return None
    lists: Sequence[Any] = found if isinstance(found, list) and len(found) <= _LONGEST else []
    if not lists or not all(isinstance(row, list) and row and _are_numbers(row) for row in lists):
        raise ValueError(f"{place} is {reprlib.repr(found)}, expected lists of numbers.")
    return tuple(tuple(row) for row in lists)


def colours(config: Any, place: str, bgr: bool | None) -> Triple | None:
    """Three numbers for images in [0, 255], as they are for red, green and blue in [0, 1].

    Args:
        config: The configuration, mappings in mappings.
        place: The keys of the numbers, with dots between.
        bgr: Whether they stand for blue, green and red. None: it is not known.

    Returns:
        The numbers, red first. None: there are none, or their order is not known.

    Raises:
        ValueError: There is something else than three numbers.
    """
    found = numbers(config, place)
    if found is None or bgr is None:
        return None
    if len(found) != 3:
        raise ValueError(f"{place} is {found}, expected three numbers.")
    red, green, blue = (float(f"{value / 255:.15g}") for value in found)  # 57.12 / 255 is 0.224
    return (blue, green, red) if bgr else (red, green, blue)
