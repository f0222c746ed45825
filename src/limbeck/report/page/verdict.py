"""What the comparison says, in one sentence for each distilled student."""

from collections.abc import Sequence
from typing import get_args

from limbeck.names import escaped
from limbeck.report.findings import Compared, Findings, Verdict

WORDS: dict[Verdict, str] = {
    "BEATS": "beats",
    "DOES NOT BEAT": "does not beat",
    "INCONCLUSIVE": "is inconclusive against",
}


def verdicts_of(row: Compared, findings: Findings) -> dict[Verdict, list[str]]:
    """The names of the controls by the verdict that the row has against them."""
    contrasts = [contrast for contrast in findings.contrasts if contrast.row == row.name]
    found: dict[Verdict, list[str]] = {
        verdict: [c.control for c in contrasts if c.verdict == verdict]
        for verdict in get_args(Verdict)
    }
    return {verdict: controls for verdict, controls in found.items() if controls}


def sentence(row: Compared, findings: Findings) -> str:
    """Say what a row beats: ``beats plain and transfer; does not beat plain, time of KD``."""
    verdicts = verdicts_of(row, findings)
    if not verdicts:
        return "was compared with no control"
    total = sum(map(len, verdicts.values()))
    if len(verdicts) == 1 and total > 1:
        verdict = next(iter(verdicts))
        return f"{WORDS[verdict]} {'any' if verdict == 'DOES NOT BEAT' else 'all'} {_of(total)}"
    parts = [f"{WORDS[verdict]} {_listed(names)}" for verdict, names in verdicts.items()]
    return "; ".join(parts)


def _of(total: int) -> str:
    return f"of its {total} controls"


def _listed(names: Sequence[str]) -> str:
    shown = [f"“{escaped(name)}”" for name in names]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
