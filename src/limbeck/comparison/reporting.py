"""The report of runs that are there: those of a comparison, or what `limbeck fit` has left."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limbeck.comparison.comparison import Comparison, Controls
from limbeck.comparison.finished import Finished
from limbeck.comparison.identity import FREE, Digests, identity
from limbeck.comparison.job import Job, scoring_of, student_in
from limbeck.comparison.measuring import measure
from limbeck.comparison.pictures import drawn
from limbeck.comparison.rows import TEACHER, UNMEASURED, Row, measured_teacher, stated_teachers
from limbeck.comparison.running import Runs, ended_together
from limbeck.comparison.scores import Scores
from limbeck.comparison.study import Study
from limbeck.recipe import Recipe, value_at
from limbeck.report.findings import Findings, Kind
from limbeck.report.page import MethodPicture, write_report
from limbeck.texts import read_text, read_yaml
from limbeck.whole import write_whole

KEPT = "comparison.json"
_OWN = ("default_root_dir", "enable_progress_bar", "callbacks", "logger", "plugins")


def keep(comparison: Comparison, output: Path) -> None:
    """Write a comparison into its folder, for a report without its file.

    Args:
        comparison: The comparison.
        output: Its folder, which is made where it is missing.
    """
    write_whole(output / KEPT, _as_json(comparison))


def keeps(output: Path, comparison: Comparison) -> bool:
    """Whether :func:`keep` wrote this comparison into a folder, and no other one since."""
    return (output / KEPT).is_file() and read_text(output / KEPT) == _as_json(comparison)


def _as_json(comparison: Comparison) -> str:
    return json.dumps(asdict(comparison), indent=1, default=str) + "\n"


def kept(output: Path) -> Comparison:
    """Read what :func:`keep` wrote."""
    stated: dict[str, Any] = json.loads(read_text(output / KEPT))
    return Comparison(**stated | {"controls": Controls(**stated["controls"])})


def report(folders: Sequence[Path], output: Path | None = None) -> Findings:
    """Write the report of a comparison, or of runs that ``limbeck fit`` has left.

    Of single runs the first that has neither methods nor a transfer is the plain student; runs that
    differ in nothing but the seed are one row. What they predict on their validation images is
    found out where it is not known.

    Args:
        folders: The folder of one comparison, or those of runs.
        output: The folder for ``report.html``, ``report.md`` and ``report.json``. Default (None):
            that of the comparison, otherwise ``report`` beside the first run.

    Returns:
        What was found.

    Raises:
        FileNotFoundError: A folder holds neither a comparison nor a finished run.
        ValueError: None of the runs is plain, or two are of one recipe and one seed.
    """
    output = output or folder_for(folders)
    if _holds_comparison(folders):
        return report_of(Study(kept(folders[0]), folders[0]), output)
    return _reported(_finished(folders, output), output)


def report_of(study: Study, output: Path) -> Findings:
    """Write the report of a comparison, of what is finished of it.

    Args:
        study: The comparison.
        output: The folder for the report.

    Returns:
        What was found.

    Raises:
        ValueError: No run of the plain student is finished.
    """
    finished = study.finished(study.rows())
    pictures = drawn([of_row[0] for of_row in finished.jobs.values()], study.output)
    return _reported(finished, output, pictures)


def _reported(finished: Finished, output: Path, pictures: Sequence[MethodPicture] = ()) -> Findings:
    scores = Scores(finished.jobs[finished.rows[0].name][0].scoring)
    findings = measure(finished, scores)
    write_report(findings, scores.images, output, pictures)
    return findings


def folder_for(folders: Sequence[Path]) -> Path:
    """The folder for a report, where nobody names another one."""
    return folders[0] if _holds_comparison(folders) else folders[0].parent / "report"


def _holds_comparison(folders: Sequence[Path]) -> bool:
    return len(folders) == 1 and (folders[0] / KEPT).is_file()


def _finished(folders: Sequence[Path], output: Path) -> Finished:
    recipes = {folder: _recipe_of(folder) for folder in folders}
    plain = next((r for r in recipes.values() if _kind(r) == "plain"), None)
    if plain is None:
        raise ValueError(
            f"none of {', '.join(map(str, folders))} is plain: each has methods or a transfer. "
            "Give the run of the student without them as well."
        )
    by_recipe: dict[str, list[Path]] = {}
    for folder, recipe in recipes.items():
        by_recipe.setdefault(json.dumps(_shared(recipe), sort_keys=True), []).append(folder)
    rows, jobs = [], {}
    digests = Digests(output / "digests.json")
    for group, name in zip(by_recipe.values(), _names(list(by_recipe.values())), strict=True):
        _refuse_repeated({run: recipes[run] for run in group})
        row = Row(name, _kind(recipes[group[0]]), (_shared(recipes[group[0]]),))
        rows.append(row)
        jobs[row.name] = [_job(row.name, recipes[run], run, plain, digests) for run in group]
    rows.sort(key=lambda row: row.kind != "plain")
    teacher = _teacher(plain, list(recipes.values()), output, digests)
    digests.save()
    with Runs(output / "logs", jobs=1) as runs, ended_together(runs.end):
        runs.finish([*(job for of_row in jobs.values() for job in of_row), *teacher])
    cautions = ["Scores are of the validation data, by which recipes may have been chosen."]
    if not teacher and any(map(stated_teachers, recipes.values())):
        cautions.append(UNMEASURED)
    title = f"{len(folders)} runs"
    return Finished(title, rows, jobs, next(iter(teacher), None), 0.005, cautions)


def _job(name: str, recipe: Recipe, run: Path, plain: Recipe, digests: Digests) -> Job:
    scoring = scoring_of(plain, student_in(run))
    scored = _scored_with(scoring, digests)
    return Job(name, _seed(recipe), recipe, run, scoring, scored=scored)


def _seed(recipe: Recipe) -> int:
    return int(recipe.get("seed_everything") or 0)


def _refuse_repeated(recipes: Mapping[Path, Recipe]) -> None:
    """Refuse runs of one recipe that have one seed: they would count as two."""
    seed, count = Counter(map(_seed, recipes.values())).most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"{', '.join(map(str, recipes))} are runs of one recipe, and {count} of them have the "
            f"seed {seed}; expected each seed once. Leave the others out."
        )


def _scored_with(scoring: Recipe, digests: Digests) -> str:
    """The digest of models, images and metric: a run may be trained anew in the same folder."""
    return identity(scoring, 0, digests, digests.cache.parent / "runs")


def _recipe_of(run: Path) -> Recipe:
    if (run / KEPT).is_file():
        raise ValueError(
            f"{run} is a comparison, which has a report of its own. Give it alone, or give folders "
            f"of {run / 'runs'}."
        )
    for name in ("config.yaml", "summary.json", "student/student.json"):
        if not (run / name).is_file():
            raise FileNotFoundError(
                f"{run} holds neither a comparison nor a finished run: there is no {name} in it. "
                "Give the folder of a comparison, or of runs that `limbeck fit` has finished."
            )
    recipe: Recipe = _stated(read_yaml(run / "config.yaml"))
    return recipe


def _stated(value: Any) -> Any:
    """A recipe without the keys that are None, which are those that nobody stated."""
    if isinstance(value, Mapping):
        return {key: _stated(each) for key, each in value.items() if each is not None}
    return value


def _shared(recipe: Recipe) -> Recipe:
    """What the runs of a row share."""
    shared = {key: value for key, value in recipe.items() if key not in FREE}
    trainer = recipe.get("trainer") or {}
    shared["trainer"] = {key: value for key, value in trainer.items() if key not in _OWN}
    shared["data"] = {key: value for key, value in recipe["data"].items() if key != "seed"}
    return shared


def _kind(recipe: Recipe) -> Kind:
    if value_at(recipe, "model.methods"):
        return "distilled"
    return "control" if value_at(recipe, "model.transfer") else "plain"


def _names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """What each row is called: the folder of its first run, or its path where others are alike."""
    firsts = [group[0].resolve() for group in groups]
    alike = Counter([TEACHER, *(first.name for first in firsts)])
    names = [str(first) if alike[first.name] > 1 else first.name for first in firsts]
    return [
        name if len(group) == 1 else f"{name} and {len(group) - 1} more"
        for name, group in zip(names, groups, strict=True)
    ]


def _teacher(plain: Recipe, recipes: Sequence[Recipe], output: Path, digests: Digests) -> list[Job]:
    stated = measured_teacher(recipes)
    if stated is None:
        return []
    scoring = scoring_of(plain, plain["model"]["student"])
    scoring["model"]["teacher"] = stated
    scored = _scored_with(scoring, digests)
    return [Job(TEACHER, None, None, output / TEACHER, scoring, side="teacher", scored=scored)]
