"""``limbeck quickstart``: what distillation gains, on generated images, in minutes."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from limbeck.commands.compare import file_of
from limbeck.commands.ending import ended_in_words
from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.commands.recipes import find
from limbeck.commands.verdicts import show
from limbeck.comparison import Comparison, compare, read_comparison
from limbeck.comparison.reporting import KEPT, keeps
from limbeck.machine import cores
from limbeck.names import in_shell
from limbeck.ranges import Range, refuse_outside
from limbeck.report import Row, Table
from limbeck.report.findings import Compared, Findings
from limbeck.terminal import say

log = logging.getLogger(__name__)

NAME = "shapes"
WRITTEN = {
    *("runs", "logs", "pictures", KEPT, "digests.json", "times.json"),
    *("report.html", "report.md", "report.json"),
}


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck quickstart``.

    Args:
        arguments: The verb, and the words that follow it.
    """
    parser = VerbParser(prog="limbeck quickstart", allow_abbrev=False)
    parser.add_function_arguments(quickstart)
    with ended_in_words("quickstart"):
        quickstart(**parser.parse_args(arguments[1:]).as_dict())


def quickstart(output: Path = Path("runs/quickstart"), seed: int = 0) -> None:
    """Train a teacher and a student of its own, and report what distilling the student gains.

    It is the comparison `shapes` with one seed: the student is also trained plainly, with the
    teacher's head alone, each of them for as long as the distilled one takes, and for longer.
    Finished runs are taken over, and what was ended goes on: give the same command again.

    Args:
        output: The folder for the runs and the report. Another comparison in it is moved aside.
        seed: The seed of all runs.
    """
    refuse_outside({"seed": Range(0, 2**32 - 1)}, {"seed": seed}, "--")
    for folder in (output.parent, output):
        refuse_unwritable_target(folder, "--output", folder=True)
    every_seed = read_comparison(file_of(Path(NAME)), find)
    comparison = replace(every_seed, seeds=[seed])
    make_room(output, comparison)
    at_once = torch.cuda.device_count() or min(2, cores())
    # weak_teacher: whatever comes out, a quickstart ends in a report.
    findings = compare(comparison, output, jobs=at_once, weak_teacher=True)
    say(scores(findings).to_rich())
    show(findings, output)
    also = ", with the runs of this one" if seed == every_seed.seeds[0] else ""
    more = f"limbeck compare {NAME} --output {in_shell(output)} --jobs {at_once}"
    say(f"For verdicts from {len(every_seed.seeds)} seeds{also}: {more}")


def make_room(output: Path, comparison: Comparison) -> None:
    """Move another comparison in ``output`` aside, so that nothing that was trained is lost.

    Args:
        output: The folder that is to be free, or to hold this comparison.
        comparison: The comparison, which goes on if the folder holds it.

    Raises:
        FileExistsError: There is something else in the folder.
    """
    output = output.resolve()
    inside = [path.name for path in output.iterdir()] if output.exists() else []
    if not inside or keeps(output, comparison):
        return
    if others := sorted(set(inside) - WRITTEN):
        raise FileExistsError(
            f"--output {output} holds {', '.join(others[:3])}, which no comparison has written. "
            "Expected a folder for its results alone. Give another one, such as "
            f"{output / 'quickstart'}."
        )
    made = time.strftime("%Y%m%d-%H%M%S", time.localtime(output.stat().st_mtime))
    aside = output.with_name(f"{output.name}-{made}")
    output.rename(aside)
    log.info("another comparison was moved to %s", aside)


def scores(findings: Findings) -> Table:
    """What each model scores and costs.

    Args:
        findings: What the comparison has found.

    Returns:
        The table.
    """
    return Table([_row(row, findings.headline) for row in findings.rows], findings.title)


def _row(row: Compared, headline: str) -> Row:
    run = row.runs[0]  # of the one seed
    note = "" if run.steps is None else f"{run.steps:,} steps"
    return Row(row.name, {headline: run.scores[headline]}, row.cost, run.seconds, note)
