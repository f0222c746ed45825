import argparse
import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest

from limbeck.commands.errors import of_ours, told
from limbeck.commands.parsing import known_keys
from limbeck.data.base import BadSampleError
from limbeck.models import RetinaNet
from limbeck.ranges import Range


def test_ours_is_what_limbeck_raised_however_it_was_wrapped() -> None:
    with pytest.raises(ValueError, match="levels=") as direct:
        RetinaNet("resnet18", 3, levels=(9, 12))
    wrapped = RuntimeError("does not validate")
    wrapped.__cause__ = direct.value
    assert of_ours(direct.value) is direct.value
    assert of_ours(wrapped) is direct.value


def test_what_others_raised_or_went_wrong_by_our_mistake_is_not_ours() -> None:
    with pytest.raises(TypeError) as theirs:
        argparse.ArgumentParser(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18)
    with pytest.raises(AttributeError) as mistake:
        known_keys(None)
    assert of_ours(theirs.value) is None
    assert of_ours(mistake.value) is None


def test_a_type_that_an_operation_of_limbecks_does_not_take_is_a_mistake_of_limbecks() -> None:
    with pytest.raises(TypeError) as mistake:
        None in Range(0)  # noqa: B015
    assert of_ours(mistake.value) is None


@pytest.mark.parametrize("raise_it", ["raise {e}", "raise {e} from OSError()"])
@pytest.mark.parametrize(
    "around", ["{s}", "with suppress(OSError):\n  {s}", "try:\n  {s}\nfinally:\n  print()"]
)
def test_a_type_that_limbeck_refuses_is_the_users_to_mend(raise_it: str, around: str) -> None:
    program = around.format(s=raise_it.format(e='TypeError("images is a str")'))
    with pytest.raises(TypeError) as refused:
        exec(program, {"__name__": "limbeck.data", "suppress": suppress})
    assert of_ours(refused.value) is refused.value


def test_an_error_of_a_loading_worker_is_told_without_its_traceback() -> None:
    error = BadSampleError(
        "Caught BadSampleError in DataLoader worker process 0.\nOriginal Traceback (most recent "
        "call last):\n  ...\nlimbeck.data.base.BadSampleError: a.jpg: not a readable image"
    )
    assert of_ours(error) is error
    assert told(error) == "a.jpg: not a readable image"
    assert told(ValueError("as it is")) == "as it is"
    assert told(ValueError("1 of 2: ValueError: no half")) == "1 of 2: ValueError: no half"


def test_a_full_disk_is_told_of_by_what_goes_on() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "a.json")
    assert "`limbeck fit --resume` goes on" in told(full, "fit")
    assert "the same command goes on" in told(full, "label")
    assert told(full, "predict").endswith("then give the same command again.")


def test_a_full_disk_is_told_of_with_what_to_do() -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "metrics.csv")
    assert of_ours(error) is error
    assert told(error).startswith("[Errno 28] No space left on device: 'metrics.csv'. Free space")
    assert of_ours(OSError(errno.EIO, "something else")) is None


@pytest.mark.parametrize("wrong", ["a file as a folder", "a folder as a file", "a long name"])
def test_a_path_that_is_something_else_is_told_of_with_what_to_do(
    wrong: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    acts = {
        "a file as a folder": lambda: (tmp_path / "file" / "out").mkdir(parents=True),
        "a folder as a file": lambda: tmp_path.write_text(""),
        "a long name": lambda: (tmp_path / ("x" * 300)).write_text(""),
    }
    with pytest.raises(OSError, match="Errno") as error:
        acts[wrong]()
    assert of_ours(error.value) is error.value
    said = told(error.value)
    assert said.startswith(str(tmp_path))
    assert "Expected a path that can be read or written" in said
