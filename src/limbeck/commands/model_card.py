"""The card of a student on the hub of Hugging Face: its README.md, with metadata at its head."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from limbeck.data.base import Task
from limbeck.models.card import CARD, WEIGHTS
from limbeck.names import in_markdown
from limbeck.report.page.sheets import interval_shown, signed
from limbeck.report.table import shown_score
from limbeck.texts import read_text

PIPELINES: Mapping[Task, str] = {
    "detection": "object-detection",
    "classification": "image-classification",
}
_MOST_CLASSES = 100  # names that are listed
NAMES = ("classes", "id2label", "label2id")  # keys of names, which may begin as places do
# How a place on a disk begins, maybe behind a library (mmdetection:/home/me/x.pth): at a root, at a
# home, or at a server. Neither a division nor an address (https://...) is one; file:/// is.
_BEGINNING = (
    r"(?:\bfile:[\\/]+|(?:(?<![\w.:/\\)\]])[\\/]?|(?<=\w\w:))"
    r"(?:~\w*[\\/]|[A-Za-z]:[\\/]+|[\\/])(?=[\w.]))"
)
# The name of a folder. A space is of a name where one more folder follows: "my photos/train".
_FOLDER = r"(?:[^\s\\/\"']|\b'\b|(?<![,;:)\]]) (?=[^\s\\/~:\"']+[\\/]))*[\\/]"
_PLACE = re.compile(rf"{_BEGINNING}(?:{_FOLDER})*")
# A text that begins as a place is one, whatever its spaces.
_ALL_OF_IT = re.compile(rf"\A((?:\w{{2,}}:)?){_BEGINNING}(?:.*[\\/])?")


def without_places(value: Any) -> Any:
    """Plain values in which of each absolute path of a disk the last part is left.

    Args:
        value: Texts, numbers, lists and mappings. Lists and mappings under the keys of ``NAMES``
            stay as they are.

    Returns:
        The same values without such places. Keys that would be one are numbered: ``train (2)``.
    """
    if isinstance(value, str):
        return _PLACE.sub("", _ALL_OF_IT.sub(r"\1", value))
    if isinstance(value, Mapping):
        keys = _keys_without_places(value)
        return {
            keys[key]: each if key in NAMES and not isinstance(each, str) else without_places(each)
            for key, each in value.items()
        }
    return [without_places(each) for each in value] if isinstance(value, list) else value


def _keys_without_places(keys: Iterable[Any]) -> dict[Any, Any]:
    """The keys of a mapping without places, each of which is still another one."""
    short = {key: without_places(key) for key in keys}
    taken = {key for key in short if short[key] == key}
    for key, name in short.items():
        if name != key:
            numbered = (name if number == 1 else f"{name} ({number})" for number in count(1))
            short[key] = next(each for each in numbered if each not in taken)
            taken.add(short[key])
    return short


@dataclass(frozen=True)
class Measured:
    """What a comparison says of one of its students.

    Attributes:
        findings: The findings of ``report.json``, without places on a disk.
        row: The row of the student, one of the findings'.
        seed: The seed of the student's run.
        scores: The scores of that run.
    """

    findings: Mapping[str, Any]
    row: Mapping[str, Any]
    seed: int | None
    scores: Mapping[str, float]


def measured_in(report: Path, student: Path) -> Measured:
    """Find a student in the report of a comparison, by the folder of its run.

    Args:
        report: The ``report.json``, where `limbeck compare` wrote it.
        student: The student's folder.

    Returns:
        What the report says of it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no report, or no run of it is the student's.
    """
    if not report.is_file():
        raise FileNotFoundError(
            f"{report} is not a file. Give the report.json that `limbeck compare` has written."
        )
    try:
        findings = json.loads(read_text(report))["findings"]
        runs = {
            (report.parent / run["folder"] / "student").resolve(): (row, run)
            for row in findings["rows"]
            for run in row["runs"]
            if run["folder"] is not None
        }
        found = runs.get(student.resolve())
        if found is not None:
            row, run = found
            findings, row = without_places(findings), without_places(row)
            return Measured(findings, row, run["seed"], run["scores"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{report} is no report of a comparison ({type(error).__name__}: {error}). Give the "
            "report.json that `limbeck compare` has written."
        ) from None
    raise ValueError(
        f"{report} has no run whose student is {student}; its runs are in "
        f"{', '.join(map(str, runs))}. Give the student's folder of one of them, or no --report."
    )


def write_card(
    name: str, said: Mapping[str, Any], task: Task, licence: str | None, measured: Measured | None
) -> str:
    """Write the README.md of a student.

    Args:
        name: The student's name on the hub, ``owner/name``.
        said: What ``student.json`` says; of it, what no loading of a student has checked is told
            where it is there. Places on a disk are left out.
        task: The task of the student.
        licence: The licence of the student, by the hub's name of it. None: nothing is said.
        measured: What a comparison says of it. None: there is none.

    Returns:
        The text.
    """
    data = ModelCardData(
        license=licence,
        library_name="limbeck",
        pipeline_tag=PIPELINES[task],
        tags=["limbeck", "knowledge-distillation", PIPELINES[task]],
        model_name=name.partition("/")[2],
        eval_results=None if measured is None else _results(task, measured),
    )
    said = without_places(said)
    parts = [*_student(name, said), *_use(name, said)]
    if measured is not None:
        parts += [*_scores(measured), *_origins(measured)]
    text = "\n\n".join(each for each in parts if each)
    return f"---\n{data.to_yaml().strip()}\n---\n\n{text}\n"


def _results(task: Task, measured: Measured) -> list[EvalResult] | None:
    """The headline of this very run, on the images that the comparison was scored on."""
    headline = measured.findings["headline"]
    if headline not in measured.scores:  # it is not defined on them
        return None
    return [
        EvalResult(
            task_type=PIPELINES[task],
            dataset_type="custom",
            dataset_name=measured.findings["title"],
            dataset_args=_digests(measured) or None,
            metric_type=headline,
            metric_name=headline,
            metric_value=round(measured.scores[headline], 4),
        )
    ]


def _digests(measured: Measured) -> dict[str, str]:
    stated = measured.findings.get("provenance", {})
    return {key: value for key, value in stated.items() if key.startswith("sha256 of ")}


def _student(name: str, said: Mapping[str, Any]) -> Iterator[str]:
    kind = str(said["build"]["class_path"])
    yield f"# {in_markdown(name.partition('/')[2])}"
    version, images = _stated(said, "versions", "limbeck"), _stated(said, "input", "images")
    yield f"A `{kind}`, trained and exported with limbeck{version and f' {version}'}." + (
        images and f" Images are {images}."
    )
    classes = said.get("classes") or []
    if classes:
        shown = ", ".join(in_markdown(each) for each in classes[:_MOST_CLASSES])
        more = f", and {len(classes) - _MOST_CLASSES} more" if len(classes) > _MOST_CLASSES else ""
        yield f"Its {len(classes)} classes: {shown}{more}."
    if said.get("licence"):
        yield f"It began with weights whose licence is: {in_markdown(str(said['licence']))}."


def _stated(said: Any, *keys: str) -> str:
    """A text of the card that nothing has checked, as Markdown; "" where there is none."""
    for key in keys:
        said = said.get(key) if isinstance(said, Mapping) else None
    return in_markdown(said) if isinstance(said, str) else ""


def _use(name: str, said: Mapping[str, Any]) -> Iterator[str]:
    yield "## With limbeck"
    yield (
        "```python\nfrom limbeck.models import load_student\n\n"
        f'model = load_student("hf:{name}")\n```'
    )
    yield f"```\nlimbeck predict hf:{name} photographs\n```"
    code = said.get("without_limbeck")
    if isinstance(code, str) and "```" not in code:
        yield "## Without limbeck"
        yield f"Download `{WEIGHTS}` (`hf download {name}`). `{CARD}` has the rest."
        yield f"```python\n{code.strip()}\n```"
    else:
        yield "What builds this network without limbeck is not known."


def _scores(measured: Measured) -> Iterator[str]:
    findings, headline = measured.findings, measured.findings["headline"]
    yield "## What it was measured with"
    yield (
        f"This student is of the row {in_markdown(measured.row['name'])}, seed {measured.seed}: "
        + ", ".join(f"{key} {value:.3f}" for key, value in measured.scores.items())
        + ". All rows of the comparison:"
    )
    rows = [f"| row | what it is | {headline} of each seed |", "|---|---|---|"]
    for row in findings["rows"]:
        values = ", ".join(shown_score(run["scores"].get(headline)) for run in row["runs"])
        rows.append(f"| {in_markdown(row['name'])} | {row['kind']} | {values} |")
    yield "\n".join(rows)
    contrasts = [each for each in findings["contrasts"] if each["row"] == measured.row["name"]]
    if contrasts:
        head = f"| against | {headline} | 95 % over images | 95 % over seeds | verdict |"
        yield "\n".join([head, "|---|---|---|---|---|", *map(_contrast, contrasts)])
        yield f"The rule: {in_markdown(findings['rule'])}"
    for caution in findings.get("cautions", ()):
        yield f"**Caution:** {in_markdown(caution)}"


def _contrast(contrast: Mapping[str, Any]) -> str:
    intervals = (contrast["over_images"], contrast["over_seeds"])
    cells = [
        in_markdown(contrast["control"]),
        signed(contrast["mean"]),
        *map(interval_shown, intervals),
        contrast["verdict"],
    ]
    return f"| {' | '.join(cells)} |"


def _origins(measured: Measured) -> Iterator[str]:
    """Versions, digests of data, and the licences of weights."""
    stated = measured.findings.get("provenance", {})
    if stated:
        yield "## Where the numbers are from"
        yield "\n".join(f"- {in_markdown(k)}: {in_markdown(str(v))}" for k, v in stated.items())
