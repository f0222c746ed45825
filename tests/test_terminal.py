import pytest
from rich.console import Console

from limbeck.terminal import Table, progress_bar, say
from limbeck.wiring import Connection, Wiring

NAMES = ("[bold]x", "sign [/red]", ":smile:", "[link=file:///etc]y", "\\[z]")


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("score", "[/red]", title="[bold]title")
    table.add_column("[x]", justify="right")
    for name in NAMES:
        table.add_row(name, "1", "2")
    say(table)
    say(*NAMES, sep="\n")
    out = capsys.readouterr().out
    for name in (*NAMES, "[/red]", "[bold]title", "[x]"):
        assert name in out
    assert out.count("sign [/red]") == 2


def test_a_table_is_plain_on_any_console(capsys: pytest.CaptureFixture[str]) -> None:
    fields = dict.fromkeys(Connection.__dataclass_fields__, "[/red]")
    Console(width=200).print(Wiring((Connection(**fields),)))
    assert capsys.readouterr().out.count("[/red]") == len(fields)


def test_a_bar_leaves_nothing_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with progress_bar("images", "{task.completed:.0f} of {task.total:.0f}") as bar:
        bar.advance(bar.add_task("", total=2))
    assert capsys.readouterr().out == ""


def test_control_characters_do_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("score")
    table.add_row("a\x1b[2Jb")
    say(table, "c\x1b]0;title\x07")
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "a\\x1b[2Jb" in out
    assert "c\\x1b]0;title\\x07" in out


def test_long_names_are_folded_and_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("score")
    table.add_row("x" * 500 + "y")
    say(table)
    out = capsys.readouterr().out
    assert (out.count("x"), out.count("y")) == (500, 1)
