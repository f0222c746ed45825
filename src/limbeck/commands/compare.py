"""``limbeck compare``: whether distillation gained anything, and how sure that is."""

from collections.abc import Sequence
from pathlib import Path

from limbeck.commands.checks import refuse_impossible
from limbeck.commands.ending import ended_in_words
from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.recipes import find, folder
from limbeck.commands.stated import parts_of, stated_in
from limbeck.commands.verdicts import show
from limbeck.comparison import compare
from limbeck.comparison.comparing import planned, usual_jobs
from limbeck.comparison.job import Job
from limbeck.comparison.progress import roughly
from limbeck.comparison.rows import PLAIN
from limbeck.comparison.running import written
from limbeck.comparison.stated import read_comparison
from limbeck.comparison.study import Study
from limbeck.comparison.timing import TRIAL, step_seconds
from limbeck.ranges import COUNT, refuse_outside
from limbeck.terminal import Table, say

_FLAGS = {
    "dry_run": f"Print the runs and the expected time. A row without a finished run is tried for "
    f"{TRIAL} steps, of which nothing is kept.",
    "weak_teacher": "Go on where the teacher is weaker than the plain student.",
}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck compare``.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck compare", allow_abbrev=False)
    parser.add_function_arguments(compare_file, as_positional=True, skip=set(_FLAGS))
    parser.add_flags(_FLAGS)
    with ended_in_words(arguments[0]):
        compare_file(**parser.parse_args(arguments[1:]).as_dict())


def compare_file(
    comparison: Path,
    output: Path | None = None,
    jobs: int | None = None,
    dry_run: bool = False,
    weak_teacher: bool = False,
) -> None:
    """Train what a comparison lacks, score all of it, and write the report.

    Finished runs are taken over, and a run that was ended goes on where it was: give the same
    command again.

    Args:
        comparison: The file of the comparison (.yaml), see
            https://limbeck.readthedocs.io/en/latest/guides/comparing.html, or the name of one that
            comes with limbeck, such as `shapes`.
        output: The folder for the runs and the report. Default: `runs/` and the file's name, before
            which that of its folder stands for `comparison.yaml`.
        jobs: The number of runs at once. Default: one for each GPU, otherwise one.
        dry_run: Whether to print the runs and the expected time. A row without a finished run is
            tried for 20 steps, of which nothing is kept.
        weak_teacher: Whether to go on where the teacher is weaker than the plain student.
    """
    refuse_outside({"jobs": COUNT}, {"jobs": jobs}, "--")
    stated = read_comparison(file_of(comparison), find)
    output = output or usual_output(comparison)
    refuse_unwritable_target(output, "--output", folder=True)
    study = Study(stated, output)
    refuse_bad_recipes(study)
    if dry_run:
        show_plan(study, jobs or usual_jobs())
        return
    show(compare(stated, output, jobs=jobs, weak_teacher=weak_teacher), output)


def usual_output(comparison: Path) -> Path:
    """The folder of a comparison where nobody names one; `limbeck new` calls all of them alike."""
    if comparison.stem != "comparison":
        return Path("runs", comparison.stem)
    return Path("runs", comparison.resolve().parent.name, comparison.stem)


def file_of(comparison: Path) -> Path:
    """The file of a comparison, or of the one of this name that comes with limbeck."""
    ours = folder().with_name("comparisons") / f"{comparison}.yaml"
    return ours if ours.is_file() and not comparison.is_file() else comparison


def refuse_bad_recipes(study: Study) -> None:
    """Check every recipe before anything is trained, as `limbeck fit` would check it.

    Args:
        study: The comparison.

    Raises:
        ValueError: A recipe cannot be trained; the message names its row and the key.
    """
    jobs = [study.teacher_training, *study.jobs(study.rows())]
    for job in {job.name: job for job in jobs if job is not None}.values():
        path = study.output / "logs" / f"{job.folder.name}.yaml"
        stated = stated_in([str(written(path, job.recipe or {}))])
        refuse_impossible(stated, "fit")
        untaught = stated.model.teacher is None and not stated.model.teachers
        if untaught and (stated.model.methods or stated.model.transfer):
            _refuse_untaught(study, job, path)
    study.refuse_other_images()
    study.digests.save()


def _refuse_untaught(study: Study, job: Job, path: Path) -> None:
    """Refuse a row that names no teacher, and whose methods or transfer need one."""
    try:
        parts_of([str(path)])  # there are methods without a teacher, such as TFHEAD
    except ValueError as error:
        advice = "."
        if study.comparison.teacher is not None:
            advice = (
                f": the comparison's `teacher` takes the place of a teacher that a row names, and "
                f"rows.{job.name} names none. State model.teacher in it, any one."
            )
        raise ValueError(f"rows.{job.name} names no model.teacher{advice} ({error})") from None


def show_plan(study: Study, jobs: int) -> None:
    """Print the runs of a comparison, and how long they may take.

    Args:
        study: The comparison.
        jobs: The number of runs at once.
    """
    plan = planned(study)
    plain = {row.name: PLAIN for row in study.rows() if row.kind == "control"}
    left = [job for job, _ in plan if job.state in ("missing", "begun")]
    paces = step_seconds([job for job, _ in plan], plain) if left else {}
    table = Table("run", "state", "steps", "expected", title=study.comparison.title)
    total, unknown = 0.0, 0
    for job, steps in plan:
        expected = "-"
        if job in left and job.name in paces:
            seconds = steps * paces[job.name]
            total, expected = total + seconds, roughly(seconds)
        elif job in left:
            unknown, expected = unknown + 1, "unknown"
        table.add_row(job.title, job.state, f"{steps:,}", expected)
    say(table)
    say(
        f"{len(left)} of {len(plan)} runs are left: {roughly(total / jobs)} of training with "
        f"--jobs {jobs}, judged by {TRIAL} steps of each row, or by its finished runs. Not counted "
        "are loading, scoring, the report, and controls at equal time that are not listed: how "
        "long those are is known once the first run of their row is finished."
    )
    if unknown:
        say(
            f"How long {unknown} runs take is not known, as their trial failed. It does while "
            "their teacher is still to be trained; otherwise, `limbeck fit` says what is wrong "
            f"with their recipes in {study.output / 'logs'}."
        )
