"""Charts as SVG inside a page: text stays text, colours are the page's, bytes always the same."""

import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from limbeck.names import escaped
from limbeck.report.page.rows import MARKS
from limbeck.report.style import GREY, INK, PALE

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
WIDTH = 4.6  # inches of 72 units; the page shows a unit as 1 to 1.5 pixels
PAPER = "#ffffff"
_VARIABLES: Mapping[str, str] = {
    **{mark.colour.lower(): f"var(--{kind})" for kind, mark in MARKS.items()},
    GREY.lower(): "var(--muted)",  # controls have it, too
    INK.lower(): "var(--ink)",
    PALE.lower(): "var(--line)",
    PAPER: "var(--paper)",
}
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": PALE,
    "axes.labelcolor": GREY,
    "axes.labelsize": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Chart:
    """A drawn chart.

    Attributes:
        name: The name by which the page tells its charts apart: letters, digits, hyphens.
        title: The title, which stands above the chart.
        caption: What the chart shows, in sentences, which screen readers say.
        svg: The drawing.
        width: The width of its drawing, in units of the drawing.
    """

    name: str
    title: str
    caption: str
    svg: str
    width: int


def axes_of(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure of this height and width in inches, in the style of the page."""
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots()
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return figure, axes


def chart(name: str, title: str, caption: str, figure: Figure) -> Chart:
    """Make a chart of a figure.

    Args:
        name: The name by which the page tells its charts apart: letters, digits, hyphens.
        title: The title, in which names may hold anything.
        caption: What it shows, in sentences, in which names may hold anything.
        figure: The figure.

    Returns:
        The chart.
    """
    out = io.BytesIO()
    with mpl.rc_context(_SETTINGS | {"svg.hashsalt": name}), warnings.catch_warnings():
        # The page's own fonts have the letters that matplotlib's font lacks.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    root = ElementTree.fromstring(out.getvalue())  # without comments
    width = _clean(root, name)
    _describe(root, name, escaped(title), escaped(caption))
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    text = ElementTree.tostring(root, encoding="unicode")
    return Chart(name, title, caption, _themed(text), width)


def _clean(root: ElementTree.Element, name: str) -> int:
    """Leave out what only a file needs, and let no name be used twice in the page."""
    for child in list(root):
        if child.tag == f"{{{SVG}}}metadata":
            root.remove(child)
    width = round(float(root.attrib["viewBox"].split()[2]))
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r"#([\w-]+)", text))
    for element in root.iter():
        if element.tag == f"{{{SVG}}}style":
            element.text = ""
        if "id" in element.attrib and element.attrib["id"] not in used:
            del element.attrib["id"]
        for attribute, value in element.attrib.items():
            if attribute == "id":
                element.attrib[attribute] = f"{name}-{value}"
            elif attribute == f"{{{XLINK}}}href":
                element.attrib[attribute] = value.replace("#", f"#{name}-")
            elif "url(#" in value:
                element.attrib[attribute] = value.replace("url(#", f"url(#{name}-")
    return width


def _describe(root: ElementTree.Element, name: str, title: str, caption: str) -> None:
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    for place, (tag, text) in enumerate((("title", title), ("desc", caption))):
        element = ElementTree.Element(f"{{{SVG}}}{tag}", {"id": f"{name}-{tag}"})
        element.text = text
        root.insert(place, element)


def _themed(svg: str) -> str:
    """Let colours and letters be those of the page."""
    svg = re.sub(r"(?<=[: ])#[0-9a-f]{6}\b(?=[;\"])", lambda m: _variable(m[0]), svg)
    # Before 3.11, matplotlib writes all that belongs to a font as one.
    return re.sub(r"(font: [^;\"]*?[\d.]+px|font-family:) [^;\"]*", r"\1 var(--font)", svg)


def _variable(colour: str) -> str:
    return _VARIABLES.get(colour, colour)
