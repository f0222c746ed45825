"""Tables of names: how one library calls the tensors of another, read in either direction.

A rule names a layer in both libraries, without the last part of its tensors' names (``weight``,
``running_mean``). ``{i}`` stands for a number, the same one on both sides, and ``{stage-1}`` or
``{2i+1}`` for one computed from it.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from limbeck.checkpoints.tensors import SAME, Tensors, Transform

_PLACEHOLDER = re.compile(r"\{(\d*)([a-z]+)([+-]\d+)?\}")  # {2i+1}: factor, variable, offset
_NUMBER = re.compile(r"\d+")
_LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "scale")
_OURS_ALONE = ("loss_normaliser",)  # of limbeck's RetinaNet while it is trained
_SHOWN = 6

_Row = tuple[str, str, Callable[[Tensor], Tensor]]  # from, to, and what is done to the values


@dataclass(frozen=True)
class Rule:
    """One layer, or a family of them.

    Attributes:
        theirs: The layer's name in another library.
        ours: The layer's name in torchvision.
        transform: The change of its values.
    """

    theirs: str
    ours: str
    transform: Transform = SAME


@dataclass(frozen=True)
class Table:
    """All that a library's files may hold. Of several rules that fit, the first one counts.

    Attributes:
        library: The name of the library, for messages.
        rules: The rules of all tensors of the network.
        empty: The names, with their last part, of what holds nothing that a network needs.
        advice: What was expected and what to do, for messages.
    """

    library: str
    rules: Sequence[Rule]
    empty: Sequence[str] = ()
    advice: str = ""

    def to_ours(self, tensors: Tensors) -> Tensors:
        """To torchvision's names and values.

        Args:
            tensors: The tensors by the library's names.

        Returns:
            The tensors by torchvision's names.

        Raises:
            ValueError: Names are not in the table, or two become one; they are listed.
        """
        rows = [(rule.theirs, rule.ours, rule.transform.to_ours) for rule in self.rules]
        return self._translated(tensors, rows, self.empty, f"{self.library}'s names")

    def to_theirs(self, tensors: Tensors) -> Tensors:
        """To the library's names and values.

        Args:
            tensors: The tensors by torchvision's names.

        Returns:
            The tensors by the library's names.

        Raises:
            ValueError: Names are not in the table, or two become one; they are listed.
        """
        rows = [(rule.ours, rule.theirs, rule.transform.to_theirs) for rule in self.rules]
        return self._translated(tensors, rows, _OURS_ALONE, f"what {self.library} has names for")

    def _translated(
        self, tensors: Tensors, rows: Sequence[_Row], empty: Sequence[str], known: str
    ) -> Tensors:
        translated: Tensors = {}
        unknown: list[str] = []
        for name, value in tensors.items():
            if any(_values(template, name) is not None for template in empty):
                continue
            new, transform = _found(name, rows)
            if not new:
                unknown.append(name)
            elif new in translated:
                raise ValueError(f"two tensors are {new}, and {name} is the second. {self.advice}")
            else:
                translated[new] = transform(value)
        if unknown:
            raise ValueError(
                f"{len(unknown)} of {len(tensors)} tensors are not among {known}:\n  "
                + "\n  ".join(_listed(unknown, [row[0] for row in rows]))
                + f"\n{self.advice}"
            )
        return translated


def prefixed(rules: Iterable[Rule], theirs: str, ours: str) -> list[Rule]:
    """The same layers inside a larger network."""
    return [replace(rule, theirs=theirs + rule.theirs, ours=ours + rule.ours) for rule in rules]


def renamed(name: str, source: str, target: str) -> str | None:
    """A name by a rule; None where the rule does not fit.

    It fits only if the way back leads to the same numbers.

    Args:
        name: The name of a layer.
        source: The template that the name has to fit.
        target: The template of the new name.

    Returns:
        The new name, or None.
    """
    values = _values(source, name)
    if values is None:
        return None
    new = _PLACEHOLDER.sub(lambda m: str(int(m[1] or 1) * values[m[2]] + int(m[3] or 0)), target)
    return new if _values(target, new) == values else None


def numbers(names: Iterable[str], template: str) -> set[int]:
    """The numbers for which a name with one placeholder occurs, such as ``fpn_lateral{level}``."""
    found = (_values(template, name) for name in names)
    return {number for values in found if values for number in values.values()}


@functools.cache
def _pattern(template: str) -> tuple[re.Pattern[str], list[tuple[int, str, int]]]:
    """What matches a template, and (factor, variable, offset) of its groups."""
    literals = _PLACEHOLDER.split(template)[::4]
    terms = [(int(f or 1), name, int(o or 0)) for f, name, o in _PLACEHOLDER.findall(template)]
    return re.compile(r"(0|[1-9]\d*)".join(map(re.escape, literals))), terms


def _values(template: str, name: str) -> dict[str, int] | None:
    """The variables of a template that make it ``name``, if it can be."""
    pattern, terms = _pattern(template)
    match = pattern.fullmatch(name)
    if match is None:
        return None
    values: dict[str, int] = {}
    for (factor, variable, offset), digits in zip(terms, match.groups(), strict=True):
        value, rest = divmod(int(digits) - offset, factor)
        if rest or values.setdefault(variable, value) != value:
            return None
    return values


def _found(name: str, rows: Sequence[_Row]) -> tuple[str, Callable[[Tensor], Tensor]]:
    """The new name and what is done to the values; an empty name where there is no rule."""
    layer, _, leaf = name.rpartition(".")
    for source, target, transform in rows if leaf in _LEAVES else ():
        new = renamed(layer, source, target)
        if new is not None:
            return f"{new}.{leaf}", transform
    return "", SAME.to_ours


def _listed(unknown: Sequence[str], known: Sequence[str]) -> list[str]:
    """The first few names, each with the nearest known one, whatever the numbers in them."""
    plain = {_NUMBER.sub("0", _PLACEHOLDER.sub("0", template)): template for template in known}
    lines = []
    for name in unknown[:_SHOWN]:
        layer = _NUMBER.sub("0", name.rpartition(".")[0])
        near = difflib.get_close_matches(layer, plain, n=1)
        lines.append(f"{name} (nearest: {plain[near[0]]})" if near else name)
    more = len(unknown) - _SHOWN
    return [*lines, f"... and {more} more"] if more > 0 else lines
