"""The report in a real browser. Skipped where playwright or a Chromium is not installed."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (apt-get install chromium)"),
]
OVERFLOWING = """() => [...document.querySelectorAll("body *")].filter((element) =>
  element.getBoundingClientRect().right > innerWidth + 1 &&
  !element.closest(".scroll, .frame, pre, .skip, .hidden")).map((element) => element.outerHTML)"""
UNDRAWN = """() => [...document.querySelectorAll(".chart svg")].filter((chart) =>
  chart.getBoundingClientRect().height < 80 || !chart.querySelector("path")).length"""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, report: Path) -> Iterator:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.on(
        "request", lambda asked: asked.url.startswith(("file:", "data:")) or said.append(asked.url)
    )
    page.goto((report / "report.html").as_uri())
    yield page
    page.close()
    assert said == []


def gains(page) -> list[float]:
    texts = page.locator(".card h3 strong").all_text_contents()
    return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_overflows_and_every_chart_is_drawn(page, width, scheme):
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(OVERFLOWING) == []
    assert page.locator(".chart svg").count() >= 6
    assert page.evaluate(UNDRAWN) == 0


def test_the_gallery_is_sorted_and_grows(page):
    assert page.locator(".card").count() == 12
    best = gains(page)
    assert best == sorted(best, reverse=True)
    page.locator("#more").click()
    assert page.locator(".card").count() > 12
    page.locator('[data-order="last"]').click()
    worst = gains(page)
    assert worst == sorted(worst)
    assert page.locator('[data-order="last"]').get_attribute("aria-pressed") == "true"
    assert worst[0] < best[0]


def test_a_class_filters_the_gallery(page):
    button = page.locator("button.filter").nth(1)
    button.focus()
    page.keyboard.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#class").input_value() == "1"
    status = page.locator("#status").text_content()
    everything = page.evaluate("data.cards.length")
    with_it = page.evaluate("data.cards.filter((card) => card.classes.includes(1)).length")
    assert 0 < with_it < everything
    assert status.endswith(f"of {with_it} images are shown.")
    page.locator("#class").select_option("")
    assert page.locator("#status").text_content().endswith(f"of {everything} images are shown.")


def test_the_slider_leaves_out_what_scores_less(page):
    slider = page.locator("#threshold")
    slider.fill("0.05")
    shown = ".box, .guesses li"
    many = page.locator(shown).count()
    slider.focus()
    page.keyboard.press("End")
    assert page.locator("#threshold-value").text_content() == "0.95"
    assert page.locator(shown).count() < many


def test_a_head_sorts_its_table(page):
    table = page.locator("#table-by-class")
    head = table.locator("thead th").nth(1)
    for expected in ("descending", "ascending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == expected
        cells = table.locator("tbody tr td:nth-child(2)").all_text_contents()
        counts = [int(cell.replace(",", "")) for cell in cells]
        assert counts == sorted(counts, reverse=expected == "descending")
    table.locator("thead th").nth(2).locator("button").click()
    assert head.get_attribute("aria-sort") is None


def test_the_keyboard_reaches_the_verdict_first(page):
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0


def test_print_is_light_and_shows_no_controls(page):
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#controls").is_visible()
    assert page.locator(".card").first.is_visible()
