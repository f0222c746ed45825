"""The rows of a comparison: the plain student, the distilled ones, and their controls."""

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limbeck.arguments import imported
from limbeck.comparison.comparison import Comparison
from limbeck.models import FeatureTeacher
from limbeck.recipe import Recipe, Recipes, laid_over, stating, value_at
from limbeck.report.findings import Kind

PLAIN, TEACHER, TWICE = "plain", "teacher", "plain, twice as long"
ALONE = "transfer alone"
UNMEASURED = (
    "The teachers give features and no predictions (limbeck.models.FeatureTeacher): none of them "
    "is measured, and nothing says how much there is to learn."
)
LENGTHS = ("trainer.max_epochs", "trainer.max_steps", "model.learning_rate.milestones")


@dataclass(frozen=True)
class Row:
    """One line of a comparison, of which there is a training run for each seed.

    Attributes:
        name: Its name.
        kind: What it is.
        recipes: Its recipe, without the seed.
        as_long_as: The rows whose time it is trained for. None of them: it is as long as it says.
    """

    name: str
    kind: Kind
    recipes: Recipes
    as_long_as: tuple[str, ...] = ()


def rows_of(comparison: Comparison, ratios: Mapping[str, float]) -> list[Row]:
    """The rows of a comparison, each after those that it depends on.

    Args:
        comparison: The comparison.
        ratios: How many times as long a distilled row takes to train as the plain student, by its
            name, as far as that is known. A step after a transfer takes as long as a plain one.

    Returns:
        The plain student, the distilled ones, and the controls. A control at equal time is among
        them once its ratio is known; rows that take equally long share one.

    Raises:
        ValueError: A distilled row has the name of another one, nobody knows how long a run is, or
            the rows learn from other teachers than the comparison's.
    """
    _refuse_taken(comparison.rows)
    _refuse_idle(comparison)
    plain = Row(PLAIN, "plain", comparison.plain)
    distilled = [
        Row(name, "distilled", (*comparison.plain, *own, *_taught(comparison, own)))
        for name, own in comparison.rows.items()
    ]
    rows = [plain, *distilled]
    if comparison.controls.twice_as_long:
        rows.append(_longer(comparison, plain, TWICE, 2.0))
    transfers: dict[str, Row] = {}
    if comparison.controls.transfer:
        transfers = dict(_transfers(comparison, distilled))
        rows += {row.name: row for row in transfers.values()}.values()
    if comparison.controls.equal_time:
        rows += _at_equal_time(comparison, plain, transfers, ratios)
    return rows


def controls_of(row: Row, rows: Sequence[Row]) -> list[Row]:
    """The rows that a distilled row is compared with.

    Args:
        row: The distilled row.
        rows: All rows.

    Returns:
        The plain student at equal steps and at equal time, and the transfer alone at both.
    """
    transferred = _transferred(row)
    return [
        each
        for each in rows
        if each.kind == "plain"
        or row.name in each.as_long_as
        or (
            each.kind == "control"
            and not each.as_long_as
            and each.name != TWICE
            and _transferred(each) == transferred
        )
    ]


def _refuse_taken(names: Iterable[str]) -> None:
    """Refuse names of distilled rows that the teacher, the plain student or a control has."""
    for name in names:
        if name in (PLAIN, TEACHER) or name.startswith((f"{PLAIN}, ", ALONE)):
            raise ValueError(
                f"rows names {name!r}, which is the name of the teacher, of the plain student or "
                f"of a control. Expected none of {PLAIN!r}, {TEACHER!r} and names that begin with "
                f"'{PLAIN}, ' or {ALONE!r}. Choose another name."
            )


def _refuse_idle(comparison: Comparison) -> None:
    """Refuse a teacher that is reported though all that rows learn from are others."""
    rows = [laid_over(own) for own in comparison.rows.values()]
    others = sorted({name for row in rows for name in value_at(row, "model.teachers") or ()})
    alone = any(value_at(row, "model.teacher") is not None for row in rows)
    if comparison.teacher is not None and others and not alone:
        raise ValueError(
            "teacher takes the place of each row's model.teacher, and no row states one: they "
            f"learn from model.teachers ({', '.join(others)}). Leave teacher out, or have a row "
            "learn from model.teacher."
        )


