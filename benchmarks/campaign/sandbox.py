"""The command line in a forked process with limits, and what that process did.

The campaign's own process has imported every verb; a child costs milliseconds instead of the
seconds of an import. What the child starts, opens and connects to is seen by an audit hook, which
the code under test cannot take off.
"""

import contextlib
import faulthandler
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from limbeck.cli import main
from limbeck.commands import anchors, convert, fit, inspect, predict, recipes  # noqa: F401

GIB = 2**30
MEMORY, SECONDS = 2 * GIB, 30  # what the README allows a file to cost
ROOM = 4 * GIB  # where the child is stopped, so that the machine survives what is above
PATIENCE = 150  # wall seconds, on a busy machine, where the CPU is not what is used up
STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.startfile", "pty.spawn", "subprocess.Popen")
CONNECTS = ("socket.connect", "socket.getaddrinfo", "urllib.Request", "http.client.connect")
WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink")
_OUT_OF_MEMORY = (
    "MemoryError",
    "can't allocate memory",
    "not enough memory",
    "Cannot allocate memory",
)


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        code: Its exit code; None: a signal ended it.
        signal: The name of that signal, or "".
        seconds: CPU seconds.
        memory: Bytes above what the campaign's own process takes.
        output: What it printed, of both streams.
        started: Other programs that it started.
        connected: Addresses that it asked for.
        opened: Files with the word of ``bait`` in their paths that it opened.
        hung: Whether it was ended for the time that it took.
    """

    code: int | None
    signal: str
    seconds: float
    memory: int
    output: str
    started: tuple[str, ...] = ()
    connected: tuple[str, ...] = ()
    opened: tuple[str, ...] = ()
    hung: bool = False

    @property
    def trace(self) -> bool:
        """Whether the user was shown a traceback."""
        return "Traceback (most recent call last)" in self.output

    @property
    def faults(self) -> list[str]:
        """What a file must not do, by the words of the table."""
        out_of_memory = any(word in self.output for word in _OUT_OF_MEMORY)
        found = {
            "network": bool(self.connected),
            "outside": bool(self.opened),
            "programs": bool(self.started),
            "above 2 GB": self.memory > MEMORY or out_of_memory,
            "above 30 s": self.hung or self.seconds > SECONDS,
            "crash": bool(self.signal) and not self.hung,
            "traceback": self.trace,
        }
        return [name for name, is_so in found.items() if is_so]

    @property
    def said(self) -> str:
        """The last line that it printed."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:300] if lines else ""


