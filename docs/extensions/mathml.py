"""Equations as MathML, which browsers set by themselves: no script, no font, no network.

Sphinx's own way, MathJax, is fetched from another server when a page is opened.
"""

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

log = getLogger(__name__)


def written(node: nodes.Element, block: bool) -> str:
    """The MathML of a node of LaTeX."""
    try:
        return tex2mathml(node.astext(), as_block=block)
    except MathError as error:
        log.warning("%s Write it in the LaTeX that docutils knows.", error, location=node)
        return ""


def inline(page: HTML5Translator, node: nodes.math) -> None:
    """Write an equation in a line of text."""
    page.body.append(written(node, block=False))
    raise nodes.SkipNode


def block(page: HTML5Translator, node: nodes.math_block) -> None:
    """Write an equation in lines of its own, which scroll where they are too wide."""
    page.body.append(f'<div class="equation" tabindex="0">{written(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of it, and choose it."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.config["html_math_renderer"] = "mathml"
    return {"parallel_read_safe": True}
