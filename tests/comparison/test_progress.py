"""How long is left, in words, and over which runs."""

from pathlib import Path

import pytest

from limbeck.comparison import progress
from limbeck.comparison.job import Job
from limbeck.comparison.progress import StepsBar, roughly, steps
from tests.commands import tiny_recipes


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (3599, "1 h 00 min"), (7322, "2 h 02 min")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert roughly(seconds) == words


def test_runs_that_share_a_folder_are_counted_once(tmp_path: Path) -> None:
    recipe = tiny_recipes.plain(max_epochs=1)
    jobs = [Job(name, 0, recipe, tmp_path / "one", {}) for name in ("plain", "again")]
    bar = StepsBar()
    bar.expect(jobs)
    bar.expect([Job("KD", 0, recipe, tmp_path / "two", {})])
    assert [job.name for job in bar.jobs] == ["again", "KD"]
    assert bar.left() == ""  # nothing is done yet


def test_data_that_several_rows_state_are_built_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int] = []

    def batches_of(recipe: tiny_recipes.Recipe) -> int:
        built.append(recipe["data"]["batch_size"])
        return 32 // recipe["data"]["batch_size"]

    monkeypatch.setattr(progress, "batches_of", batches_of)
    short, long, other = (tiny_recipes.plain(max_epochs=epochs) for epochs in (1, 2, 2))
    other["data"]["batch_size"] = 4
    rows = {"plain": short, "twice as long": long, "KD": other, "teacher": None}
    jobs = [Job(name, seed, rows[name], tmp_path, {}) for seed in (0, 1) for name in rows]
    assert steps(jobs) == {"plain": 4, "twice as long": 8, "KD": 16, "teacher": 0}
    assert built == [8, 4]
