"""What the methods that compare the maps of two models, level by level, have in common."""

import logging
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from math import log2
from typing import ClassVar

import torch
from torch import Tensor, nn

from limbeck import adapters
from limbeck.dense_heads import HEAD_MAPS
from limbeck.methods.base import Method, Step
from limbeck.methods.pictures import OverImages, heat
from limbeck.methods.places import PlaceModules, Places, paired
from limbeck.schedules import Weight

log = logging.getLogger(__name__)

SMALL = 1e-6  # what is added to a standard deviation
STRONGER = "The stronger the yellow, the more; full yellow is the most of a map in an image."
_LEAST = 1e-3  # of the mean standard deviation: what that of a channel counts as


class LevelMethod(Method):
    """A method that reads maps of the student and of the teacher at levels that belong together.

    A place may be one map (B, C, H, W), or a list over levels, such as ``fpn``. Two lists are
    compared by number where their levels have the same heights and widths; otherwise levels of
    equal stride are compared, and those without a partner are left out, which is logged.

    A subclass makes an adapter in :meth:`adapter`, or refuses the pair. Where one level has one
    loss, it is a :class:`MapMethod`.

    Args:
        places: Places that both models have, such as ``["fpn"]`` or ``["P3", "P4"]``; or, where
            they differ, ``{student's place: teacher's place}``.

    Attributes:
        partners: The teacher's level of each of the student's, by their names, such as ``fpn.0``.
        by_stride: Which levels of a place are compared, in words, where it is not by number.
        adapters_name: What the adapters are called in the names of parameters.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place.
    """

    adapters_name: ClassVar[str] = "adapters"

    def __init__(self, places: Places) -> None:
        super().__init__()
        pairs = paired(places)
        self.student_taps = dict(zip(pairs, pairs, strict=True))
        self.teacher_taps = pairs
        self.add_module(self.adapters_name, PlaceModules())
        self.partners: dict[str, str] = {}
        self.by_stride: dict[str, str] = {}

    def setup(self, step: Step) -> None:
        """Find the levels that are compared, and make what each of them needs."""
        for place in self.teacher_taps:
            pair = self._pair(place, place)
            student, teacher = (s.by_level([place]) for s in (step.student, step.taught))
            with self.named(pair):
                found = _partners(student, teacher)
            if [*found] != [*student] or [*found.values()] != [*teacher]:
                numbers = (map(_number, levels) for levels in found.items())
                self.by_stride[place] = ", ".join(" with ".join(each) for each in numbers)
                _tell(f"{type(self).__name__} at {pair}", student, teacher, found)
            self.partners |= found
        for level, maps in self.levels(step).items():
            with self.named_level(level):
                self.setup_level(level, *maps)
                if level in self._adapters and self._is_of_heads(level):
                    _refuse_other_columns(*maps)

    def setup_level(self, level: str, student: Tensor, teacher: Tensor) -> None:
        """Make what one level needs: its adapter, if it has one.

        Args:
            level: The name of the level.
            student: The student's map in the dry pass, (B, C_S, H_S, W_S).
            teacher: The teacher's map in the dry pass, (B, C_T, H_T, W_T).

        Raises:
            ValueError: The two maps cannot be compared.
        """
        adapter = self.adapter(student, teacher)
        if adapter is not None:
            self._adapters[level] = adapter

    def levels(self, step: Step) -> dict[str, tuple[Tensor, Tensor]]:
        """The student's and the teacher's map of each level that is compared, by its name."""
        # The teacher's taps go by the student's places, beside which the student may have others.
        student = step.student.by_level(self.teacher_taps)
        teacher = step.taught.by_level(self.teacher_taps)
        return {ours: (student[ours], teacher[theirs]) for ours, theirs in self.partners.items()}

    def adapted(self, level: str, student: Tensor, step: Step) -> Tensor:
        """The student's map of one level as it is compared with the teacher's.

        Args:
            level: The name of the level.
            student: The student's map, (B, C_S, H, W).
            step: The step.

        Returns:
            The map behind its adapter, in any precision; itself where there is none.
        """
        if level not in self._adapters:
            return student
        adapted: Tensor = self._adapters[level](student)
        return adapted

    @abstractmethod
    def adapter(self, student: Tensor, teacher: Tensor) -> nn.Module | None:
        """Make the adapter of one level.

        Args:
            student: The student's map in the dry pass, (B, C_S, H_S, W_S).
            teacher: The teacher's map in the dry pass, (B, C_T, H_T, W_T).

        Returns:
            What is applied to the student's map. None: it is taken as it is.

        Raises:
            ValueError: The two maps cannot be compared.
        """

    def levels_of(self, student_tap: str) -> str | None:
        """Which levels of that place are compared, where it is by stride and not by number."""
        pairs = self.by_stride.get(student_tap)
        return None if pairs is None else f"by stride: {pairs}"

    def adapter_of(self, student_tap: str) -> nn.Module | None:
        """The adapter of that place, or of its first level."""
        return self._adapters.at(student_tap)

    def named_level(self, level: str) -> AbstractContextManager[None]:
        """Within, an error about what does not fit names the level of both models."""
        return self.named(self._pair(level, self.partners[level]))

    @property
    def _adapters(self) -> PlaceModules:
        found = self.get_submodule(self.adapters_name)
        assert isinstance(found, PlaceModules)
        return found

    def _place(self, level: str) -> str:
        """The student's place of which this is a level."""
        prefixes = [place for place in self.teacher_taps if f"{level}.".startswith(f"{place}.")]
        return max(prefixes, key=len)  # C4.pre is no level of C4 where it is a place itself

    def _is_of_heads(self, level: str) -> bool:
        """Whether the maps of a level are what dense heads give, in both models."""
        place = self._place(level)
        return {place, self.teacher_taps[place]} <= set(HEAD_MAPS)

    def _pair(self, ours: str, theirs: str) -> str:
        """Both sides of a pair of places or levels, in words."""
        place = self._place(theirs)
        theirs = f"{self.teacher_taps[place]}{theirs.removeprefix(place)}"
        return ours if ours == theirs else f"{ours} of the student and {theirs} of the teacher"


