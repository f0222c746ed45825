"""TensorBoard's event file, written record by record.

TensorBoard's own writer has a thread that ends with a traceback where the disk is full, and every
later record with an error.
"""

import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

from limbeck.training.writing import UNWRITTEN, reason

_VERSION = "brain.Event:2"


class EventFile:
    """Appends records to a file, of which one that cannot be written leaves nothing behind.

    It takes the place of ``tensorboard.summary.writer.EventFileWriter``.

    Args:
        folder: The folder of the file.
    """

    def __init__(self, folder: Path) -> None:
        name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name

    def get_logdir(self) -> str:
        """The folder of the file."""
        return str(self.path.parent)

    def add_event(self, event: Any) -> None:
        """Append a record, or note that the log lacks it."""
        size = None
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                begun = [] if size else [Event(wall_time=time.time(), file_version=_VERSION)]
                for each in (*begun, event):
                    RecordWriter(_Complete(file)).write(each.SerializeToString())
        except OSError as error:
            if size is not None:
                os.truncate(self.path, size)
            UNWRITTEN.setdefault(self.path.parent, f"{reason(error)}: some of its records are lost")

    def flush(self) -> None:
        """Nothing waits to be written."""

    def close(self) -> None:
        """Nothing is to be closed: the file is opened anew for each record."""

    def reopen(self) -> None:
        """Nothing is to be done: the next record is appended to the same file."""


class _Complete:
    """A file that writes all of a record, or raises; without a buffer a part may be written."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, data: bytes) -> None:
        """Write all of it."""
        while data:
            data = data[self.file.write(data) :]


class _Files(FileWriter):
    def __init__(self, folder: str) -> None:
        self.event_writer: Any = EventFile(Path(folder))


class EventWriter(SummaryWriter):
    """Torch's writer of summaries, into an :class:`EventFile`."""

    def _get_file_writer(self) -> Any:
        if self.file_writer is None:
            self.file_writer: Any = _Files(self.log_dir)
            self.all_writers: Any = {self.log_dir: self.file_writer}
        return self.file_writer
