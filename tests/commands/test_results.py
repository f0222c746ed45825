import errno
import json
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from limbeck.commands.results import RESULTS, Results, refuse_replacing

BOX = {"class": "cat", "score": 0.5, "box": [1.0, 2.0, 3.0, 4.0]}
BATCHES: list[dict[str, Any]] = [
    {"a.png": [], "b.png": [BOX]},
    {"ü \"],\n'.png": [BOX, BOX | {"class": "],\n"}]},
    {},
    {"d.png": []},
]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / RESULTS


def test_the_file_is_what_one_dictionary_gives_after_each_batch(target: Path) -> None:
    seen: dict[str, Any] = {}
    with Results(target) as results:
        for batch in BATCHES:
            results.add(batch)
            seen |= batch
            assert target.read_text() == json.dumps(seen, indent=2) + "\n"
            assert results.count == len(seen)
    assert target.read_text() == json.dumps(seen, indent=2) + "\n"


def test_an_earlier_file_stays_until_there_are_results(target: Path) -> None:
    target.write_text('{"old.png": []}\n')
    with suppress(RuntimeError), Results(target) as results:
        results.add({})
        raise RuntimeError
    assert target.read_text() == '{"old.png": []}\n'
    with Results(target) as results:
        assert target.read_text() == '{"old.png": []}\n'
        results.add({})
    assert target.read_text() == "{}\n"


def test_a_full_disk_leaves_the_batches_before(target: Path) -> None:
    class FullDisk(FileIO):
        room = 20

        def write(self, data: Any) -> int:
            if not self.room and len(data) > 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = super().write(data[: self.room or 3])
            self.room = 0
            return written

    with Results(target) as results:
        results.add(BATCHES[0])
        before = target.read_bytes()
        assert results._file is not None
        results._file.close()
        results._file = FullDisk(target, "r+")
        with pytest.raises(OSError, match="No space left"):
            results.add(BATCHES[1])
        assert target.read_bytes() == before


def test_a_file_that_a_kill_cut_off_is_an_earlier_result(target: Path) -> None:
    with Results(target) as results:
        results.add(BATCHES[0])
        begun = len(target.read_bytes())
        results.add(BATCHES[1])
    whole = target.read_bytes()
    for cut in range(begun, len(whole) + 1):
        target.write_bytes(whole[:cut])
        refuse_replacing([], [target])


@pytest.mark.parametrize("text", ['{"mine": [1,\n', '{"mine": [1],\n  "a', "", '[[],\n"a"', "],\n"])
def test_what_was_cut_off_of_another_s_file_is_no_result(target: Path, text: str) -> None:
    target.write_text(text)
    with pytest.raises(FileExistsError, match="is no result of"):
        refuse_replacing([], [target])
