"""The order of several runs at once: which device each has, and what ends them."""

import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from limbeck.comparison import running
from limbeck.comparison.job import Job
from limbeck.comparison.running import RunFailedError, Runs, ended_together

Started = list[tuple[str, str]]  # the name of a run, and its device


class Process:
    """A run that leaves what a scored one leaves, once it is let go on, or fails."""

    def __init__(self, job: Path | None, gate: threading.Event | None) -> None:
        self.job, self.gate = job, gate

    def wait(self) -> int:
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.job is None:
            return 1
        (self.job / "predictions").mkdir(parents=True)
        (self.job / "predictions/student.safetensors").touch()
        return 0


def jobs(tmp_path: Path, count: int) -> list[Job]:
    """Runs that are trained already."""
    return [Job(str(n), None, None, tmp_path / "runs" / str(n), {}) for n in range(count)]


def starting(
    monkeypatch: pytest.MonkeyPatch,
    gates: Mapping[str, threading.Event],
    failing: Sequence[str] = (),
) -> Started:
    """Start processes that are none, on two devices; those with a gate wait for it."""
    started: Started = []

    def start(words: Sequence[str], log_path: Path, variables: Mapping[str, str]) -> Process:
        name = log_path.stem
        log_path.touch()
        started.append((name, variables.get("CUDA_VISIBLE_DEVICES", "")))
        if name == "3" and "0" in gates:
            gates["0"].set()
        folder = None if name in failing else Path(words[2]).parent
        return Process(folder, gates.get(name))

    monkeypatch.setattr(running, "start", start)
    monkeypatch.setattr(running.torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return started


def test_a_run_has_the_device_of_the_one_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starting(monkeypatch, {"0": threading.Event()})  # as long as all others
    with Runs(tmp_path / "logs", jobs=2) as runs:
        runs.finish(jobs(tmp_path, 4))
    (of_long,) = (device for name, device in started if name == "0")
    assert {device for name, device in started if name != "0"} == {"0", "1"} - {of_long}


def test_nothing_is_begun_after_a_run_that_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starting(monkeypatch, {}, failing=["0"])
    made = jobs(tmp_path, 50)
    with Runs(tmp_path / "logs", jobs=1) as runs:
        with pytest.raises(RunFailedError, match=r"0 has failed \(exit 1\)"):
            runs.finish(made)
        assert [name for name, _ in started] == ["0"]
        runs.finish(made[1:3])
    assert [name for name, _ in started] == ["0", "1", "2"], "other runs are not concerned"


def test_of_runs_that_fail_at_once_each_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    both = threading.Event()
    started = starting(monkeypatch, {"0": both, "1": both}, failing=["0", "1"])
    with Runs(tmp_path / "logs", jobs=2) as runs:
        monkeypatch.setattr(running, "_POLL", 0.01)
        monkeypatch.setattr(runs.progress, "show", lambda: len(started) == 2 and both.set())
        with pytest.raises(RunFailedError, match=r"0 has failed"):
            runs.finish(jobs(tmp_path, 4))
    assert "1 has failed (exit 1)" in caplog.text


def test_a_failure_is_told_without_waiting_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_POLL", 0.01)
    monkeypatch.setattr(running, "_is_held", lambda lock: lock.parent.name == "1")
    started = starting(monkeypatch, {}, failing=["0"])
    with Runs(tmp_path / "logs", jobs=2) as runs, pytest.raises(RunFailedError, match="0 has fai"):
        runs.finish(jobs(tmp_path, 2))
    assert [name for name, _ in started] == ["0"]


def test_who_waits_for_another_process_can_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_POLL", 0.01)
    started = starting(monkeypatch, {})
    with Runs(tmp_path / "logs", jobs=1) as runs:

        def is_held(_: Path) -> bool:
            runs.end()
            return True

        monkeypatch.setattr(running, "_is_held", is_held)
        runs.finish(jobs(tmp_path, 1))
    assert started == []


def test_a_comparison_may_run_in_any_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starting(monkeypatch, {})
    made = jobs(tmp_path, 1)

    def compared() -> None:
        with Runs(tmp_path / "logs", jobs=1) as runs, ended_together(runs.end):
            runs.finish(made)

    thread = threading.Thread(target=compared)
    thread.start()
    thread.join(30)
    assert made[0].state == "finished"


def test_a_process_that_is_waited_for_does_not_outlive_a_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a trial, or the drawing of a picture."""
    got: list[int] = []

    class Interrupted:
        """A process during which Ctrl-C is pressed, and that ends when it is told so."""

        def wait(self) -> int:
            if not got:
                signal.raise_signal(signal.SIGINT)
            return 130

        def send_signal(self, number: int) -> None:
            got.append(number)

    monkeypatch.setattr(running, "start", lambda *_: Interrupted())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            running.waited_for(["inspect"], tmp_path / "log")
    finally:
        signal.signal(signal.SIGINT, before)
    assert got == [signal.SIGINT]