def _taught(comparison: Comparison, own: Recipes) -> Recipes:
    """The comparison's teacher for a row that names one; its own does not shine through."""
    if comparison.teacher is None or value_at(laid_over(own), "model.teacher") is None:
        return ()
    return ({"model": {"teacher": None}}, {"model": {"teacher": comparison.teacher}})


def measured_teacher(recipes: Iterable[Recipe]) -> Recipe | None:
    """The teacher whose score a comparison reports: the first that predicts what the student does.

    Args:
        recipes: The whole recipes of the rows, in their order.

    Returns:
        The teacher, as a recipe states a model. None: no teacher is stated, or all give features
        alone.
    """
    teachers = (teacher for recipe in recipes for teacher in stated_teachers(recipe))
    return next((teacher for teacher in teachers if not _gives_features(teacher)), None)


def stated_teachers(recipe: Recipe) -> list[Recipe]:
    """The teachers of a recipe, that without a name first."""
    alone, further = (value_at(recipe, f"model.{key}") for key in ("teacher", "teachers"))
    return [each for each in (alone, *(further or {}).values()) if each]


def _gives_features(teacher: Any) -> bool:
    path = teacher.get("class_path") if isinstance(teacher, Mapping) else teacher
    try:
        made = imported(str(path))
    except Exception:  # whatever the user's module raises is told where the teacher is built
        return False
    return inspect.isclass(made) and issubclass(made, FeatureTeacher)


def _transfers(comparison: Comparison, distilled: Sequence[Row]) -> Iterator[tuple[str, Row]]:
    """By the name of a distilled row, the row that only transfers what it does."""
    seen: list[tuple[Recipe, Row]] = []
    for row in distilled:
        model = _transferred(row)
        if not model["transfer"]:
            continue
        same = next((known for other, known in seen if other == model), None)
        if same is None:
            name = ALONE if not seen else f"{ALONE} of {row.name}"
            same = Row(name, "control", (*comparison.plain, {"model": model}))
            seen.append((model, same))
        yield row.name, same


def _at_equal_time(
    comparison: Comparison,
    plain: Row,
    transfers: Mapping[str, Row],
    ratios: Mapping[str, float],
) -> Iterator[Row]:
    """The plain student and the transfers alone, each for as long as the distilled rows took."""
    shared: dict[tuple[str, float], tuple[Row, list[str]]] = {}
    for name in comparison.rows:
        for base in filter(None, (plain, transfers.get(name))):
            if name in ratios:
                key = base.name, max(1.0, ratios[name])
                shared.setdefault(key, (base, []))[1].append(name)
    for (_, factor), (base, names) in shared.items():
        title = f"{base.name}, time of {', '.join(names)}"
        yield _longer(comparison, base, title, factor, tuple(names))


def _transferred(row: Row) -> Recipe:
    """Which weights a row begins with, and of whom."""
    stated = laid_over(row.recipes)
    found = {key: value_at(stated, f"model.{key}") for key in ("teacher", "transfer")}
    # None takes a transfer of the plain student's away.
    if not any((found["transfer"] or {}).values()):
        found["transfer"] = None
    further = value_at(stated, "model.teachers")
    return found | ({"teachers": further} if further else {})


def _longer(
    comparison: Comparison, base: Row, name: str, factor: float, as_long_as: tuple[str, ...] = ()
) -> Row:
    stated = laid_over(base.recipes)
    keys = comparison.length or [key for key in LENGTHS if _lasting(value_at(stated, key))]
    if not keys:
        raise ValueError(
            "the recipe of the plain student states neither trainer.max_epochs nor "
            "trainer.max_steps, so it cannot be trained for longer. State one, or name the keys "
            "that say how long a run is in `length`."
        )
    longer: Recipe = laid_over([stating(k, _scaled(k, value_at(stated, k), factor)) for k in keys])
    return Row(name, "control", (*base.recipes, longer), as_long_as)


def _lasting(value: Any) -> bool:
    return bool(value) if isinstance(value, list) else isinstance(value, int) and value > 0


def _scaled(key: str, value: Any, factor: float) -> Any:
    if isinstance(value, list):
        return [_scaled(key, each, factor) for each in value]
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"length names {key}, which is {value!r} in the recipe of the plain student; expected "
            "a key with a whole number above 0, or a list of them"
        )
    return math.ceil(round(value * factor, 6))  # as rounding errors are no further step
