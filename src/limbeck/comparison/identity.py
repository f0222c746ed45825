"""What makes a run the same run: its recipe, its seed, the files that it reads, and limbeck."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any

import limbeck
from limbeck.arguments import imported
from limbeck.data import YOLO
from limbeck.data.files import files_below
from limbeck.data.yolo import DESCRIPTION, read_elsewhere
from limbeck.recipe import Recipe
from limbeck.texts import read_text
from limbeck.whole import write_whole

# Keys that what is trained does not depend on.
FREE = ("checkpoint_every", "config", "detections", "predictions", "seed_everything")
_FREE_OF_TRAINER = ("accelerator", "default_root_dir", "enable_progress_bar", "logger")
_LENGTH = 12  # of the digits of a digest that name a folder


class Digests:
    """Digests of files and folders; contents are read once, as long as size and time stay.

    An object looks at each folder once, so that a comparison does not walk through its data again
    for each of its runs: what changes while it is trained does not change what its runs are.

    Args:
        cache: The file that remembers them between two calls.
    """

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.known: dict[str, list[Any]] = {}
        self._folders: dict[Path, str] = {}
        if cache.exists():
            self.known = json.loads(read_text(cache))

    def of(self, path: Path) -> str:
        """The digest of a file's contents, or of all files in a folder with their names.

        Args:
            path: The file or the folder. Where it holds the folder of the file that remembers, as
                ``.`` may, that one is left out: it grows while runs are trained.

        Returns:
            Hexadecimal digits.
        """
        if path.is_file():
            return self._of_file(path)
        if path not in self._folders:
            self._folders[path] = self._of_folder(path)
        return self._folders[path]

    def save(self) -> None:
        """Write the file that remembers."""
        write_whole(self.cache, json.dumps(self.known))

    def _of_folder(self, path: Path) -> str:
        found, own = hashlib.sha256(), self.cache.parent.resolve()
        inside = own.relative_to(path.resolve()) if own.is_relative_to(path.resolve()) else None
        left_out = path / inside if inside is not None and inside.parts else None
        for file in sorted(p for p in files_below(path) if p.is_file()):
            if left_out in file.parents:
                continue
            line = f"{file.relative_to(path).as_posix()}\0{self._of_file(file)}\n"
            found.update(line.encode(errors="surrogateescape"))
        return found.hexdigest()

    def _of_file(self, path: Path) -> str:
        stat = path.stat()
        key, state = str(path.resolve()), [stat.st_size, stat.st_mtime_ns]
        if self.known.get(key, [])[:2] != state:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            self.known[key] = [*state, digest]
        return str(self.known[key][2])


def identity(recipe: Recipe, seed: int, digests: Digests, runs: Path) -> str:
    """The digest by which a run is known.

    Args:
        recipe: The whole recipe of the run.
        seed: Its seed.
        digests: The digests of files.
        runs: The folder of all runs. What a recipe names in it, such as a teacher that is yet to be
            trained, goes by its name, which has an identity of its own.

    Returns:
        Twelve hexadecimal digits, others for any other recipe, seed, contents of files that the
        recipe names, or version of limbeck.
    """
    stated = {key: value for key, value in recipe.items() if key not in FREE}
    trainer = stated.get("trainer") or {}
    stated["trainer"] = {k: v for k, v in trainer.items() if k not in _FREE_OF_TRAINER}
    whole = [_by_contents(_with_paths(stated), digests, runs), seed, limbeck.__version__]
    text = json.dumps(whole, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def files_named(value: Any) -> set[Path]:
    """The files and folders that a recipe names: data, annotations, weights, a teacher's folder."""
    return _files(_with_paths(value))


def _files(value: Any) -> set[Path]:
    if isinstance(value, Path):
        return {value}
    if isinstance(value, Mapping):
        return _files([*value.values(), *_elsewhere(value)])
    if isinstance(value, str):
        return {Path(value)} if not _is_word(value) and os.path.exists(value) else set()  # noqa: PTH110
    if isinstance(value, Sequence):
        return {path for each in value for path in _files(each)}
    return set()


def _is_word(value: str) -> bool:
    """Whether it may be a name: a folder that happens to be called so says nothing."""
    return os.sep not in value and "." not in value


def _with_paths(value: Any, arguments: AbstractSet[str] = frozenset()) -> Any:
    """A recipe in which a word is a path where a class takes one, and there is a file of that name.

    Args:
        value: The recipe, or a part of it.
        arguments: The keys of this part that are arguments which take a path.
    """
    if isinstance(value, Mapping):
        inside = _path_arguments(value)
        return {
            key: Path(each)
            if key in arguments and _is_found(each)
            else _with_paths(each, inside if key == "init_args" else frozenset())
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_with_paths(each) for each in value]
    return value


def _path_arguments(stated: Mapping[str, Any]) -> set[str]:
    """The arguments of a stated class that take a path, by their annotations."""
    arguments = stated.get("init_args")
    if not isinstance(arguments, Mapping) or not any(map(_is_found, arguments.values())):
        return set()
    try:
        taken = signature(imported(str(stated.get("class_path")))).parameters
    except (AttributeError, ImportError, TypeError, ValueError):  # its run says what is wrong
        return set()
    return {name for name, parameter in taken.items() if "Path" in str(parameter.annotation)}


def _elsewhere(stated: Mapping[str, Any]) -> list[Path]:
    """What a dataset's own file leads to, which the recipe does not name."""
    kind, arguments = str(stated.get("class_path")), stated.get("init_args")
    if kind.rpartition(".")[2] != YOLO.__name__ or not isinstance(arguments, Mapping):
        return []
    named = {key: arguments[key] for key in ("split", "description") if key in arguments}
    root = Path(arguments.get("root", ""))
    try:
        changed = (root / named.get("description", DESCRIPTION)).stat().st_mtime_ns
        return _listed(changed, root, **named)
    except (OSError, TypeError, ValueError):  # its run says what is wrong
        return []


@cache  # a comparison asks for each of its runs
def _listed(changed: int, root: Path, **named: str) -> list[Path]:
    del changed  # when the file was: another one is read anew
    return read_elsewhere(root, **named)


def _is_found(value: Any) -> bool:
    """Whether it is a word by which there is a file or a folder."""
    return isinstance(value, str) and _is_word(value) and os.path.exists(value)  # noqa: PTH110


def _by_contents(value: Any, digests: Digests, runs: Path) -> Any:
    """A recipe with the contents of what it names, as its files may be moved."""
    if isinstance(value, Mapping):
        own = {key: _by_contents(each, digests, runs) for key, each in value.items()}
        elsewhere = [digests.of(path) for path in _elsewhere(value)]
        return own | ({"read elsewhere": elsewhere} if elsewhere else {})
    if isinstance(value, str) and value.startswith(f"{runs}{os.sep}"):
        return Path(value).relative_to(runs).as_posix()
    if isinstance(value, str | Path):
        return next((digests.of(path) for path in _files(value)), value)
    if isinstance(value, Sequence):
        return [_by_contents(each, digests, runs) for each in value]
    return value
