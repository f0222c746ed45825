"""Text files, and YAML in them, read within bounds; what is wrong is said with the file's name."""

import os
from collections.abc import Iterable
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

# Recipes and libraries' configurations have some kilobytes. PyYAML takes up to a thousand times the
# size of a text, and a second for 100 kB.
MOST_YAML = 2**20  # bytes
MOST_TEXT = 2**26  # bytes of other text files, such as lists and annotations
MOST_ROWS = 2**30  # bytes of rows that a long run has logged, and of many images' predictions
_USUAL_TEXT = 2**16  # bytes of most files
_MOST_VALUES = 20_000  # with those that aliases and merges repeat; a recipe has hundreds
_MOST_LEVELS = 100  # a recipe has ten; PyYAML and jsonargparse go down them recursively
_LONGEST_NUMBER = 100  # digits: conversions take time in proportion to their square

YAML_SUFFIXES = (".yaml", ".yml")  # of recipes, and of YOLO's descriptions of data
SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_bytes(path: str | os.PathLike[str], most: int = MOST_TEXT) -> bytes:
    """What a file holds, which is read no further than it may go.

    Args:
        path: The file.
        most: The bytes that it may have.

    Returns:
        The bytes.

    Raises:
        OSError: The file is missing, or cannot be read.
        ValueError: It has more bytes.
    """
    with Path(path).open("rb") as file:
        content = file.read(min(_USUAL_TEXT, most + 1))
        if len(content) == _USUAL_TEXT:  # Python takes memory for all that it is asked to read
            content += file.read(most + 1 - _USUAL_TEXT)
    if len(content) > most:
        raise ValueError(
            f"{path} has more than {most:,} bytes, which no such file needs. Is it another file?"
        )
    return content


