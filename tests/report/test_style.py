from pathlib import Path

import pytest
from matplotlib.figure import Figure

from limbeck.report.style import (
    COLOURS,
    INK,
    as_drawn,
    described,
    is_replaceable,
    save,
)
from tests.report.contrast import contrast


def test_letters_can_be_read() -> None:
    """The guidelines ask for 7 for the best."""
    assert contrast(INK, "white") > 7
    assert len(set(COLOURS)) == len(COLOURS)


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")]
)
def test_a_figure_is_written_into_a_folder_that_is_made(
    suffix: str, start: bytes, tmp_path: Path
) -> None:
    out = tmp_path / "made" / f"picture.{suffix}"
    save(Figure(), out)
    assert out.read_bytes().startswith(start)


def test_a_picture_is_replaced_by_its_own_program_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert is_replaceable(path, "ours")
    save(Figure(), path, software="ours")
    assert is_replaceable(path, "ours")
    assert not is_replaceable(path, "theirs")
    save(Figure(), path)
    assert not is_replaceable(path, "ours")
    link = tmp_path / "link.png"
    link.symlink_to(tmp_path / "nothing.png")
    assert not is_replaceable(link, "ours")
    assert not is_replaceable(tmp_path, "ours")


def test_a_name_is_no_formula_and_no_page() -> None:
    assert as_drawn("traffic light") == "traffic light"
    assert as_drawn("$a$\n") == r"\$a\$%0A"
    assert len(as_drawn("x" * 5000)) < 100


def test_a_png_says_what_is_seen(tmp_path: Path) -> None:
    save(Figure(), tmp_path / "a.png", description="What is seen, and where: “here”.")
    assert described(tmp_path / "a.png") == "What is seen, and where: “here”."
    save(Figure(), tmp_path / "b.png")
    (tmp_path / "c.png").write_text("no picture")
    assert described(tmp_path / "b.png") == described(tmp_path / "c.png") == ""
    save(Figure(), tmp_path / "d.svg", description="SVG has no such place.")
