"""What is done of a piece of work, after kills and beside other work."""

import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.commands.journal import Journal

WORK = {"teacher": "a", "score": 0.5}


def begin() -> dict[str, object]:
    return {"thresholds": [1]}


def never() -> dict[str, object]:
    raise AssertionError("it has begun already")


def test_what_is_done_is_there_after_a_kill_but_for_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "out.unfinished"
    with Journal(path, WORK, begin) as journal:
        journal.add({"a": 1, "b": [2]})
    with path.open("ab") as file:
        file.write(b'["c", [')
    with Journal(path, WORK, never) as journal:
        assert (journal.start, journal.done) == ({"thresholds": [1]}, {"a": 1, "b": [2]})
        journal.add({"c": 3})
    with Journal(path, WORK, never) as journal:
        assert list(journal.done) == ["a", "b", "c"]
        journal.remove()
    assert not path.exists()


def test_a_second_process_leaves_the_journal_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "out.unfinished"
    again = (
        "from pathlib import Path; from limbeck.commands.journal import Journal; "
        f"Journal(Path({str(path)!r}), {{}}, dict)"
    )

    def while_another_begins() -> dict[str, object]:
        second = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True)
        assert "BlockingIOError: another process writes" in second.stderr
        return begin()

    with Journal(path, WORK, while_another_begins) as journal:
        journal.add({"a": 1})
    with Journal(path, WORK, never) as journal:
        assert journal.done == {"a": 1}


def test_other_work_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.unfinished"
    Journal(path, WORK, begin).__exit__(None, None, None)
    with pytest.raises(FileExistsError, match=r"it differs in score \(0\.5\)"):
        Journal(path, WORK | {"score": 0.6}, never)
    assert path.exists()


def test_a_beginning_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Journal(tmp_path / "out.unfinished", WORK, never)
    assert list(tmp_path.iterdir()) == []
