"""The eleven cases of ``../shared/cases``: what their READMEs call right, checked."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from campaign.results import Result

TRACE = "Traceback (most recent call last)"
Check = Callable[[str], str]  # the output of run.sh -> "" or what is wrong


def find() -> Path | None:
    """The folder of the cases, or None where this clone has none."""
    named = os.environ.get("LIMBECK_SHARED")
    shared = Path(named) if named else Path(__file__).resolve().parents[3] / "shared"
    return shared / "cases" if (shared / "cases").is_dir() else None


def _detections(said: str) -> str:
    found = [line for line in said.splitlines() if line.startswith("./")]
    outside = [line for line in found if not re.fullmatch(r"\./run/results/[^/]+", line)]
    if outside:
        return f"written elsewhere: {outside}"
    # Refused with a sentence is right, too; its words go to /dev/null in run.sh.
    return "" if found or "rc=1" in said else "no file for a class"


def _orientation(said: str) -> str:
    """A warning with the count and an argument, or boxes that hold the objects."""
    if TRACE in said:
        return "a traceback"
    means = re.findall(r"mean colour in the box \[([\d., ]+)\]", said)
    right = [
        all(abs(float(v) - w) < 25 for v, w in zip(m.split(","), (220, 40, 40), strict=True))
        for m in means
    ]
    if len(right) == 2 and all(right):
        return ""
    return (
        ""
        if re.search(r"\bEXIF orientation", said)
        else "boxes on the stored pixels without a word"
    )


def _losses(said: str) -> str:
    if (
        re.search(r"\(4, 3\)", said)
        and re.search(r"scalar|logits", said)
        and "{" in said.splitlines()[-1]
    ):
        shown = re.findall(r"^\{.*\} (-?[\d.]+)$", said, re.M)
        return "the logits are minimised" if shown else ""
    values = [float(v) for v in re.findall(r"^\{.*\} (-?[\d.e+]+)$", said, re.M)]
    if values and all(v >= 0 for v in values) and "(4, 3)" not in said:
        return ""  # the logits are used with the classes
    return "" if not values and "scalar" in said else "no sentence that names the logits"


def _teacher(said: str) -> str:
    if TRACE in said:
        return "a traceback"
    named = re.search(r"class", said) and re.search(r"'a'|\ba, b, c\b", said)
    return "" if "rc=1" in said and named else "trains on other classes"


def _labels(said: str) -> str:
    lines = [line for line in said.splitlines() if line.startswith("##")]
    wrong = [
        line
        for line in lines
        if "check passes" in line or "IndexError" in line or "label" not in line.partition("->")[2]
    ]
    return "" if len(lines) == 9 and not wrong else f"{len(wrong)} of {len(lines)}: {wrong[:2]}"


def _companions(said: str) -> str:
    ends = [line for line in said.splitlines() if line.strip()]
    good = [line for line in ends if "student:" in line or "/student" in line]
    return "" if len(good) == 3 else f"{len(good)} of 3 layouts train: {ends}"


def _overwritten(said: str) -> str:
    sums = re.findall(r"^([0-9a-f]{32})  (\S+)", said, re.M)
    before, after = sums[: len(sums) // 2], sums[len(sums) // 2 :]
    if before != after:
        return "the pictures were overwritten"
    return "" if "rc=1" in said and TRACE not in said else "not refused with exit 1"


def _brackets(said: str) -> str:
    return "" if "rc=0" in said and "MarkupError" not in said else said[-200:]


def _training(said: str) -> str:
    crowd, _, zero = said.partition("== zero")
    wrong = []
    if not re.search(r"crowd|training", crowd.partition("== crowd")[2]):
        wrong.append("crowds are trained on without a word")
    if "AssertionError" in zero or (
        not re.search(r"zero\.json|\.png", zero) and "training" not in zero
    ):
        wrong.append("a box of no width is told of by torchvision, or without its picture")
    return "; ".join(wrong)


def _vit(said: str) -> str:
    return "" if "rc=0" in said else said[-300:]


def _pascal(said: str) -> str:
    if "num_classes to 20" in said:
        return "told to set num_classes to 20"
    return "" if "rc=0" in said or re.search(r"classes: \[|classes=\[", said) else said[-300:]


CHECKS: dict[str, tuple[int, Check]] = {
    "detections-class-name-is-a-path": (3, _detections),
    "exif-orientation-annotated-upright": (4, _orientation),
    "hf-student-output-taken-as-losses": (2, _losses),
    "kd-teacher-of-other-classes": (2, _teacher),
    "labels-from-zero-own-loop": (2, _labels),
    "macos-companion-files": (4, _companions),
    "predict-overwrites-the-pictures": (3, _overwritten),
    "square-brackets-in-class-name": (3, _brackets),
    "train-set-without-training-true": (2, _training),
    "vit-teacher-in-a-recipe": (5, _vit),
    "voc-subset-of-pascal-names": (9, _pascal),
}


def programs(folder: Path) -> Path:
    """``limbeck`` and ``python`` of this environment, as the cases call them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, words in {"limbeck": "-m limbeck", "python": ""}.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
        path.chmod(0o755)
    return folder


def campaign(folder: Path, tell: Callable[[str], None], only: str = "") -> Result:
    """Every case that there is.

    Args:
        folder: To work in.
        tell: Takes a line at a time.
        only: A word in the names of those that are run.
    """
    result = Result("cases of ../shared/cases", point=2)
    cases = find()
    if cases is None:
        tell("skipped: ../shared/cases is not here (LIMBECK_SHARED names another place)")
        return result
    environment = os.environ | {"BIN": str(programs(folder / "bin")), "TMPDIR": str(folder)}
    for name, (point, check) in CHECKS.items():
        if only not in name:
            continue
        words = ["bash", str(cases / name / "run.sh")]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            check=False,
            timeout=600,
        )
        said = done.stdout + done.stderr
        (folder / f"{name}.out").write_text(said)
        result.tried += 1
        if wrong := check(said):
            result.failed[name] = f"[{point}] {wrong} (`BIN=... bash {words[1]}`)"
            tell(f"{name}: {wrong}")
    return result
