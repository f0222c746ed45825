"""Which errors are the user's to mend, and what is said of them. Torch is not needed for it."""

import errno
from opcode import opmap
from types import TracebackType

FULL = (errno.ENOSPC, errno.EDQUOT)
# A path of the user's that is something else than it is taken for, or is closed to them.
PLACES = (
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
)


# What a verb that was ended goes on with.
GOES_ON = {
    "tune": "the same command goes on where the runs are",
    "compare": "the same command goes on where the runs are",
    "quickstart": "the same command goes on where the runs are",
    "label": "the same command goes on with the images that are left",
}


class RecipeError(ValueError):
    """A recipe that cannot be used, as the user is told."""


def of_ours(error: BaseException | None) -> BaseException | None:
    """The error of limbeck's own that led to this one, or None; the user is told that one alone."""
    while error is not None and not is_ours(error):
        error = error.__cause__  # jsonargparse wraps what a constructor raises
    return error


def is_ours(error: BaseException) -> bool:
    """Whether limbeck raised an error for the user: it says what to do, and needs no traceback."""
    if type(error).__module__.partition(".")[0] == "limbeck":
        return True  # torch raises an error of a loading worker anew
    if isinstance(error, OSError) and error.errno in FULL:
        return True
    if isinstance(error, LookupError | AttributeError | AssertionError | ArithmeticError):
        return False  # a mistake of ours
    if isinstance(error, TypeError) and not _is_stated(error):
        return False  # such as None + 1
    if isinstance(error, OSError) and error.errno in PLACES and error.filename is not None:
        return True
    return raised_in(error) == "limbeck"


def raised_in(error: BaseException) -> str:
    """The package whose code raised an error."""
    origin = _origin(error)
    return "" if origin is None else str(origin.tb_frame.f_globals["__name__"]).partition(".")[0]


def _is_stated(error: BaseException) -> bool:
    """Whether a ``raise`` statement raised an error, rather than an operation that failed."""
    origin = _origin(error)
    if origin is None:
        return False
    return origin.tb_frame.f_code.co_code[origin.tb_lasti] == opmap["RAISE_VARARGS"]


def _origin(error: BaseException) -> TracebackType | None:
    """The innermost part of an error's traceback."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def told(error: BaseException, verb: str = "") -> str:
    """What the user is told: the message, and what to do about a disk or a path of theirs.

    Args:
        error: The error.
        verb: The verb of the command line that it ended.

    Returns:
        The message.
    """
    if isinstance(error, OSError) and error.errno in FULL:
        goes_on = GOES_ON | {"fit": "`limbeck fit --resume` goes on from there"}
        then = goes_on.get(verb, "then give the same command again")
        return f"{error}. Free space; what was saved is whole: {then}."
    if isinstance(error, OSError) and error.errno in PLACES and raised_in(error) != "limbeck":
        return (
            f"{error.filename}: {error.strerror}. Expected a path that can be read or written "
            "there. Give another one, or free this one."
        )
    said = str(error)
    if not said.startswith("Caught "):  # torch puts the traceback of a loading worker before it
        return said
    return said.rpartition(f"{type(error).__qualname__}: ")[2]
