from xml.etree import ElementTree

from limbeck.report.page.charts import SVG, axes_of, chart
from limbeck.report.style import COLOURS
from tests.report.page.examples import HOSTILE


def drawn(name: str = "one", title: str = "title", caption: str = "caption") -> str:
    figure, axes = axes_of(2)
    axes.plot([0, 1], [0, 1], "o", color=COLOURS[0], label="line")
    axes.set_xlabel("step")
    return chart(name, title, caption, figure).svg


def test_the_same_bytes_each_time():
    assert drawn() == drawn()


def test_text_stays_text_and_colours_are_those_of_the_page():
    svg = drawn()
    assert ">step</text>" in svg
    assert "var(--distilled)" in svg
    assert "var(--font)" in svg
    assert "#" not in svg.replace("url(#one-", "").replace('href="#one-', "")


def test_names_of_two_charts_never_meet():
    one, two = (ElementTree.fromstring(drawn(name)) for name in ("one", "two"))
    first, second = (
        {e.attrib["id"] for e in root.iter() if "id" in e.attrib} for root in (one, two)
    )
    assert first
    assert not first & second
    for element in one.iter():
        for value in element.attrib.values():
            if value.startswith(("#", "url(#")):
                assert value.strip("url(#)") in first


def test_readers_are_told_what_it_shows():
    for text in HOSTILE:
        root = ElementTree.fromstring(drawn("one", text, text))
        assert root.attrib["role"] == "img"
        assert root.attrib["aria-labelledby"] == "one-title one-desc"
        assert [child.tag for child in root][:2] == [f"{{{SVG}}}title", f"{{{SVG}}}desc"]
        assert "\n" not in (root[0].text or "")
