"""Which weight suits a method: successive halving on a part of the schedule, and on a split.

Jamieson, Talwalkar: Non-stochastic Best Arm Identification and Hyperparameter Optimization. AISTATS
2016, arXiv:1502.07943: all candidates are trained for a short time, the better half for twice as
long, and so on. The paper goes on from checkpoints. Here each round is trained anew over a whole,
shorter schedule: at a quarter of a one-cycle or a cosine the learning rate is at its height, where
scores say little about those at its end.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from pathlib import Path
from typing import Any

from limbeck.comparison.argument import Argument, Effect, grid
from limbeck.comparison.identity import Digests, identity
from limbeck.comparison.job import Job, scoring_of, slug, student_in
from limbeck.comparison.parts import steps_of
from limbeck.comparison.running import RunFailedError, Runs, ended_together
from limbeck.comparison.scores import Scores
from limbeck.recipe import Recipe, laid_over, value_at
from limbeck.report.intervals import paired_difference
from limbeck.texts import read_text
from limbeck.training.callbacks import BALANCE

log = logging.getLogger(__name__)

HELD_OUT = 0.2  # of the training images
_DIVERGED = "NaN or infin"  # what is said of losses and parameters that are no longer finite


@dataclass(frozen=True)
class Tuning:
    """What is tuned, and how.

    Attributes:
        recipe: The whole recipe of the student and its method.
        argument: The argument of the method that is tuned.
        candidates: The number of weights on the grid, beside the stated one.
        share: The part of the schedule that the last candidates are trained for.
        halvings: How often the worse half is left out. Each round is half as long as the next one.
        seed: The seed of the split and of the runs.
    """

    recipe: Recipe
    argument: Argument
    candidates: int = 7
    share: float = 0.25
    halvings: int = 2
    seed: int = 0

    def shares(self) -> list[float]:
        """The part of the schedule that the candidates of each round are trained for."""
        return [self.share / 2**left for left in reversed(range(self.halvings + 1))]

    def run(self, number: float, share: float) -> Recipe:
        """The recipe of a run.

        Args:
            number: The number that the argument has.
            share: The part of the schedule that it is trained for.

        Returns:
            The recipe, whose training set is one side of a split, and whose validation set is the
            other; the validation set of the recipe is in it no more.
        """
        stated = laid_over([self.recipe, self.argument.recipe(number)])
        split = {**stated, "data": {**stated["data"], **self._sides()}}
        return laid_over([split, *_shortened(split, share)])

    def _sides(self) -> Recipe:
        train = value_at(self.recipe, "data.train")
        if train is None:
            raise ValueError(
                "data.train is missing: weights are chosen on a part of the training images. "
                "Expected a dataset. Give it."
            )
        sides = {"train": "training", "val": "held_out"}
        arguments = {"dataset": train, "share": HELD_OUT, "seed": self.seed}
        return {
            key: {"class_path": "limbeck.data.Split", "init_args": {**arguments, "side": side}}
            for key, side in sides.items()
        }


@dataclass(frozen=True)
class Tuned:
    """What tuning has found.

    Attributes:
        headline: The name of the score by which numbers were chosen.
        images: The number of held-out images that it is of.
        level: The number with which the method pulls as strongly as the task.
        grid: The numbers on the grid, in ascending order.
        rounds: The score of each number that was in a round, round by round. None: the losses of
            that run became infinite.
        chosen: The number that was best in the last round.
        as_good: The other numbers of the last round whose difference to it is within what other
            images may give: its 95 % interval holds 0.
    """

    headline: str
    images: int
    level: float
    grid: Sequence[float]
    rounds: Sequence[Mapping[float, float | None]]
    chosen: float
    as_good: Sequence[float]


def tune(tuning: Tuning, effect: Effect, output: Path) -> Tuned:
    """Choose a number of a method. Runs that are there are taken over, and killed ones go on.

    Args:
        tuning: What is tuned.
        effect: What the number does to the weights of the method.
        output: The folder for the runs and what they said.

    Returns:
        The number, and the scores of all.

    Raises:
        RunFailedError: A run has failed. Losses that became infinite are a failure only where the
            stated number has them in the first round, or all that is left in the last one.
        ValueError: The first round is too short for a balance report, or the score is not defined
            on the held-out images.
    """
    digests, stated = Digests(output / "digests.json"), tuning.argument.number
    shares, rounds = tuning.shares(), []
    with Runs(output / "logs", jobs=1) as runs, ended_together(runs.end):
        first = _job(tuning, stated, shares[0], output, digests)
        digests.save()
        runs.finish([first])
        level = effect.level(stated, _levels(first))
        on_grid = grid(level, tuning.candidates)
        scores = Scores(first.scoring)
        left = list(dict.fromkeys([stated, *on_grid]))  # where scores are equal, the first stays
        log.info(
            "%s: the balance report's advice is %.2g; %d numbers are tried on %.3g of the schedule",
            tuning.argument.key,
            level,
            len(left),
            shares[0],
        )
        for share in shares:
            jobs = {each: _job(tuning, each, share, output, digests) for each in left}
            runs.expect(list(jobs.values()))
            rounds.append({each: _score(runs, job, scores) for each, job in jobs.items()})
            ranked = _ranked(rounds[-1], higher_is_better=scores.higher_is_better)
            left = ranked[: ceil(len(ranked) / 2)]
    digests.save()
    finite = {each: jobs[each] for each in ranked if rounds[-1][each] is not None}
    if not finite:
        raise RunFailedError(
            f"the losses of all that was left ({', '.join(map(str, ranked))}) became infinite in "
            "the last round. Lower the learning rate or clip gradients."
        )
    as_good = list(_as_good(finite, scores))
    return Tuned(scores.headline, len(scores.images), level, on_grid, rounds, ranked[0], as_good)


def _job(tuning: Tuning, number: float, share: float, output: Path, digests: Digests) -> Job:
    recipe, runs = tuning.run(number, share), output / "runs"
    known = identity(recipe, tuning.seed, digests, runs)
    name = f"{tuning.argument.name} {number:g}"
    folder = runs / f"{slug(name)}_{tuning.seed}_{known}"
    trainer = {"default_root_dir": str(folder), "enable_progress_bar": False}
    own = {"seed_everything": tuning.seed, "trainer": trainer}
    scoring = scoring_of(recipe, student_in(folder))
    title = f"{name}, {share:.0%} of the schedule"
    return Job(title, tuning.seed, laid_over([recipe, own]), folder, scoring)


def _score(runs: Runs, job: Job, scores: Scores) -> float | None:
    """The score of a run, which is trained where it is missing. None: its losses were infinite."""
    try:
        runs.finish([job])
    except RunFailedError as error:
        if _DIVERGED not in str(error):
            raise
        log.warning("%s is left out, as its losses became infinite.", job.title)
        return None
    score = scores.of(job)[scores.headline]
    if not isfinite(score):
        raise ValueError(
            f"{job.title}: its {scores.headline} is not defined on the held-out images, as VOC's "
            "by area is where a class has no object there. State another model.metric, or give "
            "another --seed."
        )
    return score


def _ranked(scores: Mapping[float, float | None], *, higher_is_better: bool) -> list[float]:
    """The numbers from the best to the worst; those without a score come last."""
    sign = -1 if higher_is_better else 1
    known = {number: sign * score for number, score in scores.items() if score is not None}
    return sorted(known, key=known.__getitem__) + [each for each in scores if each not in known]


def _as_good(ranked: Mapping[float, Job], scores: Scores) -> Iterator[float]:
    """The numbers whose runs may be as good as the first one on other images."""
    best, *others = ranked
    for other in others:
        models = scores.sampled([ranked[best]]), scores.sampled([ranked[other]])
        difference = paired_difference(*models, higher_is_better=scores.higher_is_better)
        if difference.over_images[0] <= 0:
            yield other


def _levels(job: Job) -> dict[str, float | None]:
    """The weight at which each term has the task's gradient, as the run has measured it."""
    path = job.folder / BALANCE
    if not path.is_file():
        raise ValueError(
            f"{job.title}: its {job.summary()['steps']} steps ended before the balance report, "
            "which needs 20 steps with all terms. Give a larger --share, or fewer --halvings."
        )
    terms: list[dict[str, Any]] = json.loads(read_text(path))["terms"]
    return {term["name"]: term["level"] for term in terms}


def _shortened(recipe: Recipe, share: float) -> Iterator[Recipe]:
    """What makes a run as long as a share of its schedule, measured at its end alone."""
    whole = steps_of(recipe)
    if whole is None:
        raise ValueError(
            "the recipe states neither trainer.max_epochs nor trainer.max_steps, so nobody knows "
            "what a part of its schedule is. State one."
        )
    never = {"check_val_every_n_epoch": 2**31, "val_check_interval": None}
    yield {"trainer": {"max_steps": max(1, round(whole * share)), **never}}
    stated = value_at(recipe, "model.learning_rate") or {}
    if stated.get("milestones"):
        one_epoch = {"trainer": {"max_epochs": 1, "max_steps": -1}}
        in_epochs = stated.get("unit", "epochs") == "epochs"
        unit = steps_of(laid_over([recipe, one_epoch])) if in_epochs else 1
        milestones = [round(each * (unit or 1) * share) for each in stated["milestones"]]
        yield {"model": {"learning_rate": {"milestones": milestones, "unit": "steps"}}}
