"""The site in a browser: no error, nothing wider than a phone, and a search that needs no network.

It looks at what ``make docs`` has built last, and skips where nothing has.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

SITE = Path(__file__).parents[2] / "build/site"
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chrome"))), None)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PAGES, reason="needs the site: make docs"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium (apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1440, "light")])
def test_no_page_has_an_error_or_is_wider_than_the_screen(browser, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(request.url))
    found = {}
    for path in PAGES:
        page.goto(path.as_uri())
        over = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wrong or over > 0:
            found[str(path.relative_to(SITE))] = [*wrong, f"{over} px too wide"]
            wrong.clear()
    context.close()
    assert found == {}


def test_the_search_finds_a_page_without_a_network(browser):
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(f"{(SITE / 'search.html').as_uri()}?q=anchors")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() > 3
    context.close()