@dataclass
class Limits:
    """What surrounds a child.

    Attributes:
        environment: Variables of its own.
        bait: A word in paths whose opening is noted.
        room: Bytes of address space above the campaign's own.
        seconds: CPU seconds.
        hook: Is told of every event of the interpreter, and may kill the child.
        rank: Its number among several processes of one run; None: it is alone.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    bait: str = ""
    room: int = ROOM
    seconds: int = SECONDS
    hook: Callable[[str, tuple[Any, ...]], None] | None = None
    rank: int | None = None


class Child:
    """``limbeck WORDS`` in a forked process.

    Args:
        words: After ``limbeck``.
        folder: Where it runs; its output goes beside it.
        limits: What it may do.
        run: What is run instead of the command line.
    """

    def __init__(
        self,
        words: Sequence[object],
        folder: Path,
        limits: Limits | None = None,
        run: Callable[[], None] | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.words = [str(word) for word in words]
        self.log = folder.with_name(f"{folder.name}.{time.monotonic_ns()}.out")
        self.notes = self.log.with_suffix(".notes")
        self.began = time.monotonic()
        self.baseline = _resident()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._be(folder, run or (lambda: main(self.words)))
        self.pidfd = os.pidfd_open(self.pid)

    def _be(self, folder: Path, run: Callable[[], None]) -> None:
        """The child's whole life."""
        code = 1
        try:
            os.setsid()
            faulthandler.disable()
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may ignore it
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            notes = os.open(self.notes, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(output, stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            # Whoever has the campaign's own streams replaced, such as pytest, is not to see them.
            sys.stdout, sys.stderr = (open(fd, "w", 1, closefd=False) for fd in (1, 2))  # noqa: SIM115
            os.chdir(folder)
            os.environ |= {"COLUMNS": "200", **self.limits.environment}
            if self.limits.rank is not None:
                rank_zero_only.rank = self.limits.rank  # Lightning reads it when it is imported
            sys.argv = ["limbeck", *self.words]
            self._limit()
            sys.addaudithook(_noting(notes, self.limits))
            run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(bool(end.code))
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)

    def _limit(self) -> None:
        virtual = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        bound = virtual + self.limits.room
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
        # One second more, so that what ends at the limit by itself is not called hung.
        resource.setrlimit(resource.RLIMIT_CPU, (self.limits.seconds + 1, self.limits.seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, patience: float = PATIENCE) -> Outcome:
        """How it ended, or was ended after so many wall seconds."""
        ready, _, _ = select.select([self.pidfd], [], [], patience)
        if not ready:
            self.kill()
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self.pidfd)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)  # what it left behind
        notes = [line.split(" ", 1) for line in _text(self.notes).splitlines() if " " in line]
        output = _text(self.log)
        for path in (self.notes, self.log):
            path.unlink(missing_ok=True)
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        return Outcome(
            code=None if number else os.waitstatus_to_exitcode(status),
            signal=signal.Signals(number).name if number else "",
            seconds=usage.ru_utime + usage.ru_stime,
            memory=max(0, usage.ru_maxrss * 1024 - self.baseline),
            output=output,
            started=tuple(what for kind, what in notes if kind == "started"),
            connected=tuple(what for kind, what in notes if kind == "connected"),
            opened=tuple(what for kind, what in notes if kind == "opened"),
            hung=not ready or number == signal.SIGXCPU,
        )


def limbeck(
    words: Sequence[object], folder: Path, limits: Limits | None = None, patience: float = PATIENCE
) -> Outcome:
    """``limbeck WORDS`` in ``folder``, to its end."""
    return Child(words, folder, limits).wait(patience)


def _noting(notes: int, limits: Limits) -> Callable[[str, tuple[Any, ...]], None]:
    """The audit hook: lines into a file that is open already."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        line = ""
        if event in STARTS:
            if os.fsdecode(str(arguments[0])) != sys.executable:  # a reader in another process
                line = f"started {event} {arguments[0]!r} {_second(arguments)!r}"
        elif event in CONNECTS:
            if not _is_local(arguments):
                line = f"connected {event} {arguments!r}"
        elif event == "open" and limits.bait and limits.bait in str(arguments[0]):
            line = f"opened {arguments[0]}"
        if line:
            os.write(notes, (line.replace("\n", " ")[:300] + "\n").encode(errors="replace"))
        if limits.hook is not None:
            limits.hook(event, arguments)

    return note


def _second(arguments: tuple[Any, ...]) -> Any:
    return arguments[1] if len(arguments) > 1 else ""


def _is_local(arguments: tuple[Any, ...]) -> bool:
    """A process group of the run's own on this machine."""
    return any(name in str(arguments) for name in ("localhost", "127.0.0.1", "::1"))


def writes(event: str, arguments: tuple[Any, ...], root: str) -> str:
    """What a process is about to write under ``root``, or "": an event of the audit hook."""
    if event == "open":
        path, mode, flags = arguments
        writing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not writing and not (isinstance(mode, str) and set(mode) & set("wax+")):
            return ""
    elif event in WRITES:
        path = arguments[0]
    else:
        return ""
    try:
        absolute = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link stays what it is
    except TypeError:
        return ""
    return f"{event} {os.path.relpath(absolute, root)}" if absolute.startswith(root) else ""


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _text(path: Path) -> str:
    return path.read_bytes().decode(errors="replace") if path.exists() else ""