class MapMethod(LevelMethod):
    """A method whose loss is computed from the two maps of each level by themselves.

    A subclass computes in :meth:`loss` what one level costs. What it can show of a level it gives
    in :meth:`shown`, and explains in :attr:`explained`.

    Args:
        places: Places that both models have, such as ``["fpn"]`` or ``["P3", "P4"]``; or, where
            they differ, ``{student's place: teacher's place}``.
        weight: The weight of every level: a number or a schedule.

    Attributes:
        explained: What its picture shows, in sentences.

    Raises:
        TypeError: ``places`` is one string.
        ValueError: There is no place.
    """

    explained: ClassVar[str] = ""

    def __init__(self, places: Places, weight: Weight) -> None:
        super().__init__(places)
        self.weight = weight

    def setup(self, step: Step) -> None:
        """Find the levels, make their adapters, and give every level the weight."""
        super().setup(step)
        self.weights = dict.fromkeys(self.partners, self.weight)

    def forward(self, step: Step) -> dict[str, Tensor]:
        """One loss for each level, by the level's name."""
        losses = {}
        for level, (student, teacher) in self.levels(step).items():
            with self.named_level(level):
                losses[level] = self.loss(self.adapted(level, student, step), teacher)
        return losses

    @abstractmethod
    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        """What one level costs.

        Args:
            student: The student's map, adapted, (B, C, H, W), in any precision.
            teacher: The teacher's map, in any precision.

        Returns:
            The unweighted loss, a scalar in float32.
        """

    def picture(self, step: Step) -> OverImages | None:
        """What is shown of every level, over the images."""
        maps: dict[str, Tensor] = {}
        for level, (student, teacher) in self.levels(step).items():
            adapted = self.adapted(level, student, step)
            shown = self.shown(adapted.float(), teacher.float())
            maps |= {f"{level}, {title}": each for title, each in shown.items()}
        return OverImages(f"{self.explained} {STRONGER}", heat(step.frame, maps)) if maps else None

    def shown(self, student: Tensor, teacher: Tensor) -> Mapping[str, Tensor]:
        """What is shown of one level.

        Args:
            student: The student's map, adapted, (B, C, H, W), in float32.
            teacher: The teacher's map, in float32.

        Returns:
            Maps (B, H, W) of 0 and more by their titles; none where there is nothing to show.
        """
        return {}


