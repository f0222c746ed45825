"""What a reader has to know before the verdicts of a comparison: what speaks against them."""

import math
import statistics
from collections.abc import Iterator, Mapping

from limbeck.comparison.finished import Finished
from limbeck.comparison.rows import TEACHER, TWICE, Row
from limbeck.comparison.scores import Scores
from limbeck.report.intervals import FEWEST_IMAGES, Difference, paired_difference, undertrained

_SEEDS = 3  # from which on the spread of training runs is known a little
_AS_LONG = 0.9  # of the longer one's time; times of machines at work differ by less


def cautions(runs: Finished, scores: Scores) -> list[str]:
    """Find what speaks against the verdicts of a comparison.

    Args:
        runs: Its finished runs.
        scores: Their scores.

    Returns:
        The sentences.
    """
    found = [
        *_few_seeds(runs),
        *_few_images(runs, scores),
        *unequal_steps(runs),
        *_unequal_time(runs),
        *_undefined(runs, scores),
        *_unequal_torch(runs),
        *_undertrained(runs, scores),
        *_weak_teacher(runs, scores),
    ]
    return [*found, *runs.cautions]


def unequal_steps(runs: Finished) -> list[str]:
    """Say which distilled rows are trained for other numbers of steps than the plain student.

    Args:
        runs: The runs.

    Returns:
        A sentence for each such row.
    """
    steps = {row.name: runs.jobs[row.name][0].summary()["steps"] for row in runs.rows}
    plain = steps[runs.rows[0].name]
    return [
        f"{row.name} is trained for {steps[row.name]:,} steps and the plain student for {plain:,}, "
        "so that the two are not compared at equal steps."
        for row in runs.rows
        if row.kind == "distilled" and steps[row.name] != plain
    ]


def better(one: float, other: float, scores: Scores) -> bool:
    """Whether one headline is better than another."""
    return one > other if scores.higher_is_better else one < other


def lead(runs: Finished, scores: Scores) -> Difference | None:
    """How much better the teacher is than the plain student; None: one of them has no score.

    Args:
        runs: The runs.
        scores: Their scores.

    Returns:
        The difference.
    """
    plain = scores.defined(runs.jobs[runs.rows[0].name])
    teacher = scores.defined([runs.teacher] if runs.teacher is not None else [])
    if not plain or not teacher:
        return None
    return paired_difference(
        scores.sampled(teacher), scores.sampled(plain), higher_is_better=scores.higher_is_better
    )


def is_sure(difference: Difference) -> bool:
    """Whether both intervals of a difference, or the only one, lie above 0."""
    return all(low > 0 for low, _ in filter(None, (difference.over_images, difference.over_seeds)))


def torch_versions(runs: Finished) -> dict[str, list[str]]:
    """The runs that each version of torch has trained, by their titles."""
    found: dict[str, list[str]] = {}
    for job in (job for of_row in runs.jobs.values() for job in of_row):
        version = job.summary().get("torch")  # it was not always written
        if version is not None:
            found.setdefault(version, []).append(job.title)
    return dict(sorted(found.items()))


def _few_seeds(runs: Finished) -> Iterator[str]:
    seeds = len(runs.jobs[runs.rows[0].name])
    if seeds < _SEEDS:
        few = "is one seed" if seeds == 1 else f"are {seeds} seeds"
        yield (
            f"There {few}: how much training runs differ among themselves is hardly known. Give "
            "three seeds or more."
        )


def _few_images(runs: Finished, scores: Scores) -> Iterator[str]:
    plain = scores.sampled(scores.defined(runs.jobs[runs.rows[0].name]))
    count = min((model.images for model in plain.values()), default=FEWEST_IMAGES)
    if count < FEWEST_IMAGES:
        yield (
            f"Scores are of {count} image{'' if count == 1 else 's'}: with fewer than "
            f"{FEWEST_IMAGES} no row is called better or worse than another. Score on more "
            "(scored_on)."
        )


