import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from lightning.pytorch.utilities.exceptions import SIGTERMException

from limbeck.commands.ending import LostProcessError, ended_in_words, tell_unwritten
from limbeck.training.resumption import AskedToEndError
from limbeck.training.writing import UNWRITTEN


@pytest.mark.parametrize(
    ("end", "name", "code"),
    [
        (AskedToEndError(signal.SIGINT), "SIGINT", 130),
        (AskedToEndError(signal.SIGTERM), "SIGTERM", 143),
        (SIGTERMException(), "SIGTERM", 143),
        (KeyboardInterrupt(), "SIGINT", 130),
    ],
)
def test_a_signal_ends_with_a_sentence_and_the_usual_code(
    end: BaseException, name: str, code: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as found, ended_in_words("fit", lambda: tmp_path):
        raise end
    assert found.value.code == code
    assert f"Ended by {name} before the first step: give the same command again." in caplog.text
    (tmp_path / "config.yaml").touch()
    with pytest.raises(SystemExit), ended_in_words("fit", lambda: tmp_path):
        raise end
    assert f"Ended by {name}: `limbeck fit --resume {tmp_path}` goes on" in caplog.text


def test_lightning_s_answer_to_sigint_gets_the_usual_code() -> None:
    end = SystemExit(1)
    end.__context__ = KeyboardInterrupt()
    with pytest.raises(SystemExit) as found, ended_in_words("validate"):
        raise end
    assert found.value.code == 130


def test_other_ends_are_as_they_are() -> None:
    with pytest.raises(SystemExit) as found, ended_in_words("fit"):
        raise SystemExit(2)
    assert found.value.code == 2


GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [::1]:8586"


def test_a_lost_process_is_told_of_where_there_are_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(RuntimeError, match="gloo"), ended_in_words("fit"):
        raise RuntimeError(GLOO)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with (
        pytest.raises(LostProcessError, match="another process of this run"),
        ended_in_words("fit"),
    ):
        raise RuntimeError(GLOO)
    with pytest.raises(RuntimeError, match="shapes"), ended_in_words("fit"):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(("code", "ends"), [(-9, True), (1, True), (130, False), (143, False)])
def test_the_launcher_ends_all_with_a_sentence(
    code: int, ends: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def child(code: int | None) -> Any:
        return SimpleNamespace(returncode=code, pid=1, poll=lambda: None, kill=lambda: None)

    with ended_in_words("fit"):
        children = [child(code), child(None)]
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    assert _ChildProcessObserver(os.getpid(), children)._run()
    assert codes == [1] * ends
    assert ("ERROR another process of this run has ended" in capfd.readouterr().err) == ends


@pytest.fixture
def unwritten() -> Iterator[dict[Path, str]]:
    UNWRITTEN.clear()
    yield UNWRITTEN
    UNWRITTEN.clear()


def test_what_is_missing_is_told_with_how_to_get_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, unwritten: dict[Path, str]
) -> None:
    caplog.set_level(logging.ERROR, "limbeck")
    tell_unwritten(tmp_path)
    assert not caplog.text
    best = tmp_path / "checkpoints" / "best.ckpt"
    unwritten[best] = "no room for the weights of the best validation"
    assert "student is whole, and as training ended. There is nothing" in told(tmp_path, caplog)
    unwritten[tmp_path / "student"] = "No space left on device"
    said = told(tmp_path, caplog)
    assert f"{tmp_path / 'student'}: No space left on device" in said
    assert "There is nothing to resume from: train it again" in said
    last = best.with_name("last.ckpt")
    last.parent.mkdir()
    for path in (last, tmp_path / "config.yaml"):
        path.touch()
    said = told(tmp_path, caplog)
    assert f"--resume {tmp_path}` writes the student, without training a step" in said
    unwritten[last] = "No space left on device"
    assert "Then `limbeck fit --resume" in told(tmp_path, caplog)
    del unwritten[tmp_path / "student"]
    assert "is whole, and as training ended. `limbeck fit --resume" in told(tmp_path, caplog)
    assert "goes on from the step" in told(tmp_path, caplog)
    del unwritten[last]
    said = told(tmp_path, caplog)
    assert "is whole, and as training ended. What is named above cannot be got back" in said
    assert "--resume" not in said  # which would train and write nothing


def told(root: Path, caplog: pytest.LogCaptureFixture) -> str:
    """What is said of what is missing."""
    caplog.clear()
    tell_unwritten(root)
    return caplog.text