def squares(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean over the channels of squared differences: two (B, C, H, W) to (B, H, W)."""
    return (student - teacher).square().mean(dim=1)


def standardised_channels(student: Tensor) -> Tensor:
    """A student's map with each channel of mean 0 and deviation 1 over the batch and all positions.

    The standard deviation, which is unbiased, of a channel counts as no less than a thousandth of
    the mean over the channels: one without any variation would have a gradient 1e6 times too large.

    Args:
        student: The map, (B, C, H, W), in float32.

    Returns:
        The map, (B, C, H, W): 0, without a gradient, where no channel varies or each has one value.
    """
    centred, _, variance = centred_channels(student)
    usual = variance.detach().sqrt().mean()
    # Never 0, where a square root has no gradient.
    least = (_LEAST * usual).square().clamp(min=torch.finfo(variance.dtype).tiny)
    z = centred / (variance.clamp(min=least).sqrt() + SMALL)
    return z.masked_fill(usual <= SMALL, 0.0)


def centred_channels(feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A map with each channel of mean 0 over the batch and all positions, and what it had before.

    On a CPU ``torch.std_mean`` takes about ten times as long over these three dimensions.

    Args:
        feature: The map, (B, C, H, W), in float32.

    Returns:
        The centred map, (B, C, H, W); the mean of each channel, (1, C, 1, 1); and its variance,
        (1, C, 1, 1), which is unbiased, and 0 where channels have one value.
    """
    mean = feature.mean(dim=(0, 2, 3), keepdim=True)
    centred = feature - mean
    squares = centred.square().sum(dim=(0, 2, 3), keepdim=True)
    return centred, mean, squares / max(1, feature[:, 0].numel() - 1)


def _partners(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> dict[str, str]:
    """The teacher's level of each of the student's, by their names.

    Args:
        student: The student's maps at one place, by level.
        teacher: The teacher's maps there.

    Returns:
        ``{student's level: teacher's level}``.

    Raises:
        ValueError: A feature is no map, one side alone is a list, or no levels are of equal stride.
    """
    for side, maps in (("student", student), ("teacher", teacher)):
        for feature in maps.values():
            if feature.dim() != 4:
                raise ValueError(
                    f"the {side}'s feature has the shape {tuple(feature.shape)}; expected a map "
                    f"(B, C, H, W). Choose another place{adapters.TOKENS}."
                )
    sizes = [[feature.shape[2:] for feature in maps.values()] for maps in (student, teacher)]
    single = [len(maps) == 1 for maps in (student, teacher)]
    if all(single) or sizes[0] == sizes[1]:
        return dict(zip(student, teacher, strict=True))
    found = {
        ours: [theirs for theirs, taught in teacher.items() if _same_stride(feature, taught)]
        for ours, feature in student.items()
    }
    partners = {ours: theirs[0] for ours, theirs in found.items() if theirs}
    unique = all(len(theirs) <= 1 for theirs in found.values())
    if any(single) or not partners or not unique or len({*partners.values()}) < len(partners):
        raise ValueError(
            f"the student has maps of {_written(student)}, the teacher of {_written(teacher)}, "
            "whose levels do not pair off by stride. Name the levels one by one, such as "
            "places=[P3, P4], or {student's place: teacher's place}."
        )
    return partners


def _refuse_other_columns(student: Tensor, teacher: Tensor) -> None:
    """Refuse maps of two heads that differ in channels, which stand for other classes or anchors.

    No adapter makes them comparable.
    """
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(
            f"the student's head gives {student.shape[1]} channels, the teacher's "
            f"{teacher.shape[1]}: they have other numbers of classes or of anchors, so the "
            "channels do not mean the same. Choose a place before the heads, such as fpn."
        )


def _same_stride(student: Tensor, teacher: Tensor) -> bool:
    """Whether heights and widths are nearer to each other than to one twice as large."""
    sides = zip(student.shape[2:], teacher.shape[2:], strict=True)
    return all(abs(log2(ours / theirs)) < 0.5 for ours, theirs in sides)


def _tell(
    where: str,
    student: Mapping[str, Tensor],
    teacher: Mapping[str, Tensor],
    partners: Mapping[str, str],
) -> None:
    """Log which levels are compared, where it is not each with the one of its number."""
    written = (
        f"{_number(ours)} ({_sizes(student[ours])}) with {_number(theirs)} "
        f"({_sizes(teacher[theirs])})"
        for ours, theirs in partners.items()
    )
    left = [f"the student's {_number(level)}" for level in student if level not in partners]
    left += [f"the teacher's {_number(k)}" for k in teacher if k not in partners.values()]
    log.info(
        "%s: levels are compared by stride, the student's with the teacher's: %s; left out: %s",
        where,
        ", ".join(written),
        ", ".join(left) or "none",
    )


def _number(level: str) -> str:
    return level.rpartition(".")[2]


def _sizes(feature: Tensor) -> str:
    return f"{feature.shape[2]} x {feature.shape[3]}"


def _written(maps: Mapping[str, Tensor]) -> str:
    return ", ".join(map(_sizes, maps.values()))
