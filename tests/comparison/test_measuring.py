"""What finished runs show, where some of them have no score, or differ in what trained them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.comparison import measuring
from limbeck.comparison.finished import Finished
from limbeck.comparison.job import Job
from limbeck.comparison.measuring import measure
from limbeck.comparison.rows import Row
from limbeck.comparison.scores import Scores
from limbeck.report.cost import Cost
from limbeck.report.findings import Findings
from limbeck.report.intervals import DRAWS, Sampled
from limbeck.report.page.drawings import draw_latency, draw_seeds
from limbeck.report.page.sheets import contrast_sheet, score_sheet

NAN = math.nan


class Told(Scores):
    """Scores that are stated."""

    headline, higher_is_better = "mAP", True

    def __init__(self, stated: Mapping[str, Sequence[float]]) -> None:
        self.stated = stated

    def of(self, job: Job) -> dict[str, float]:
        score = self.stated[job.name][job.seed or 0]
        return {"mAP": score, "AP/head": score, "AP/helmet": 0.5}

    def sampled(self, jobs: Sequence[Job]) -> dict[int | None, Sampled]:
        return {job.seed: Sampled(self.of(job)["mAP"], np.full(DRAWS, 0.5), 10, 0) for job in jobs}


def job(folder: Path, name: str, seed: int | None, torch: str | None = "2.9") -> Job:
    made = Job(name, seed, {}, folder / f"{name}_{seed}", {})
    made.folder.mkdir()
    told: dict[str, Any] = {"steps": 3, "training_seconds": {"wall": 1, "cpu": 1}}
    made.summary_path.write_text(json.dumps(told | ({} if torch is None else {"torch": torch})))
    return made


def without_costs(monkeypatch: pytest.MonkeyPatch, names: Sequence[str]) -> None:
    """Costs of models that are not there."""
    costs = {name: Cost(1, 1.0, 2.0) for name in names}
    monkeypatch.setattr(measuring, "_costs", lambda _: costs)


@pytest.fixture
def findings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Findings:
    """KD has a score with one seed of two, FitNet with none, and seed 1 was trained elsewhere."""
    names = ("plain", "KD", "FitNet")
    rows = [Row(name, "plain" if name == "plain" else "distilled", ({},)) for name in names]
    jobs = {
        name: [job(tmp_path, name, 0), job(tmp_path, name, 1, "2.8" if name == "KD" else None)]
        for name in names
    }
    teacher = Job("teacher", None, None, tmp_path / "t", {}, side="teacher")
    without_costs(monkeypatch, ("teacher", *names))
    told = {"plain": [0.5, 0.6], "KD": [0.7, NAN], "FitNet": [NAN, NAN], "teacher": [0.9]}
    return measure(Finished("t", rows, jobs, teacher, 0.005), Told(told))


def test_a_run_without_a_score_is_missing_and_the_others_are_compared(findings: Findings) -> None:
    (contrast,) = findings.contrasts
    assert (contrast.row, contrast.control) == ("KD", "plain")
    assert contrast.by_seed == pytest.approx({0: 0.2})
    cells = {row[0].text: [cell.text for cell in row[1:]] for row in score_sheet(findings).rows}
    assert (cells["KD"][0], cells["FitNet"][0], cells["plain"][0]) == ("0.700", "-", "0.550")
    assert len(contrast_sheet(findings).rows) == 1
    assert "KD: 0.700" in draw_latency(findings).caption  # type: ignore[union-attr]
    assert "FitNet" not in draw_seeds(findings).caption
    (said,) = (each for each in findings.cautions if "not defined" in each)
    assert said.startswith(
        "The mAP of KD, seed 1, FitNet, seed 0, FitNet, seed 1 is not defined on these images, "
        "since AP/head is not"
    )


def test_runs_of_several_versions_of_torch_are_told(findings: Findings) -> None:
    (said,) = (each for each in findings.cautions if "torch" in each)
    assert "(2.8: KD, seed 1; 2.9: plain, seed 0, KD, seed 0, FitNet, seed 0)" in said
    assert findings.provenance["torch"] == "2.8, 2.9"
