"""Signals in the processes that load batches: each belongs to the one that it loads for."""

import multiprocessing
import os
import signal
import sys
import threading
from typing import Any


def belong_to_parent(_: int) -> None:
    """Make a loading worker end with the process that it is for, and not before.

    A terminal, a scheduler or ``timeout`` sends a signal to all processes of a run, and that one
    still needs its batches: it ends after the batch at hand, and its workers with it. Where it was
    killed, they end without a word about the batch that it did not take.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _told_unless_left
    parent = multiprocessing.parent_process()  # os.getppid() would be a fork server's, if any
    if parent is not None and hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_asked_by, args=(parent.pid,), daemon=True).start()


def _end_when_asked_by(parent: int) -> None:
    """End at a SIGTERM of the process that this one is for, and leave those of others to it."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def _told_unless_left(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)
