"""The one number of a method that is tuned, and what it does to the weights of the method's terms.

A method's weights hang on arguments of many kinds: KD has a ``weight``, MGD a ``factor`` that they
are divided by, HEAD a schedule for each group of its terms. No table says which is which: the
method is built with the number, and with twice the number, and its weights are looked at.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any

from limbeck.recipe import Recipe
from limbeck.schedules import SAMPLED, Weight, as_schedule, largest

_OF_SCHEDULES = "value"  # the argument of a schedule that is its weight


@dataclass(frozen=True)
class Argument:
    """An argument of a method: a number, or a schedule with one.

    Attributes:
        method: The name of the method in its recipe.
        name: The name of the argument.
        stated: Its value, as a recipe states it.
    """

    method: str
    name: str
    stated: Any

    @property
    def key(self) -> str:
        """The key of the argument in a recipe."""
        return f"model.methods.{self.method}.init_args.{self.name}"

    @property
    def number(self) -> float:
        """The number that is tuned."""
        found = _number_in(self.stated)
        if found is None:
            raise ValueError(
                f"{self.key} is {self.stated!r}; expected a number above 0, or a schedule with one "
                "`value`. State one in the recipe, or name another argument (--argument)."
            )
        return found

    def recipe(self, number: float) -> Recipe:
        """What is laid over a recipe so that the argument has this number.

        Args:
            number: The number, of which a schedule keeps its course.

        Returns:
            The recipe.
        """
        value: Any = number
        if isinstance(self.stated, Mapping):
            arguments = {**self.stated["init_args"], _OF_SCHEDULES: number}
            value = {**self.stated, "init_args": arguments}
        method = {"init_args": {self.name: value}}  # a method's name may have dots
        return {"model": {"methods": {self.method: method}}}


@dataclass(frozen=True)
class Effect:
    """What the number does to weights.

    Attributes:
        weights: The largest weight, over all steps, of each term that hangs on the number, as the
            number is stated, by the name of the term.
        divides: Whether these weights are divided by the number, as MGD's are by its ``factor``.
            Otherwise they are proportional to it.
    """

    weights: Mapping[str, float]
    divides: bool = False

    def level(self, number: float, levels: Mapping[str, float | None]) -> float:
        """The number with which the terms together pull as strongly as the task.

        The gradients of several terms are added up as if they had one direction, so that the
        number is rather too small than too large.

        Args:
            number: The number as it is stated.
            levels: The weight at which each term has the task's gradient, by its name, as the
                balance report says it. None: it is not known.

        Returns:
            The number.

        Raises:
            ValueError: No term has a level.
        """
        known = {name: at for name in self.weights if (at := levels.get(name))}
        if not known:
            raise ValueError(
                f"the balance report has no level for {', '.join(self.weights)}: either these "
                "terms or the student's own losses have no gradient. Look at the weights of both "
                "(model.student_weight)."
            )
        pull = sum(self.weights[name] / at for name, at in known.items())
        return number * pull if self.divides else number / pull


def argument_of(methods: Mapping[str, Any], method: str, name: str) -> Argument:
    """Find an argument of a method.

    Args:
        methods: The methods as a whole recipe states them, with all arguments.
        method: The name of the method.
        name: The name of the argument.

    Returns:
        The argument.

    Raises:
        ValueError: There is no such method, it has no such argument, or that is no number.
    """
    if method not in methods:
        raise ValueError(
            f"--method {method}: these recipes have {', '.join(methods) or 'no methods'}. Name one "
            "of model.methods, and give every recipe of the run, as `limbeck fit` gets them."
        )
    arguments: Mapping[str, Any] = methods[method]["init_args"]
    if name not in arguments:
        numbers = [each for each, value in arguments.items() if _number_in(value) is not None]
        raise ValueError(
            f"--argument {name}: {methods[method]['class_path']} has no such argument. Name the "
            f"one that sets its weights, one of {', '.join(numbers)}."
        )
    found = Argument(method, name, arguments[name])
    _ = found.number  # refused here, where it is none
    return found


def effect_of(
    argument: Argument, weights: Mapping[str, Weight], with_twice: Mapping[str, Weight]
) -> Effect:
    """Find out what an argument does to the weights of its method.

    Args:
        argument: The argument.
        weights: The weights of the method's parts, as the argument is stated.
        with_twice: The same with twice the number.

    Returns:
        What it does.

    Raises:
        ValueError: The number changes no weight, or changes them otherwise than in proportion.
    """
    ratios = {part: set(_ratios(weights[part], with_twice[part])) for part in weights}
    moved = {part: of_part for part, of_part in ratios.items() if of_part not in (set(), {1.0})}
    if not moved:
        raise ValueError(
            f"{argument.key} changes no weight of the method's terms ({', '.join(weights)}). Name "
            "the argument that sets them (--argument)."
        )
    found = set.union(*moved.values())
    if found not in ({2.0}, {0.5}):
        raise ValueError(
            f"{argument.key} does not move the weights of {', '.join(moved)} in proportion: with "
            f"twice the number some are {max(found):g} times as large. Name an argument that they "
            "are multiplied with, or divided by (--argument)."
        )
    moving = {f"{argument.method}/{part}": largest(weights[part]) for part in moved}
    return Effect(moving, divides=found == {0.5})


def _ratios(weight: Weight, with_twice: Weight) -> Iterator[float]:
    """How many times as large a weight is with twice the number, where it is not 0."""
    before, after = as_schedule(weight), as_schedule(with_twice)
    for step in SAMPLED:
        old, new = before.at(step), after.at(step)
        if old or new:
            ratio = new / old if old else float("inf")
            yield next((each for each in (0.5, 1.0, 2.0) if isclose(ratio, each)), ratio)


def _number_in(value: Any) -> float | None:
    """The number of an argument that is one, or a schedule with one; None where there is none."""
    if isinstance(value, Mapping):
        value = (value.get("init_args") or {}).get(_OF_SCHEDULES)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return None
    return float(value)


def grid(middle: float, count: int) -> Sequence[float]:
    """Numbers around another one, of which each is the root of 10 times the one before.

    Args:
        middle: The number in the middle.
        count: How many there are.

    Returns:
        The numbers in ascending order, with two significant digits.
    """
    exponents = (0.5 * (each - (count - 1) / 2) for each in range(count))
    return [float(f"{middle * 10**exponent:.2g}") for exponent in exponents]
