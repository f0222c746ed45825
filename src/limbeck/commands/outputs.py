"""Whether what a verb is to write can be written, which is looked at before the work is done."""

import os
from pathlib import Path

_MOST_TOLD = 3  # of the files in a folder
_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp")  # which matplotlib writes


def refuse_unwritable_target(target: Path, option: str, *, folder: bool = False) -> None:
    """Refuse a file or folder that cannot be written.

    Args:
        target: The file or the folder, which need not exist yet.
        option: How the command line calls it, for the message.
        folder: Whether it is to be a folder.

    Raises:
        PermissionError: It is the other of the two, or may not be written.
    """
    there = next(path for path in (target, *target.absolute().parents) if os.path.lexists(path))
    expected = "a folder" if folder else "a file"
    if there == target and target.is_dir() != folder:
        found = "is a folder" if target.is_dir() else "is no folder"
    elif there != target and not there.is_dir():
        found = f"cannot be made, as {there} is no folder"
    elif not os.access(there, os.W_OK | (os.X_OK if there.is_dir() else 0)):
        found = f"may not be written, as {there} is closed to you"
    else:
        return
    raise PermissionError(
        f"{option} {target} {found}. Expected {expected} that can be written. Give another one, or "
        "free this one."
    )


def refuse_no_picture(path: Path, option: str) -> None:
    """Refuse a name by whose end nobody knows in which format a picture is to be written.

    Args:
        path: The file.
        option: How the command line calls it, for the message.

    Raises:
        ValueError: Its name does not end with the suffix of a picture.
    """
    if path.suffix.lower() not in _PICTURES:
        raise ValueError(
            f"{option} {path}: expected a name that ends with one of {', '.join(_PICTURES)}. Give "
            "one of them."
        )


def refuse_used_folder(folder: Path, option: str) -> None:
    """Refuse a folder that cannot be written whole: one of which something else would be lost.

    Args:
        folder: The folder, which need not exist yet.
        option: How the command line calls it, for the message.

    Raises:
        FileExistsError: Something is in the folder, it is a link, or it is the present one.
        PermissionError: It cannot be written.
    """
    refuse_unwritable_target(folder, option, folder=True)
    inside = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if folder.is_symlink():
        found = "is a link"
    elif inside:
        found = f"holds {', '.join(inside[:_MOST_TOLD])}"
    elif folder.is_dir() and folder.samefile(Path()):
        found = "is the folder that you are in, in whose place a new one would come"
    else:
        return
    raise FileExistsError(
        f"{option} {folder} {found}. Expected a new folder, or an empty one elsewhere, so that "
        "nothing is lost. Give another one."
    )
