from pathlib import Path, PurePath

import pytest

from limbeck.data.files import (
    LeftOut,
    images_by_stem,
    images_in,
    is_companion,
    is_image,
    without_companions,
)

COMPANIONS = (
    "._000.png", ".DS_Store", ".hidden.jpg", "Thumbs.db", "thumbs.DB", "desktop.ini", "__MACOSX",
    "__MACOSX/a.png", "@eaDir", "@eaDir/a.jpg/SYNO.jpg", "a/.cache/b.png", ".ipynb_checkpoints",
)  # fmt: skip


@pytest.mark.parametrize("name", COMPANIONS)
def test_companion_files_are_no_data(name: str) -> None:
    assert is_companion(PurePath(name))


@pytest.mark.parametrize("name", ["a.png", "a._b.png", "../images/a.png", "./a.png", "macosx/a"])
def test_other_files_are(name: str) -> None:
    assert not is_companion(PurePath(name))


def test_images_are_known_by_their_suffix_in_whatever_case() -> None:
    names = ("a.jpg", "a.JPEG", "a.png", "a.webp", "a.gif", "a.bmp", "a.tif", "a.TIFF", "a.ppm")
    assert all(is_image(PurePath(name)) for name in names)
    assert not any(is_image(PurePath(name)) for name in ("a.txt", "a.heic", "png", "a.png.part"))


def test_what_is_left_out_is_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    left_out = LeftOut(Path("images"))
    kept = [
        n for n in ("a.png", "._a.png", "notes.txt", "b.jpg") if left_out.keeps_image(PurePath(n))
    ]
    left_out.say()
    assert kept == ["a.png", "b.jpg"]
    hidden, others = caplog.messages
    assert hidden.startswith("images: left out 1 files or folders that are hidden")
    assert hidden.endswith("such as ._a.png")
    assert others.startswith("images: left out 1 files or folders that are no images")


def test_nothing_is_said_where_nothing_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert without_companions(["b", "a"], Path("list.txt")) == ["b", "a"]
    assert not caplog.messages


def test_of_several_files_of_one_image_the_last_is_read_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.jpg", "a.png", "._a.png", "a.txt", "b.PNG", "c.jpg", "c.png"):
        (tmp_path / name).touch()
    found = images_by_stem(tmp_path, ["b", "a", "d"])
    assert found == {"b": tmp_path / "b.PNG", "a": tmp_path / "a.png"}
    assert "1 images have several files, such as a.jpg, a.png; the last of them" in caplog.text


def test_folders_that_are_linked_in_are_gone_through_once(tmp_path: Path) -> None:
    for name in ("set/own", "elsewhere/inner"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").touch()
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/inner/back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/own/up").symlink_to("..")
    found = [Path(path).relative_to(tmp_path).as_posix() for path in images_in(tmp_path / "set")]
    assert found == ["set/linked/inner/a.png", "set/own/a.png"]
