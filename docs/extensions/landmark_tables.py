"""The directives ``landmarks`` and ``landmark-names``: where the landmarks of models are.

The body of ``landmarks`` is a Python expression that makes a model, with random weights. It is
shown, and below it the table of the model's landmarks on an image: of its own size, or of 128 px
where it takes any. The body of ``landmark-names`` has an expression on each line.
"""

import logging
import re
from functools import cache

import timm
import torch
import torchvision
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from torch import nn

from limbeck import landmarks, models
from limbeck.commands.inspect import landmark_table
from limbeck.frame import own_size


@cache  # a large one stands in both tables
def built(expression: str) -> nn.Module:
    """The model that an expression of ``models``, ``timm`` and ``torchvision`` makes."""
    names = {"models": models, "timm": timm, "torchvision": torchvision}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: nn.Module = eval(expression, names)  # of our own pages
    return made


def landmark_lines(expression: str) -> list[str]:
    """The table of a model's landmarks in Markdown, without the kinds of values."""
    model = built(expression)
    height, width = own_size(model) or (128, 128)
    table = landmark_table(model, (height, width), "")
    heads = ["landmark", "where it is read", f"shape at {height} x {width} px", "stride"]
    rows = [
        [f"`{name}`", f"`{tap}`", _shape(shape), _listed(stride)]
        for name, tap, _, shape, stride in zip(
            *([str(cell) for cell in column.cells] for column in table.columns), strict=True
        )
    ]
    return [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]


def name_lines(expressions: list[str]) -> list[str]:
    """The names of several models' landmarks, as a list of definitions in Markdown."""
    lines = []
    for made in expressions:
        names = ", ".join(f"`{name}`" for name in landmarks(built(made)))
        lines += [f"`{made}`", f": {names}", ""]
    return lines


def _shape(written: str) -> str:
    """Shapes as people write them: of three maps and two more."""
    return re.sub(r", \(\+(\d+)\)", r" and \1 more", _listed(written)).replace("x", " x ")


def _listed(written: str) -> str:
    return written.replace(" ", ", ")


class LandmarkTable(SphinxDirective):
    """Writes the expression, and the table of the model that it makes."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The code and the table, as MyST reads them."""
        code = "\n".join(self.content)
        lines = ["```python", code, "```", "", *landmark_lines(code)]
        return self.parse_text_to_nodes("\n".join(lines))


class LandmarkNames(SphinxDirective):
    """Writes each expression, and the names of the model that it makes."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The list, as MyST reads it."""
        return self.parse_text_to_nodes("\n".join(name_lines(list(self.content))))


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the directives."""
    logging.getLogger("limbeck").setLevel(logging.WARNING)  # what models tell their users
    app.add_directive("landmarks", LandmarkTable)
    app.add_directive("landmark-names", LandmarkNames)
    return {"parallel_read_safe": True}
