import errno
import logging
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from limbeck.training.writing import UNWRITTEN, outlived, reason

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_cannot_be_written_is_said_once_and_remembered_until_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "limbeck")
    path = tmp_path / "summary.json"
    for _ in range(2):
        with outlived(path):
            raise FULL
    assert caplog.text.count(f"{path} could not be written (No space left on device)") == 1
    assert UNWRITTEN[path] == "No space left on device"
    with outlived(path):
        pass
    assert path not in UNWRITTEN


def test_what_is_no_fault_of_the_disk_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), outlived(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(SafetensorError), outlived(tmp_path):
        raise SafetensorError("two tensors share memory")


def test_safetensors_has_an_error_of_its_own_for_a_full_disk() -> None:
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert reason(SafetensorError(said)) == "No space left on device"
