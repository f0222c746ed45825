"""The page of what a run leaves names every file and every key that there is, and no other."""

import json
import re
from pathlib import Path

import torch

from tests.commands.conftest import Runs

PAGE = (Path(__file__).parents[2] / "docs/reference/artefacts.md").read_text()
OPTIONAL = {"base", "quantization", "licence"}


def named(section: str) -> set[str]:
    """What the first cells of a section's table name."""
    text = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_every_file_of_a_run_is_named(runs: Runs) -> None:
    text = PAGE.partition("\n## ")[0]
    cells = " ".join(re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE))
    there = {
        path.relative_to(runs.taught).as_posix()
        for path in runs.taught.rglob("*")
        if path.is_file() and not path.is_relative_to(runs.taught / "tensorboard")
    }
    files = set(re.findall(r"`([^`]+)`", cells))
    assert files - {"student/", "tensorboard/", "skipped.txt"} == {
        name for name in there if not name.startswith("student/")
    }
    assert {name for name in there if name.startswith("student/")} == {
        "student/student.json",
        "student/student.safetensors",
    }


def test_every_key_of_the_card_is_explained(runs: Runs) -> None:
    card = json.loads((runs.taught / "student/student.json").read_text())
    assert named("student/") - {"student.json"} == card.keys() | OPTIONAL


def test_every_key_of_the_summary_and_of_the_balance_is_explained(runs: Runs) -> None:
    summary = json.loads((runs.taught / "summary.json").read_text())
    assert named("summary.json") == summary.keys()
    balance = json.loads((runs.taught / "balance.json").read_text())
    assert balance.keys() == {"step", "terms"}
    assert named("balance.json") - {"student/...", "METHOD/..."} == balance["terms"][0].keys()


def test_what_is_said_of_checkpoints_is_in_them(runs: Runs) -> None:
    path = runs.taught / "checkpoints/best.ckpt"
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    assert named("Checkpoints") <= checkpoint.keys()
    kinds = {name.split(".")[1] for name in checkpoint["state_dict"]}
    assert kinds == {"student", "methods", "_extra_state"}


def test_every_column_of_the_log_is_explained(runs: Runs) -> None:
    columns = (runs.taught / "metrics.csv").read_text().splitlines()[0].split(",")
    known = [
        re.sub("TERM|SCORE", ".*", re.escape(name).replace(r"\.\.\.", ".*"))
        for name in named("metrics.csv")
    ]
    for column in columns:
        assert any(re.fullmatch(pattern, column) for pattern in known), column