def read_text(path: str | os.PathLike[str], most: int = MOST_TEXT, *, strict: bool = True) -> str:
    """The text of a file, UTF-8 with or without a byte order mark.

    Args:
        path: The file.
        most: The bytes that it may have.
        strict: Whether bytes that are no UTF-8 are refused. Otherwise each becomes U+FFFD, for
            files of which the rest is of use.

    Returns:
        The text, with line ends as Python has them.

    Raises:
        OSError: The file is missing, or cannot be read.
        ValueError: It is no UTF-8, or has more bytes.
    """
    content = read_bytes(path, most)
    try:
        text = content.decode("utf-8-sig", "strict" if strict else "replace")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8: byte {error.start} is {content[error.start]:#04x}. It is "
            "damaged, or in another encoding: copy it again, or save it as UTF-8."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_yaml(path: str | Path) -> Any:
    """What a YAML file holds, of plain values.

    Args:
        path: The file.

    Returns:
        Mappings, lists, strings, numbers, booleans, dates and None.

    Raises:
        OSError: The file is missing, or cannot be read.
        ValueError: It is no text, no YAML, names Python's objects, or unfolds beyond all bounds.
    """
    return load_yaml(read_text(path, MOST_YAML), str(path), SAFE_LOADER)


def load_yaml(text: str, origin: str, loader: Any) -> Any:
    """What a text of YAML holds.

    Args:
        text: The text.
        origin: Where it is from, for messages.
        loader: One of PyYAML's safe loaders, or a class of it.

    Returns:
        What the loader makes of it.

    Raises:
        ValueError: The text is no YAML, names what the loader does not know, or unfolds beyond all
            bounds.
    """
    check_yaml(text, origin)
    try:
        return yaml.load(text, Loader=loader)
    # Of a date that there is not, or of a tag whose text is none: PyYAML does not look first.
    except (yaml.YAMLError, ValueError, OverflowError, LookupError, AttributeError) as error:
        raise _no_yaml(origin, error) from None


def check_yaml(text: str, origin: str) -> None:
    """Refuse a text of YAML that would take much time or memory, before it is loaded.

    Only the events of the parser are looked at, of which there are fewer than characters.

    Args:
        text: The text.
        origin: Where it is from, for messages.

    Raises:
        ValueError: It is too long, too deep, holds too many values, contains itself, has a key
            twice, or a number of too many digits; or it is no YAML.
    """
    if len(text) > MOST_YAML:
        raise ValueError(
            f"{origin} has {len(text):,} characters: expected at most {MOST_YAML:,}. Is it another "
            "file?"
        )
    try:
        _check_events(yaml.parse(text, Loader=SAFE_LOADER))
    except _UnboundedError as error:
        raise ValueError(f"{origin} {error}") from None
    except yaml.YAMLError as error:
        raise _no_yaml(origin, error) from None


class _UnboundedError(Exception):
    """What is wrong with a text of YAML."""


def _check_events(events: Iterable[Any]) -> None:
    values = [0]  # of each open collection, and of the document
    open_anchors: list[str | None] = []
    keys = [_Keys()]  # of each open collection
    sizes: dict[str | None, int] = {}  # of what anchors stand for
    for event in events:
        if isinstance(event, yaml.NodeEvent):
            keys[-1].add(event)
        if isinstance(event, yaml.CollectionStartEvent):
            keys.append(_Keys(event))
            values.append(1)
            open_anchors.append(event.anchor)
            sizes.pop(event.anchor, None)
            if len(open_anchors) > _MOST_LEVELS:
                raise _UnboundedError(
                    f"has more than {_MOST_LEVELS} levels of lists and mappings within each other, "
                    f"in line {_line(event)}. Write it flatter."
                )
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            keys.pop()
            size, anchor = values.pop(), open_anchors.pop()
        elif isinstance(event, yaml.ScalarEvent):
            _check_number(event)
            size, anchor = 1, event.anchor
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_anchors:
                raise _UnboundedError(
                    f"contains itself: *{event.anchor} in line {_line(event)} stands "
                    f"within &{event.anchor}. Write out what is meant."
                )
            size, anchor = sizes.get(event.anchor, 1), None  # unknown ones are refused by PyYAML
        else:
            continue
        if anchor is not None:
            sizes[anchor] = size
        values[-1] += size
        if values[-1] > _MOST_VALUES:
            raise _UnboundedError(
                f"holds more than {_MOST_VALUES:,} values, with all that its aliases repeat (up to "
                f"line {_line(event)}). Write out what is meant."
            )


class _Keys:
    """The keys of an open collection: every other node of a mapping is one."""

    def __init__(self, of: Any = None) -> None:
        self.key_is_next = isinstance(of, yaml.MappingStartEvent)
        self.toggles = self.key_is_next
        self.lines: dict[str, int] = {}

    def add(self, node: Any) -> None:
        """Note the next node, and refuse it where it is a key that was there before."""
        if self.key_is_next and isinstance(node, yaml.ScalarEvent) and node.value != "<<":
            if node.value in self.lines:
                raise _UnboundedError(
                    f"has the key {shorten(node.value, 80)!r} twice, in line "
                    f"{self.lines[node.value]} and in line {_line(node)}; expected it once. Leave "
                    "one of them out."
                )
            self.lines[node.value] = _line(node)
        self.key_is_next = self.toggles and not self.key_is_next


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _check_number(event: Any) -> None:
    value, is_text = event.value, event.implicit[1]  # quoted, and no tag says otherwise
    if not is_text and len(value) > _LONGEST_NUMBER and not value.strip("+-0123456789.:_eE"):
        raise _UnboundedError(
            f"has a number of {len(value):,} characters in line {_line(event)}: "
            f"expected at most {_LONGEST_NUMBER}."
        )


def _no_yaml(origin: str, error: Exception) -> ValueError:
    """What is wrong, in one line, and where."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None)
    mark = getattr(error, "problem_mark", None)
    line = f", in line {mark.line + 1}" if mark is not None else ""
    if isinstance(error, LookupError | AttributeError):
        problem = "a value is not what its tag says"
    said = problem or str(error).partition("\n")[0]
    return ValueError(f"{origin} is no YAML of plain values: {said}{line}. Mend it.")
