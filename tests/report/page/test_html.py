import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from PIL import Image

from limbeck.report.page import html, method_pictures
from limbeck.report.page.html import as_html
from limbeck.report.page.method_pictures import MethodPicture
from limbeck.report.page.shown import gather

VOID = {"meta", "link", "img", "input", "br"}


class Reader(HTMLParser):
    """Gathers the elements of a page, and holds it to closing what it opens."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.slow
def test_the_page_is_well_formed_and_accessible(report):
    page = (report / "report.html").read_text()
    assert len(page) < html.MOST_BYTES
    reader = Reader(page)
    assert reader.open == []
    elements = reader.elements
    assert ("html", {"lang": "en"}) in elements
    names = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(names) == len(set(names))
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for tag, attributes in elements:
        if tag == "th":
            assert attributes.get("scope") in ("col", "row")
        if tag == "svg":
            assert attributes["role"] == "img"
            assert set((attributes["aria-labelledby"] or "").split()) <= set(names)
        if tag == "a":
            assert (attributes["href"] or "#")[1:] in names


@pytest.mark.slow
def test_nothing_of_a_name_is_markup_and_nothing_comes_from_the_network(report):
    elements = Reader((report / "report.html").read_text()).elements
    scripts = [attributes for tag, attributes in elements if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "data"}, {}]
    for tag, attributes in elements:
        assert not any(name.startswith("on") for name in attributes)
        address = attributes.get("src") or attributes.get("href") or "#"
        assert address.startswith(("#", "data:")), (tag, address)


@pytest.mark.slow
def test_images_are_left_out_where_the_page_would_be_too_large(detection, monkeypatch):
    shown = gather(detection.findings, detection.data)
    whole = len(as_html(detection.findings, shown, detection.data, []))
    monkeypatch.setattr(html, "MOST_BYTES", whole - 10_000)
    fewer = as_html(detection.findings, shown, detection.data, [])
    assert len(fewer) < html.MOST_BYTES
    assert fewer.count("data:image/webp") == 10  # of 20, a quarter from either end


@pytest.mark.slow
def test_pictures_of_methods(detection, tmp_path, monkeypatch):
    shown = gather(detection.findings, detection.data)
    pictures = []
    for title, caption in (("flow <matrix>", "A dot & its <pair>."), ("masks", "")):
        path = tmp_path / f"{len(pictures)}.png"
        Image.effect_noise((300, 200), 80).save(path)
        pictures.append(MethodPicture(title, caption, path))
    page = as_html(detection.findings, shown, detection.data, pictures)
    assert 'alt="flow &lt;matrix&gt;" aria-describedby="seen-1">' in page
    assert '<p id="seen-1"><bdi>A dot &amp; its &lt;pair&gt;.</bdi></p>' in page
    assert 'alt="masks">' in page
    monkeypatch.setattr(method_pictures, "MOST_BYTES", 1000)
    page = as_html(detection.findings, shown, detection.data, pictures)
    assert "There was no room for: <bdi>flow &lt;matrix&gt;</bdi>, <bdi>masks</bdi>." in page
