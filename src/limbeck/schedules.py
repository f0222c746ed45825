"""Loss weights as functions of the number of optimizer steps taken.

Piecewise-linear and step-wise weights as the published methods have them; ``step`` is the number
of finished optimizer steps, 0 for the first.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod


class Schedule(ABC):
    """A weight as a function of the step."""

    @abstractmethod
    def at(self, step: int) -> float:
        """The weight for the step that follows ``step`` finished ones."""


@dataclass(frozen=True)
class Constant(Schedule):
    """``value`` at every step."""

    value: float

    def at(self, step: int) -> float:
        """The value."""
        return self.value


@dataclass(frozen=True)
class Ramp(Schedule):
    """``start_value`` up to step ``start``, ``end_value`` from step ``end``, linear between."""

    start_value: float
    end_value: float
    start: int
    end: int

    def at(self, step: int) -> float:
        """Linear between the two ends."""
        if step <= self.start:
            return self.start_value
        if step >= self.end:
            return self.end_value
        done = (step - self.start) / (self.end - self.start)
        return self.start_value + (self.end_value - self.start_value) * done


@dataclass(frozen=True)
class WarmUp(Schedule):
    """From 0 to ``value``, linearly over ``steps`` steps; the first step weighs exactly 0."""

    value: float
    steps: int

    def at(self, step: int) -> float:
        """A ramp that starts at 0."""
        return Ramp(0.0, self.value, 0, self.steps).at(step)


@dataclass(frozen=True)
class Decay(Schedule):
    """From ``value`` to 0, linearly over ``steps`` steps."""

    value: float
    steps: int

    def at(self, step: int) -> float:
        """A ramp that ends at 0."""
        return Ramp(self.value, 0.0, 0, self.steps).at(step)


@dataclass(frozen=True)
class EarlyStop(Schedule):
    """``value`` up to and including step ``steps``, 0 afterwards."""

    value: float
    steps: int

    def at(self, step: int) -> float:
        """The value, or 0."""
        return self.value if step <= self.steps else 0.0


@dataclass(frozen=True)
class LateStart(Schedule):
    """0 for the first ``steps`` steps, ``value`` afterwards."""

    value: float
    steps: int

    def at(self, step: int) -> float:
        """0, or the value."""
        return self.value if step >= self.steps else 0.0


@dataclass(frozen=True)
class StepDecay(Schedule):
    """0 before the first milestone, then ``value`` times ``factor`` for each further one passed."""

    value: float
    milestones: Sequence[int]
    factor: float

    def at(self, step: int) -> float:
        """``value * factor ** (milestones passed - 1)``."""
        passed = sum(step >= milestone for milestone in self.milestones)
        return self.value * self.factor ** (passed - 1) if passed else 0.0


@dataclass(frozen=True)
class Product(Schedule):
    """The product of schedules, such as a warm-up and a decay."""

    factors: Sequence[Schedule]

    def at(self, step: int) -> float:
        """The product of the factors at this step."""
        return prod(factor.at(step) for factor in self.factors)


Weight = float | Schedule


def as_schedule(weight: Weight) -> Schedule:
    """A number is a constant schedule."""
    return weight if isinstance(weight, Schedule) else Constant(float(weight))
