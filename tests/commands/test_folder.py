import os
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.commands.folder import LOCK, held_alone, remove_parts

HOLD = """
import sys
from pathlib import Path
from limbeck.commands.folder import held_alone
with held_alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_by_one_process_and_by_none_that_was_killed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    words = [sys.executable, "-c", HOLD, str(root)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(BlockingIOError, match=f"trained in by process {other.pid} on "),
            held_alone(root),
        ):
            pass
        other.kill()
    with held_alone(root):
        assert (root / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not list(root.iterdir())
    root.rmdir()
    with held_alone(root):
        pass
    assert not root.exists()  # it was made for the lock alone


def test_a_folder_that_cannot_be_locked_is_used_without(tmp_path: Path) -> None:
    (tmp_path / LOCK).mkdir()
    with held_alone(tmp_path):
        pass
    assert (tmp_path / LOCK).is_dir()


def test_what_a_killed_process_did_not_finish_is_removed(tmp_path: Path) -> None:
    for name in ("metrics.csv", "config.yaml.part", "checkpoints/last.ckpt.part"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["metrics.csv"]
