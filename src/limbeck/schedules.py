"""Schedules: weights of losses as functions of the number of optimizer steps.

They are piecewise linear or step-wise, as the published methods have them. A step is the number of
finished optimizer steps, so that the first one is step 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from limbeck.ranges import COUNT, NOT_NEGATIVE, Range, refuse_outside

_STEPS = Range(0)
_VALUE_AND_STEPS = {"value": NOT_NEGATIVE, "steps": _STEPS}


class Schedule(ABC):
    """A weight as a function of the step."""

    @abstractmethod
    def at(self, step: int) -> float:
        """The weight of the step that follows ``step`` finished ones."""


@dataclass(frozen=True)
class Constant(Schedule):
    """One value at every step.

    Attributes:
        value: The weight.

    Raises:
        ValueError: It is negative.
    """

    value: float

    def __post_init__(self) -> None:
        refuse_outside({"value": NOT_NEGATIVE}, vars(self), "the weight's ")

    def at(self, step: int) -> float:
        """The value at every step."""
        return self.value


@dataclass(frozen=True)
class Ramp(Schedule):
    """One value up to a step, another from a later step on, and linear between the two.

    Attributes:
        start_value: The weight up to and including step ``start``.
        end_value: The weight from step ``end`` on.
        start: The step from which the weight changes.
        end: The step from which it does not change any more.

    Raises:
        ValueError: A weight or a step is negative, or ``end`` comes before ``start``.
    """

    start_value: float
    end_value: float
    start: int
    end: int

    def __post_init__(self) -> None:
        weights = dict.fromkeys(("start_value", "end_value"), NOT_NEGATIVE)
        refuse_outside({**weights, "start": _STEPS, "end": _STEPS}, vars(self), "a Ramp's ")
        if self.end < self.start:
            raise ValueError(
                f"a Ramp's start is {self.start} and its end {self.end}; expected an end at the "
                "start or after it. Exchange the two, or correct one of them."
            )

    def at(self, step: int) -> float:
        """The value of the ramp."""
        if step <= self.start:
            return self.start_value
        if step >= self.end:
            return self.end_value
        done = (step - self.start) / (self.end - self.start)
        return self.start_value + (self.end_value - self.start_value) * done


@dataclass(frozen=True)
class WarmUp(Schedule):
    """A linear rise from 0, which is exactly what the first step weighs.

    Attributes:
        value: The weight from step ``steps`` on.
        steps: The number of steps that the rise takes.

    Raises:
        ValueError: The weight or the number of steps is negative.
    """

    value: float
    steps: int

    def __post_init__(self) -> None:
        refuse_outside(_VALUE_AND_STEPS, vars(self), "a WarmUp's ")

    def at(self, step: int) -> float:
        """The value of a ramp that starts at 0."""
        return Ramp(0.0, self.value, 0, self.steps).at(step)


@dataclass(frozen=True)
class Decay(Schedule):
    """A linear fall to 0.

    Attributes:
        value: The weight of the first step.
        steps: The number of steps that the fall takes.

    Raises:
        ValueError: The weight or the number of steps is negative.
    """

    value: float
    steps: int

    def __post_init__(self) -> None:
        refuse_outside(_VALUE_AND_STEPS, vars(self), "a Decay's ")

    def at(self, step: int) -> float:
        """The value of a ramp that ends at 0."""
        return Ramp(self.value, 0.0, 0, self.steps).at(step)


@dataclass(frozen=True)
class EarlyStop(Schedule):
    """One value up to and including a step, and 0 afterwards.

    Attributes:
        value: The weight at the beginning.
        steps: The last step that has this weight.

    Raises:
        ValueError: The weight or the step is negative.
    """

    value: float
    steps: int

    def __post_init__(self) -> None:
        refuse_outside(_VALUE_AND_STEPS, vars(self), "an EarlyStop's ")

    def at(self, step: int) -> float:
        """The value as long as it holds, and then 0."""
        return self.value if step <= self.steps else 0.0


@dataclass(frozen=True)
class LateStart(Schedule):
    """0 for the first steps, and one value afterwards.

    Attributes:
        value: The weight from step ``steps`` on.
        steps: The number of steps that weigh 0.

    Raises:
        ValueError: The weight or the number of steps is negative.
    """

    value: float
    steps: int

    def __post_init__(self) -> None:
        refuse_outside(_VALUE_AND_STEPS, vars(self), "a LateStart's ")

    def at(self, step: int) -> float:
        """0 until the value holds, and then the value."""
        return self.value if step >= self.steps else 0.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """0 before the first milestone, one value from it on, and a fraction from each further one on.

    Attributes:
        value: The weight from the first milestone on.
        milestones: The steps at which the weight changes, in ascending order.
        factor: What the weight is multiplied by at each milestone after the first.

    Raises:
        ValueError: The weight, a milestone or the factor is negative.
    """

    value: float
    milestones: Sequence[int]
    factor: float

    def __post_init__(self) -> None:
        ranges = {"value": NOT_NEGATIVE, "milestones": _STEPS, "factor": NOT_NEGATIVE}
        refuse_outside(ranges, vars(self), "a StepDecay's ")

    def at(self, step: int) -> float:
        """``value * factor ** (milestones passed - 1)``."""
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.value * self.factor ** (passed - 1) if passed else 0.0


@dataclass(frozen=True)
class Staircase(Schedule):
    """A rise to one value in stairs of equal height, such as one stair for each epoch.

    Published warm-ups that count epochs are staircases: ``min(epoch / 20, 1)`` with epochs from 1
    is ``stairs=20``, and ``every`` is the number of steps in an epoch: the number of training
    images by the size of the global batch, rounded down, since the last batch of an epoch is left
    out where it is incomplete.

    Attributes:
        value: The weight from the last stair on.
        stairs: The number of stairs that lead from 0 to the value.
        every: The number of steps on each stair.
        first: On how many stairs the first step stands: 1 where epochs count from 1, 0 where they
            count from 0 and the first epoch weighs nothing.

    Raises:
        ValueError: The weight or ``first`` is negative, or there is no stair, or no step on one.
    """

    value: float
    stairs: int
    every: int
    first: int = 1

    def __post_init__(self) -> None:
        ranges = {"value": NOT_NEGATIVE, "stairs": COUNT, "every": COUNT, "first": _STEPS}
        refuse_outside(ranges, vars(self), "a Staircase's ")

    def at(self, step: int) -> float:
        """The value times the share of the stairs that have been climbed."""
        return self.value * min((self.first + step // self.every) / self.stairs, 1.0)


@dataclass(frozen=True)
class Product(Schedule):
    """The product of schedules, such as a warm-up and a decay.

    Attributes:
        factors: The schedules.
    """

    factors: Sequence[Schedule]

    def at(self, step: int) -> float:
        """The product of the factors at this step."""
        return prod(factor.at(step) for factor in self.factors)


Weight = float | Schedule


def as_schedule(weight: Weight) -> Schedule:
    """The schedule that a weight is: a number is a constant one."""
    return weight if isinstance(weight, Schedule) else Constant(float(weight))


# The steps at which any schedule is looked at: each is a tenth further than the one before.
SAMPLED = sorted({0, *(round(1.1**power) for power in range(200))})


def largest(weight: Weight) -> float:
    """The largest value that a weight has at one of the steps of ``SAMPLED``."""
    schedule = as_schedule(weight)
    return max(schedule.at(step) for step in SAMPLED)
