"""Tables and lines on the terminal, which show every name as it is.

Rich reads what stands in square brackets as markup: ``[bold]`` would vanish from a name, and
``[/red]`` would end the program. What is printed through this module holds no markup.
"""

from typing import Any

import rich
import rich.table
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from limbeck.names import in_terminal


class Table(rich.table.Table):
    """Rich's table, whose title, heads and cells are plain text.

    Args:
        *heads: The heads of the columns.
        title: The title. None: there is none.
        **options: Further options of rich's.
    """

    def __init__(self, *heads: str, title: str | None = None, **options: Any) -> None:
        super().__init__(title=None if title is None else _plain(title), **options)
        for head in heads:
            self.add_column(head)

    def add_column(self, header: Any = "", *arguments: Any, **options: Any) -> None:
        """Add a column with this head. What is too long for it is folded, never cut."""
        options.setdefault("overflow", "fold")
        super().add_column(_plain(header), *arguments, **options)

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row of these cells."""
        super().add_row(*map(_plain, cells), **options)


def progress_bar(*columns: str) -> Progress:
    """A bar that vanishes when it stops, on the console that :func:`say` prints on.

    Args:
        *columns: What stands before and after the bar, as formats of rich's ``TextColumn``.

    Returns:
        The bar, between the first column and the others.
    """
    first, *others = (TextColumn(text, markup=False) for text in columns)
    console = rich.get_console()
    silent = not console.is_terminal  # where rich would leave an empty line
    return Progress(first, BarColumn(), *others, console=console, transient=True, disable=silent)


def say(*what: object, **options: Any) -> None:
    """Print texts and tables.

    Args:
        *what: What is printed. Texts are shown as they are.
        **options: Options of ``rich.console.Console.print``.
    """
    plain = [in_terminal(each) if isinstance(each, str) else each for each in what]
    rich.get_console().print(*plain, markup=False, emoji=False, **options)


def _plain(cell: Any) -> Any:
    return Text(in_terminal(cell)) if isinstance(cell, str) else cell
