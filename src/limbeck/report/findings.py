"""What a comparison has found, as ``report.json`` keeps it and the report shows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from limbeck.report.cost import Cost

# What a row is: the teacher, the student trained plainly, a control, or a distilled student.
Kind = Literal["teacher", "plain", "control", "distilled"]
Verdict = Literal["BEATS", "DOES NOT BEAT", "INCONCLUSIVE"]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Trained:
    """One training run of a row.

    Attributes:
        seed: The seed of the run. None: the model was not trained here.
        folder: The folder of the run, which has its ``metrics.csv`` and ``config.yaml``, or None.
        predictions: The file of what it predicts on the images that it is scored on.
        scores: Its scores on these images by name; the headline is one of them.
        steps: The number of optimizer steps. None: it was not trained here.
        seconds: The time spent in training batches, in seconds (CPU time where a CPU has trained,
            wall time otherwise). None: it was not trained here.
        peak_memory_mib: The most memory that training took, in MiB: of the GPU where one has
            trained, otherwise of the process. None: it was not measured.
    """

    seed: int | None
    folder: Path | None
    predictions: Path
    scores: Mapping[str, float]
    steps: int | None = None
    seconds: float | None = None
    peak_memory_mib: float | None = None


@dataclass(frozen=True)
class Compared:
    """One row of a comparison: a recipe, trained with one seed or several.

    Attributes:
        name: The name of the row.
        kind: What the row is.
        runs: Its training runs, in the order of the seeds.
        cost: What the model costs to run, or None where that was not measured.
        share_of_lead: The share of the teacher's lead over the plain student that the row closes;
            None for the teacher and the plain student, and where the teacher's lead may be chance.
        differences: The keys in which its recipe differs from the plain student's, a line each.
        command: The command that trains its first run.
    """

    name: str
    kind: Kind
    runs: Sequence[Trained]
    cost: Cost | None = None
    share_of_lead: float | None = None
    differences: Sequence[str] = ()
    command: str = ""


@dataclass(frozen=True)
class Contrast:
    """The difference in the headline between a row and a control; above 0, the row is better.

    Attributes:
        row: The name of the row.
        control: The name of the row that it is compared with.
        mean: The mean of the difference over seeds.
        by_seed: The difference of each seed.
        over_images: The 95 % interval of the mean under resampling of the images.
        over_seeds: The 95 % t interval of the mean over seeds. None: there is one seed.
        verdict: What the rule says.
    """

    row: str
    control: str
    mean: float
    by_seed: Mapping[int, float]
    over_images: Interval
    over_seeds: Interval | None
    verdict: Verdict


@dataclass(frozen=True)
class Findings:
    """All that a comparison has found.

    Attributes:
        title: The title of the comparison.
        headline: The name of the score by which rows are compared.
        higher_is_better: Whether more of it is better.
        rows: The rows: the teacher, if there is one, the plain student, controls, distilled ones.
        contrasts: Each distilled row against each of its controls.
        rule: The rule of the verdicts, in sentences.
        cautions: What a reader has to know before the verdicts, such as that the plain student is
            under-trained, a sentence each.
        provenance: Where the numbers are from: versions, machine, digests of data, licences of
            weights, the command, by their names.
    """

    title: str
    headline: str
    higher_is_better: bool
    rows: Sequence[Compared]
    contrasts: Sequence[Contrast]
    rule: str
    cautions: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
