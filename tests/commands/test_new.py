"""``limbeck new`` from the command line."""

from pathlib import Path

import pytest

from limbeck.commands.compare import refuse_bad_recipes
from limbeck.comparison import read_comparison
from limbeck.comparison.study import Study
from tests.commands import tiny_recipes
from tests.commands.starting.folders import image_folder, yolo


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as end:
        tiny_recipes.limbeck("new", *words)
    assert end.value.code == 1
    return capsys.readouterr().err


def test_new_then_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the last line says to give next is taken as it stands."""
    image_folder(tmp_path / "data")
    words = ("data", "work", "--teacher", "light", "--student", "light")
    tiny_recipes.limbeck("new", *words)
    said = capsys.readouterr().out
    assert "ImageFolder: 16 training images, 2 classes (blue, red)." in said
    command = said.splitlines()[-1].split()
    assert command[:2] == ["limbeck", "compare"]
    path, output = Path(command[2]), Path(command[4])
    study = Study(read_comparison(path), output)
    refuse_bad_recipes(study)  # as `limbeck compare` does it first
    assert study.teacher_training is not None
    assert {row.name for row in study.rows()} >= {"plain", "KD", "plain, twice as long"}


def test_a_folder_that_holds_something_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    yolo(tmp_path / "data")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine.txt").touch()
    assert "work holds mine.txt. Expected a new folder, or an empty one" in refused(
        capsys, "data", "work"
    )
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["mine.txt"]


def test_what_cannot_be_recognised_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    assert "is in no layout that limbeck knows" in refused(capsys, "data", "work")
    assert not (tmp_path / "work").exists()
    assert "nowhere is not a folder" in refused(capsys, "nowhere", "work")


def test_recipes_that_do_not_parse_are_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image_folder(tmp_path / "data")
    monkeypatch.setattr("limbeck.commands.starting.recipes._learning", lambda model: {"x": 1})
    with pytest.raises(SystemExit):
        tiny_recipes.limbeck("new", "data", "work", "--teacher", "light", "--student", "light")
    assert "'x' is not known" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_what_may_not_be_meant_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a student that is no smaller, and of a class that nothing shows."""
    yolo(tmp_path / "data")
    file = tmp_path / "data" / "data.yaml"
    file.write_text(file.read_text().replace('"blue"]', '"blue", "green"]'))
    words = ("--teacher", "fcos-light", "--student", "fcos-light")
    tiny_recipes.limbeck("new", file, "work", *words)
    said = capsys.readouterr().err
    assert "M parameters, and the teacher has " in said
    assert "nothing would become smaller" in said
    assert "No training image has an object of green" in said
    assert len(list((tmp_path / "work").iterdir())) == 4
