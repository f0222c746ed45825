import errno
import os
from pathlib import Path

import pytest

from limbeck.whole import folder_written_whole, write_whole, written_whole

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "new" / "config.yaml"
    write_whole(path, "a: 1\n")

    def full(_: int) -> None:
        raise FULL

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, "a: 2\n")
    assert path.read_text() == "a: 1\n"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_interrupts_the_writing_leaves_the_former_file_alone(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with written_whole(path) as partial:
            partial.write_bytes(b"new, of which a part")
            raise error

    with pytest.raises(error):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_texts_keep_their_ends_of_lines_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_whole(tmp_path / "text", "a\r\nb\n\u00e9")
    write_whole(tmp_path / "bytes", b"\0\xff\n")
    assert (tmp_path / "text").read_bytes() == b"a\r\nb\n\xc3\xa9"
    assert (tmp_path / "bytes").read_bytes() == b"\0\xff\n"


def test_what_lies_beside_a_file_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    (tmp_path / "results.json.part").symlink_to(mine)  # as a browser names what it is loading
    write_whole(tmp_path / "results.json", "{}")
    assert (mine.read_text(), (tmp_path / "results.json").read_text()) == ("mine", "{}")
    assert (tmp_path / "results.json.part").is_symlink()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "inner" / "target"
    with pytest.raises(FileNotFoundError), folder_written_whole(target) as partial:
        (partial / "a").rename(partial / "b")
    assert list(target.parent.iterdir()) == []
    target.mkdir()
    with folder_written_whole(target) as partial:
        (partial / "a").touch()
    assert [path.name for path in target.parent.rglob("*")] == ["target", "a"]
    with pytest.raises(OSError, match="not empty"), folder_written_whole(target):
        pass
    assert (target / "a").exists()
