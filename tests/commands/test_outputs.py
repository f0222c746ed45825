import os
from pathlib import Path

import pytest

from limbeck.commands.outputs import (
    refuse_no_picture,
    refuse_unwritable_target,
    refuse_used_folder,
)
from tests.commands.tiny_recipes import limbeck


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A folder with a file, a folder and a sealed folder in it."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "sealed").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("name", "folder", "said"),
    [
        ("file", True, "is no folder"),
        ("folder", False, "is a folder"),
        ("file/inside", False, "is no folder"),
        ("file/inside", True, "is no folder"),
        ("sealed/inside", False, "closed to you"),
        ("sealed/a/b/c", True, "closed to you"),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(
    name: str, folder: bool, said: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.access  # may everything, where the tests run as root
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path).name != "sealed" and really(path, mode)
    )
    with pytest.raises(PermissionError, match=said) as error:
        refuse_unwritable_target(places / name, "target", folder=folder)
    assert str(error.value).startswith(f"target {places / name} ")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("file", False), ("folder", True), ("folder/new", False), ("new/inside", True)],
)
def test_what_can_be_written_is_taken(name: str, folder: bool, places: Path) -> None:
    refuse_unwritable_target(places / name, "target", folder=folder)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("inspect", "resnet18", "--size=[0,-5]"), "--size is [0, -5]; expected numbers, each 1"),
        (("inspect", "resnet18", "--size=[100000,5]"), "--size is [100000, 5]; expected"),
        (("inspect", "resnet18", "--depth=-1"), "--depth is -1; expected"),
        (("inspect", "r.yaml", "--images=0"), "--images is 0; expected"),
        (("anchors", "r.yaml", "--count=0"), "--count is 0; expected"),
        (("anchors", "r.yaml", "--image_size=[0,0]"), "--image_size is [0, 0]; expected"),
        (("predict", "s", "x", "--threshold=40"), "--threshold is 40.0; expected a number: 0 or"),
        (("predict", "s", "x", "--output=file"), "--output file is no folder"),
        (("quickstart", "--seed=-1"), "--seed is -1; expected"),
        (("quickstart", "--output=file/out"), "--output file is no folder"),
    ],
)
def test_options_out_of_range_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    with pytest.raises(SystemExit) as end:
        limbeck(*words)
    assert end.value.code == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ("convert", "nothing.pth", "file/out.safetensors"),
        ("convert", "nothing.pth", "folder.pkl"),
        ("convert", "nothing.pth", "file"),
        ("recipes", "copy", "shapes/student", "file/out.yaml"),
    ],
)
def test_verbs_say_so_before_they_begin(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    Path("folder.pkl").mkdir()
    with pytest.raises(SystemExit) as end:
        limbeck(*words)
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert words[-1] in said
    assert "Expected a" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", ["photo", "t.gif", "t.png.txt"])
def test_a_picture_has_the_suffix_of_one(name: str) -> None:
    with pytest.raises(ValueError, match=r"--plot .*ends with one of \.png, \.svg"):
        refuse_no_picture(Path(name), "--plot")
    refuse_no_picture(Path("t.PNG"), "--plot")


def test_a_new_folder_takes_the_place_of_nothing(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_used_folder(places / "folder", "--output")
    refuse_used_folder(places / "new", "--output")
    (places / "link").symlink_to(places / "folder")
    monkeypatch.chdir(places / "folder")
    for path, said in (
        (places, "holds file, folder, link"),
        (places / "link", "is a link"),
        (Path(), "is the folder that you are in"),
    ):
        with pytest.raises(FileExistsError, match=rf"--output {path} {said}"):
            refuse_used_folder(path, "--output")