def _unequal_time(runs: Finished) -> Iterator[str]:
    """Say which controls at equal time have had less time than their rows, or more."""
    seconds = {name: _seconds(runs, name) for name in runs.jobs}
    for control in runs.rows:
        own = seconds[control.name]
        of_rows = {name: seconds[name] for name in control.as_long_as if name in seconds}
        for name, taken in of_rows.items():
            if own < _AS_LONG * taken:
                yield (
                    f"{control.name} was trained for {own:,.0f} s and {name} for {taken:,.0f} s, "
                    "so that the two are not compared at equal time. Where the comparison states "
                    "time_ratios, state a larger one."
                )
        shorter = {name: taken for name, taken in of_rows.items() if taken < _AS_LONG * own}
        if shorter:
            told = ", ".join(f"{name} for {taken:,.0f} s" for name, taken in shorter.items())
            yield (
                f"{control.name} was trained for {own:,.0f} s, which is longer than its rows took "
                f"({told}): as far as longer training helps, the control has the advantage."
            )


def _seconds(runs: Finished, name: str) -> float:
    return statistics.mean(job.seconds() for job in runs.jobs[name])


def _undefined(runs: Finished, scores: Scores) -> Iterator[str]:
    """Say of which runs the headline is not defined, and why."""
    teacher = [runs.teacher] if runs.teacher is not None else []
    jobs = [*teacher, *(job for of_row in runs.jobs.values() for job in of_row)]
    missing = [job for job in jobs if not math.isfinite(scores.of(job)[scores.headline])]
    if missing:
        first = scores.of(missing[0])
        parts = [name for name, score in first.items() if not math.isfinite(score)]
        parts.remove(scores.headline)
        yield (
            f"The {scores.headline} of {', '.join(job.title for job in missing)} is not defined on "
            f"these images, since {', '.join(parts) or 'it'} is not: so it is with VOC's by area "
            "where a model finds a class of which there is no object. They are left out of means, "
            "differences and verdicts."
        )


def _unequal_torch(runs: Finished) -> Iterator[str]:
    """Say which versions of torch the runs were trained with, where there are several."""
    versions = torch_versions(runs)
    if len(versions) > 1:
        told = "; ".join(f"{version}: {', '.join(titles)}" for version, titles in versions.items())
        yield f"The runs were trained with several versions of torch ({told})."


def _undertrained(runs: Finished, scores: Scores) -> Iterator[str]:
    plain = scores.defined(runs.jobs[runs.rows[0].name])
    longer = scores.defined(runs.jobs.get(TWICE, ()))
    if {job.seed for job in plain} & {job.seed for job in longer}:
        sentence = undertrained(
            scores.sampled(plain),
            scores.sampled(longer),
            higher_is_better=scores.higher_is_better,
        )
        if sentence:
            yield sentence


def _weak_teacher(runs: Finished, scores: Scores) -> Iterator[str]:
    """Say that the teacher is no better than the plain student, hardly better, or surpassed."""
    leading = lead(runs, scores)
    if leading is None:
        return
    if leading.mean <= 0:
        yield "The teacher is no better than the plain student: there is little to learn from it."
        return
    if not is_sure(leading):
        yield (
            f"The teacher leads the plain student by {leading.mean:.4f}, which may be chance, so "
            "no share of its lead is shown."
        )
    means = {row.name: _mean(runs, scores, row) for row in runs.rows if row.kind == "distilled"}
    (taught,) = scores.headlines([runs.teacher] if runs.teacher is not None else [])
    ahead = {n: m for n, m in means.items() if m is not None and better(m, taught, scores)}
    if ahead:
        yield _surpassed(ahead, taught)


def _mean(runs: Finished, scores: Scores, row: Row) -> float | None:
    headlines = scores.headlines(scores.defined(runs.jobs[row.name]))
    return statistics.mean(headlines) if headlines else None


def _surpassed(ahead: Mapping[str, float], taught: float) -> str:
    told = ", ".join(f"{name} ({mean:.3f})" for name, mean in ahead.items())
    return (
        f"{told} {'is' if len(ahead) == 1 else 'are'} better than the {TEACHER} ({taught:.3f}). A "
        "student may be, but a teacher that its student surpasses is most often not trained to its "
        "end: train it for longer, or take a stronger one."
    )
