"""What names of classes, files and runs become as keys, file names, comments and messages.

A name may hold anything: slashes, line breaks, brackets, control characters. Every such use goes
through this module (those on the terminal through :mod:`limbeck.terminal`). A name that needs
nothing stays as it is. In others each character that has a meaning of its own is written as in an
address on the web, ``%2F`` for a slash, so that no two names become one, and
``urllib.parse.unquote`` reads them back.
"""

import hashlib
import re
import shlex
import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)
Named = TypeVar("Named")

# Control characters, line breaks of Unicode's, marks that turn the direction of writing, and what
# is no character: the halves of surrogate pairs, and U+FFFE, U+FFFF, which YAML refuses.
_CONTROL = (
    "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff"
)
_ESCAPES = "%(?=[0-9A-Fa-f]{2}|~)"  # a percent sign that would be read as an escape
_OF_PATHS = '/\\:*?"<>|'
_DEVICE = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])(?=\s*(\.|$))", re.IGNORECASE)
_MARK = "%~"  # before a digest, which stands for what a file name has no room for
LONGEST = 255  # bytes of a file name, on all usual file systems


def in_shell(word: object) -> str:
    """A word of a command that is shown, quoted where a shell would take it apart."""
    return shlex.quote(escaped(str(word)))


def escaped(name: str, reserved: str = "") -> str:
    r"""A name in one line without control characters: a key, a column, a tag, part of a comment.

    Args:
        name: The name.
        reserved: Further characters that have a meaning where it is written.

    Returns:
        The name, in which such characters are written as ``%`` and two hexadecimal digits for each
        byte of UTF-8. No other name gives the same.

    Example:
        >>> escaped("traffic light"), escaped("a\nb"), escaped("100%"), escaped("%0A")
        ('traffic light', 'a%0Ab', '100%', '%250A')
    """
    return re.sub(f"[{_CONTROL}{re.escape(reserved)}]|{_ESCAPES}", _percent, name)


def file_names(wanted: Mapping[Key, str]) -> dict[Key, str]:
    """File names, each within one folder and another one than the rest on every disk.

    Args:
        wanted: The name that each file would have, by any key, such as the name of a class. Two
            keys may want the same.

    Returns:
        The name of each file by its key. Slashes, what Windows does not allow, and control
        characters are escaped. Names that are too long, or differ from an earlier one in nothing
        that every disk tells apart (such as upper and lower case), end in ``%~`` and a digest of
        their key.

    Example:
        >>> file_names({"a/b": "a/b.txt", "Car": "Car.txt", "con": "con.txt"})
        {'a/b': 'a%2Fb.txt', 'Car': 'Car.txt', 'con': '%63on.txt'}
    """
    found: dict[Key, str] = {}
    taken: set[str] = set()
    for key, name in wanted.items():
        written = _file_name(name)
        if len(written.encode()) > LONGEST or folded(written) in taken:
            written = _digested(written, key)
        taken.add(folded(written))
        found[key] = written
    return found


def folded(path: str) -> str:
    """What is equal for two paths that some disk takes for one, in whatever case or accents."""
    decomposed = unicodedata.normalize("NFD", path)
    return unicodedata.normalize("NFD", decomposed.casefold())


def in_terminal(text: str) -> str:
    r"""A text for the terminal, in which control characters but line breaks and tabs do nothing.

    Args:
        text: The text, which may be a whole message.

    Returns:
        The text with these characters as Python writes them, such as ``\x1b``.
    """
    return re.sub(f"(?![\n\t])[{_CONTROL}]", lambda m: m[0].encode("unicode_escape").decode(), text)


def in_markdown(text: str) -> str:
    """A text as one line or one cell of a table of Markdown, where it is shown as it is."""
    return re.sub(r"[\\|<&*`]|\](?=\()", r"\\\g<0>", escaped(text))


def _file_name(name: str) -> str:
    if name in ("", "%"):
        return "%25" if name else "%"
    written = escaped(name, _OF_PATHS)
    written = re.sub(r"[. ]+\Z", _percent, written)  # which Windows leaves out
    if _DEVICE.match(written):
        written = f"%{ord(written[0]):02X}{written[1:]}"
    return written


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _digested(name: str, key: Hashable) -> str:
    """The beginning of a file name, a digest of its key, and its suffix."""
    suffix = match[0] if (match := re.search(r"\.\w{1,8}\Z", name)) else ""
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:32]
    room = LONGEST - len(f"{_MARK}{digest}{suffix}".encode())
    start = name.removesuffix(suffix).encode()[:room].decode(errors="ignore")
    return f"{start}{_MARK}{digest}{suffix}"


def refuse_name(key: str, name: str) -> None:
    """Refuse a name that cannot be a part of the names of losses and parameters.

    Args:
        key: What in a recipe the name stands in, such as ``model.methods``.
        name: The name.

    Raises:
        ValueError: It is empty, or has dots, slashes, brackets or control characters.
    """
    if not name or not name.isprintable() or any(letter in name for letter in "./[]"):
        one = {"model.methods": "method", "model.teachers": "teacher"}[key]
        raise ValueError(
            f"{key} has the name {name!r}; expected one without dots, slashes, brackets and "
            "control characters, as it becomes a part of the names of losses and parameters. Give "
            f"the {one} another name."
        )


def by_name(given: Mapping[str, Named] | Sequence[Named]) -> dict[str, Named]:
    """Methods by the names that were given, or by their classes', numbered from the second on.

    Args:
        given: The methods, by names of the user's choice or in a sequence.

    Returns:
        The methods by their names.

    Raises:
        TypeError: It is one method, and no list or mapping.
        ValueError: A name is the student's, or cannot be a part of other names.
    """
    if not hasattr(given, "__iter__"):
        raise TypeError(
            f"methods is one {type(given).__name__}; expected a list of methods, or a mapping from "
            "names to methods. Put it into a list."
        )
    if isinstance(given, Mapping):
        if "student" in given:
            raise ValueError("'student' names the student's own losses; call the method otherwise")
        for name in given:
            refuse_name("model.methods", name)
        return dict(given)
    named: dict[str, Named] = {}
    for method in given:
        name = type(method).__name__
        earlier = sum(type(other) is type(method) for other in named.values())
        named[f"{name}{earlier + 1}" if earlier else name] = method
    return named
