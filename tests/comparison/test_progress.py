"""How long is left, in words, and over which runs."""

from pathlib import Path

import pytest

from limbeck.comparison.job import Job
from limbeck.comparison.progress import StepsBar, duration
from tests.commands import tiny_recipes


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (3599, "1 h 00 min"), (7322, "2 h 02 min")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_runs_that_share_a_folder_are_counted_once(tmp_path: Path) -> None:
    recipe = tiny_recipes.plain(max_epochs=1)
    jobs = [Job(name, 0, recipe, tmp_path / "one", {}) for name in ("plain", "again")]
    bar = StepsBar()
    bar.expect(jobs)
    bar.expect([Job("KD", 0, recipe, tmp_path / "two", {})])
    assert [job.name for job in bar.jobs] == ["again", "KD"]
    assert bar.left() == ""  # nothing is done yet
