"""Letters and graphics of the page stand out from what is behind them, by WCAG's AA."""

import re
from importlib.resources import files

import pytest

from limbeck.report.page.rows import MARKS
from tests.report.contrast import contrast, mixed

LETTERS, GRAPHICS = 4.5, 3.0
CSS = files("limbeck.report.page").joinpath("report.css").read_text()
SCRIPT = files("limbeck.report.page").joinpath("report.js").read_text()


def themes() -> dict[str, dict[str, str]]:
    """The colours of each theme by name; what the dark one does not state is the light one's."""
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", block))
        for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    )
    return {"light": light, "dark": light | dark}


THEMES = themes()


@pytest.fixture(params=THEMES)
def colours(request: pytest.FixtureRequest) -> dict[str, str]:
    return THEMES[request.param]


def test_letters_are_read_on_paper_and_on_boxes(colours: dict[str, str]) -> None:
    for behind in ("paper", "wash"):
        for letters in ("ink", "muted", "distilled"):  # links and chosen filters are of the last
            assert contrast(colours[letters], colours[behind]) >= LETTERS, (letters, behind)
    for behind in ("ink", "distilled"):  # pressed buttons and verdicts
        assert contrast(colours["paper"], colours[behind]) >= LETTERS, behind
    assert contrast(colours["ink"], colours["line"]) >= LETTERS  # bars behind guesses


def test_letters_are_read_on_every_shade_of_a_matrix_and_of_a_guess(
    colours: dict[str, str],
) -> None:
    (most,) = re.findall(r"calc\(var\(--share\) \* (\d+)%\), var\(--paper\)", CSS)
    (guess,) = re.findall(r"color-mix\(in srgb, var\(--distilled\) (\d+)%", CSS)
    for percent in (0, int(most) / 2, int(most), int(guess)):
        behind = mixed(colours["distilled"], colours["paper"], percent / 100)
        assert contrast(colours["ink"], behind) >= LETTERS, percent


def test_marks_and_lines_are_seen(colours: dict[str, str]) -> None:
    for kind in MARKS:
        for behind in ("paper", "wash"):
            assert contrast(colours[kind], colours[behind]) >= GRAPHICS, (kind, behind)
    (faint,) = re.findall(r"content: \"↕\".*? opacity: ([\d.]+);", CSS)
    arrow = mixed(colours["muted"], colours["paper"], float(faint))
    assert contrast(arrow, colours["paper"]) >= GRAPHICS


def test_names_are_read_on_the_colours_of_boxes() -> None:
    pairs = re.findall(r'\["(#\w{6})", "(#\w{3})"\]', SCRIPT)
    assert len(pairs) == 6
    assert all(contrast(letters, colour) >= LETTERS for colour, letters in pairs)
