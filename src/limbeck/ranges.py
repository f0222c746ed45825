"""The ranges that numbers have to lie in, and the sentence about one that lies outside."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """The numbers that an argument may be; NaN lies in no range.

    Attributes:
        least: The smallest number.
        most: The largest number.
        open: Whether ``least`` itself lies outside.
        open_above: Whether ``most`` itself lies outside.
    """

    least: float = -math.inf
    most: float = math.inf
    open: bool = False
    open_above: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.least if self.open else value >= self.least
        return above and (value < self.most if self.open_above else value <= self.most)

    def __str__(self) -> str:
        lower = f"above {self.least:g}" if self.open else f"{self.least:.12g} or more"
        if self.most == math.inf:
            return lower
        upper = f"below {self.most:g}" if self.open_above else f"at most {self.most:.12g}"
        return f"{lower}, and {upper}"


POSITIVE = Range(0, open=True, most=math.inf, open_above=True)
NOT_NEGATIVE = Range(0, most=math.inf, open_above=True)
SHARE = Range(0, 1)
COUNT = Range(1)
SIDE = Range(1, 8192)  # of images, in pixels: longer ones take more memory than there is


def refuse_outside(
    ranges: Mapping[str, Range], values: Mapping[str, Any], prefix: str = ""
) -> None:
    """Refuse numbers that lie outside of their ranges.

    Args:
        ranges: The ranges by the names of the arguments.
        values: The arguments by their names. Each is a number, a sequence or a mapping of numbers,
            or anything that holds such; what is no number is left alone, None too.
        prefix: What stands before each name in a recipe, such as ``trainer.``.

    Raises:
        ValueError: A number lies outside of its range. The message names the first such argument.
    """
    for name, allowed in ranges.items():
        value = values.get(name)
        if any(number not in allowed for number in _numbers(value)):
            each = "numbers, each" if isinstance(value, Sequence | Mapping) else "a number:"
            raise ValueError(
                f"{prefix}{name} is {written(value)}; expected {each} {allowed}. Give it a value "
                "in that range."
            )


def written(value: Any) -> str:
    """A value as a recipe would state it: lists in brackets, whole numbers in them without .0."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        inner = (f"{each:g}" if isinstance(each, float) else written(each) for each in value)
        return f"[{', '.join(inner)}]"
    return str(value)


def _numbers(value: Any) -> Iterator[float]:
    """All numbers in a value."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _numbers(each)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for each in value:
            yield from _numbers(each)
