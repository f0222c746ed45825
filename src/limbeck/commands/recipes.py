"""``limbeck recipes``: list, show and copy the recipes that come with limbeck; their schema."""

import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli
from rich.syntax import Syntax

from limbeck.commands.outputs import refuse_unwritable_target
from limbeck.commands.parsing import VerbParser
from limbeck.terminal import Table, say
from limbeck.texts import read_text


def run(arguments: Sequence[str]) -> None:
    """Run ``limbeck recipes``.

    Args:
        arguments: The verb, and the words that follow it.
    """
    verbs: dict[str, Any] = {"list": show_all, "show": show, "copy": copy, "schema": schema}
    options: dict[str, Any] = {"prog": "limbeck recipes", "allow_abbrev": False}
    auto_cli(verbs, args=list(arguments[1:]), parser_class=VerbParser, **options)


def folder() -> Path:
    """The folder of the recipes: in the installed package, otherwise in the checkout."""
    installed = Path(str(files("limbeck"))) / "recipes"
    return installed if installed.is_dir() else Path(__file__).resolve().parents[3] / "recipes"


def find(name: str) -> Path:
    """Find a recipe by its name.

    Args:
        name: The name, such as ``shapes/distilled``, with or without ``.yaml``.

    Returns:
        The recipe's file.

    Raises:
        ValueError: There is no such recipe; the message lists those there are.
    """
    path = folder() / (name if name.endswith(".yaml") else f"{name}.yaml")
    if not path.is_file():
        raise ValueError(f"no recipe {name!r}. There are: {', '.join(names())}.")
    return path


def names() -> list[str]:
    """The names of all recipes, in alphabetical order."""
    found = folder().rglob("*.yaml")
    return sorted(path.relative_to(folder()).with_suffix("").as_posix() for path in found)


def show_all() -> None:
    """List the recipes, and what each of them does."""
    table = Table("recipe", "what it does")
    for name in names():
        table.add_row(name, _purpose(find(name)))
    say(table)


def _purpose(path: Path) -> str:
    """The second comment of a recipe, which says what it does; the first is how it is run."""
    comments = [line[1:].strip() for line in read_text(path).splitlines() if line.startswith("#")]
    return comments[1] if len(comments) > 1 else ""


def show(name: str) -> None:
    """Show a recipe.

    Args:
        name: The recipe's name, as `limbeck recipes list` gives it.
    """
    yaml = Syntax("", "yaml", background_color="default").highlight(read_text(find(name)))
    say(yaml, soft_wrap=True, end="")  # soft: no line is cut or padded


def copy(name: str, to: Path) -> None:
    """Copy a recipe to a file or folder of one's own.

    Args:
        name: The recipe's name, as `limbeck recipes list` gives it.
        to: A new file, or a folder that exists.

    Raises:
        FileExistsError: The file exists already.
    """
    source = find(name)
    target = to / source.name if to.is_dir() else to
    refuse_unwritable_target(target, "to")
    if target.exists():
        raise FileExistsError(f"{target} exists already; choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    say(f"{target}: its first line says how it is run")


def schema(to: Path) -> None:
    """Write the JSON Schema of recipes, by which an editor completes and checks them.

    It knows the classes and arguments of this version of limbeck, of Lightning's trainer, callbacks
    and loggers, and takes class paths of others as they are.

    Args:
        to: A new file, such as recipe.schema.json, or one that holds such a schema.

    Raises:
        FileExistsError: The file holds something else.
    """
    refuse_unwritable_target(to, "to")
    from limbeck.commands.recipe_schema import write_schema  # with torch, which the others spare

    write_schema(to)
    say(f"{to}: in a recipe beside it, write the line")
    say(f"# yaml-language-server: $schema={to.name}", soft_wrap=True)
