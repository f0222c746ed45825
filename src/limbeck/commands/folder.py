"""The folder of a run: whose it is, and that one process alone trains in it."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from limbeck.commands.resume import RECIPE
from limbeck.names import in_shell

LOCK = ".lock"


@rank_zero_only
def refuse_owned(root: Path, checkpoint: str | None) -> None:
    """Refuse a folder where another run has written, unless one of its checkpoints is resumed.

    Only the first process looks, as the others may find what it has written.

    Args:
        root: The folder of the run.
        checkpoint: The checkpoint from which the run is to begin. None: there is none.

    Raises:
        FileExistsError: Another run has written there.
    """
    if checkpoint is not None and root.resolve() in Path(checkpoint).resolve().parents:
        return
    found = [name for name in (RECIPE, "checkpoints", "student") if (root / name).exists()]
    if found:
        raise FileExistsError(
            f"{root} holds another run ({', '.join(found)}), which would be overwritten. Choose "
            "another folder with --trainer.default_root_dir, move that one away, or continue it "
            f"with `limbeck fit --resume {in_shell(root)}`."
        )


def refuse_unwritable(root: Path) -> None:
    """Refuse a folder that cannot be written to before anything is trained.

    Args:
        root: The folder of the run, which need not exist yet.

    Raises:
        PermissionError: It, or the folder that it would be made in, cannot be written to.
    """
    there = next(path for path in (root, *root.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = "may not be written to" if there.is_dir() else "is a file"
        raise PermissionError(
            f"the run cannot be kept in {root}: {there} {found}. Choose another folder with "
            "--trainer.default_root_dir, or free this one."
        )


@contextmanager
def held_alone(root: Path) -> Iterator[None]:
    """Hold the folder of a run for this process, and refuse it where another one does.

    The lock is the operating system's: a process that was killed holds none. A file system that
    has no locks, or no room for one, is trained on without.

    Args:
        root: The folder, which is made where it is missing.

    Yields:
        Nothing.

    Raises:
        BlockingIOError: Another process trains there.
    """
    path = root / LOCK
    made = [folder for folder in (root, *root.absolute().parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        file = path.open("a+b", buffering=0)
    except OSError:
        yield
        return
    with file:
        try:
            # Unlike flock's, it does not pass on to loading workers, which may live longer.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                holder = file.read(200).decode(errors="replace") or "another process"
                raise BlockingIOError(
                    f"{root} is being trained in by {holder}. Wait until it ends, or end it; two "
                    "at once would overwrite each other's checkpoints."
                ) from None
        with suppress(OSError):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held
            with suppress(OSError):  # one that is not empty
                for folder in made:  # where the run was refused, and has left nothing
                    folder.rmdir()


def remove_parts(root: Path) -> None:
    """Remove what a killed process has left of files that it did not finish."""
    for folder in (root, root / "checkpoints", root / "student"):
        for path in folder.glob("*.part"):
            path.unlink(missing_ok=True)
