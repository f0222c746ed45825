from pathlib import Path

import pytest
import rich
from rich.console import Console

from limbeck.commands.recipes import find, folder, names
from tests.commands.tiny_recipes import limbeck


def test_every_recipe_is_listed_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    limbeck("recipes", "list")
    lines = capsys.readouterr().out.splitlines()
    for name in names():
        (line,) = (line for line in lines if f" {name} " in line)
        comment = find(name).read_text().splitlines()[1]
        assert comment.startswith("# ")
        assert comment[2:50] in line
    assert len(names()) == len(list(folder().rglob("*.yaml")))


def test_show_gives_the_recipe_as_it_is_in_a_narrow_terminal_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rich, "_console", Console(width=40))
    limbeck("recipes", "show", "real/bccd_student")
    assert capsys.readouterr().out == find("real/bccd_student").read_text()


def test_copy_takes_a_file_or_a_folder_and_overwrites_neither(
    capsys: pytest.CaptureFixture[str],
) -> None:
    original = find("shapes/student").read_bytes()
    limbeck("recipes", "copy", "shapes/student", "new/mine.yaml")
    assert Path("new/mine.yaml").read_bytes() == original
    assert "new/mine.yaml: its first line says how it is run" in capsys.readouterr().out
    limbeck("recipes", "copy", "shapes/student", "new")
    assert Path("new/student.yaml").read_bytes() == original

    Path("new/mine.yaml").write_text("changed")
    with pytest.raises(SystemExit) as end:
        limbeck("recipes", "copy", "shapes/student", "new/mine.yaml")
    assert end.value.code == 1
    assert "new/mine.yaml exists already" in capsys.readouterr().err
    assert Path("new/mine.yaml").read_text() == "changed"


def test_a_recipe_that_does_not_exist_is_answered_with_all_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        limbeck("recipes", "show", "shapes/teacherr")
    said = capsys.readouterr().err
    assert "no recipe 'shapes/teacherr'" in said
    assert said.endswith(f"{', '.join(names())}.\n")
