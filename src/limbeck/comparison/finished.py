"""The finished runs of a comparison, which its report is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from limbeck.comparison.job import Job
from limbeck.comparison.rows import Row


@dataclass(frozen=True)
class Finished:
    """Finished runs, row by row.

    Attributes:
        title: What the report is called.
        rows: The rows, of which the first is the plain student.
        jobs: The finished runs of each row, by its name.
        teacher: The scoring of the teacher. None: there is none.
        smallest_gain: The smallest gain in the headline that is worth having.
        cautions: What a reader has to know before the verdicts, besides what the runs show.
        provenance: Where the numbers are from, besides versions and machine.
    """

    title: str
    rows: Sequence[Row]
    jobs: Mapping[str, Sequence[Job]]
    teacher: Job | None
    smallest_gain: float
    cautions: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
