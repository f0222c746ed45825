"""The files of checkpoints: written whole or not at all, and compared with their checksums."""

import hashlib
import logging
import os
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor

from limbeck.checkpoints.reading.bounds import TooLargeError, check_archive
from limbeck.training.writing import UNWRITTEN, reason
from limbeck.whole import written_whole

log = logging.getLogger(__name__)

_CHUNK = 2**20  # bytes


class DamagedCheckpointError(ValueError):
    """A file is not the checkpoint that limbeck wrote."""


class WholeCheckpoints(TorchCheckpointIO):
    """Writes each checkpoint beside its place and renames it: it is there whole, or not at all.

    One that cannot be written (a full disk) costs nothing that was trained: the one before it
    stays, training goes on, and the next one tries again. One that is damaged is not read.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any | None = None
    ) -> None:
        """Write, wait until it is on the disk, and put it in its place."""
        path = Path(path)
        try:
            with written_whole(path) as partial, partial.open("w+b") as file:
                torch.save(checkpoint, file)
                _seal(file)
            UNWRITTEN.pop(path, None)
        except (OSError, RuntimeError) as error:
            # torch closes the broken file with an error of its own.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            kept = f"{path} is of an earlier step" if path.exists() else "there is none yet"
            UNWRITTEN[path] = f"{reason(cause)}; {kept}"
            log.error(
                "%s could not be written (%s): %s. Training goes on, and the next checkpoint tries "
                "again. Free space or make the folder writable before it ends.",
                path,
                cause,
                kept,
            )

    def load_checkpoint(
        self,
        path: _PATH,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read a checkpoint that is sound; no code that it names is run, unless told otherwise."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint {path}.{_beside(path)}")
        if found := damage(path):
            raise DamagedCheckpointError(f"{path} is damaged: {found}.{_beside(path)}")
        return _loaded(path, map_location, weights_only is not False)


class BestCheckpoint(ModelCheckpoint):
    """Lightning's callback for the best checkpoint, which also survives that a run is moved.

    Lightning's own forgets its best score where the folder of a run was moved or copied, and takes
    a checkpoint that could not be written for the best one, which then is never replaced.
    """

    _missed: tuple[Tensor, int] | None = None  # a score whose weights were not written, its step

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the best score to be that of the file in this run's folder.

        Where there is no such file, as in a run that begins from another one's checkpoint, there is
        no best score yet.
        """
        here: dict[str, Any] = {"dirpath": self.dirpath}
        if state_dict["best_model_path"]:
            best = str(Path(str(self.dirpath), Path(state_dict["best_model_path"]).name))
            if not Path(best).is_file():
                return
            here |= {"best_model_path": best, "kth_best_model_path": best}
            here |= {"best_k_models": {best: state_dict["best_model_score"]}}
        super().load_state_dict(state_dict | here)

    def _update_best_and_save(
        self, current: Tensor, trainer: L.Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        before = {name: getattr(self, name) for name in _OF_THE_FILE if hasattr(self, name)}
        before["best_k_models"] = dict(self.best_k_models)
        super()._update_best_and_save(current, trainer, monitor_candidates)
        path = Path(self.best_model_path)
        if trainer.strategy.broadcast(path in UNWRITTEN):  # the first process alone writes
            if self._missed is None or self._beats(current, self._missed[0]):
                self._missed = current, trainer.global_step
            vars(self).update(before)
        if self._missed is not None:
            self._note_missed(path, *self._missed)

    def _note_missed(self, path: Path, score: Tensor, step: int) -> None:
        kept = self.best_model_score
        if kept is not None and not self._beats(score, kept):
            return
        beside = "there is none" if kept is None else f"it is of another one, with {kept:.3f}"
        UNWRITTEN[path] = (
            f"its weights could not be written when validation was best, after step {step}, with "
            f"{self.monitor} {score:.3f}; {beside}"
        )

    def _beats(self, score: Tensor, other: Tensor) -> bool:
        return bool(score < other if self.mode == "min" else score > other)


_OF_THE_FILE = ("kth_best_model_path", "kth_value", "best_model_path", "best_model_score")


def damage(path: Path) -> str:
    """What is wrong with a checkpoint's file: it is a zip, whose comment is its checksum.

    What an earlier version wrote has no comment; of that, each record is compared with the
    checksum that the archive has of it.

    Args:
        path: The file.

    Returns:
        What is wrong, as the end of a sentence, or "" where it is sound.
    """
    try:
        check_archive(path)  # before anything is read of what it claims to hold
        if not _is_sealed(path):
            _read_records(path)
        elif not _is_as_sealed(path):
            return _DIFFERS
    except TooLargeError as error:
        return str(error)
    except zipfile.BadZipFile as error:
        return _DIFFERS if "CRC" in str(error) else "it was cut off, or is no checkpoint"
    except Exception:  # whatever zipfile makes of bytes that are no zip
        return "it is no file that torch.save wrote"
    return ""


_DIFFERS = "its contents differ from their checksum"
_DIGITS = 64  # of a checksum
_END = b"PK\x05\x06"  # how the last record of a zip begins, which has
_END_SIZE = 22  # bytes before the comment, the last two of which are its length


def _seal(file: BinaryIO) -> None:
    """Give an archive that torch has just written the checksum of all its bytes as a comment."""
    size = file.seek(-2, os.SEEK_END) + 2
    file.write(_DIGITS.to_bytes(2, "little"))
    checksum = _checksum(file, size)
    file.seek(size)
    file.write(checksum)


def _is_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-_END_SIZE, os.SEEK_END)
        end = file.read()
    return not (end.startswith(_END) and end.endswith(b"\0\0"))


def _is_as_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(-_DIGITS, os.SEEK_END)
        return file.read() == _checksum(file, size)


def _checksum(file: BinaryIO, size: int) -> bytes:
    """The sha256 of the first bytes of a file, in hexadecimal digits."""
    file.seek(0)
    digest = hashlib.sha256()
    while size:
        chunk = file.read(min(size, _CHUNK))
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest().encode()


def _read_records(path: Path) -> None:
    """Read all of an archive, which compares it with the checksums of its records."""
    with zipfile.ZipFile(path) as archive:
        for record in archive.infolist():
            with archive.open(record) as file:
                while file.read(_CHUNK):
                    pass


def _loaded(path: Path, map_location: Any, weights_only: bool) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=weights_only)
    except Exception as error:  # torch's advice would be to run what the file names
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        found = f"it names {named[1]}, which was not run" if named else "torch cannot read it"
        raise DamagedCheckpointError(
            f"{path} is no checkpoint that limbeck wrote: {found}.{_beside(path)}"
        ) from None
    if not isinstance(checkpoint, Mapping) or not checkpoint.keys() >= _KEYS:
        raise DamagedCheckpointError(
            f"{path} is no checkpoint of a run: expected {', '.join(sorted(_KEYS))} in it. Weights "
            "alone are given to a model as its `weights`."
        )
    return dict(checkpoint)


_KEYS = {"state_dict", "global_step", "loops", "pytorch-lightning_version"}


def _beside(path: Path) -> str:
    """What to do without a checkpoint: which one beside it is sound, if any."""
    options = {"last.ckpt": "", "best.ckpt": " --from_best"}
    for name, option in options.items():
        other = path.with_name(name)
        if path.name in options and path != other and other.is_file() and not damage(other):
            again = f"limbeck fit --resume {path.parent.parent}{option}"
            return f" {other} is sound: `{again}` goes on from there."
    return " No other checkpoint of that run is sound: restore it from a copy, or begin anew."
