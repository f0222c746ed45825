"""The directive ``wiring``, which runs the Python of its page and shows how the pair is wired.

The blocks of Python above it are run as they stand, one after the other. They leave behind what
``Distillation.check`` returned as ``wiring``, and the ``losses`` of a step.
"""

import gc
import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import torch
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COLUMNS = {
    "student's place": "student_tap",
    "shape": "student_shape",
    "adapter": "adapter",
    "teacher's place": "teacher_tap",
    "its shape": "teacher_shape",
    "levels": "levels",
    "weight": "weight",
}


def rows(cells: list[list[str]]) -> str:
    """A Markdown table, whose first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in cells)
    return "\n".join([head, "|---" * len(cells[0]) + "|", *body])


class WiringTable(SphinxDirective):
    """Writes the wiring table of the page's own example, and the terms of its loss."""

    def run(self) -> list[nodes.Node]:
        """The table and a sentence."""
        lines = Path(self.env.doc2path(self.env.docname)).read_text().splitlines(keepends=True)
        blocks = BLOCK.findall("".join(lines[: self.lineno]))
        names: dict[str, Any] = {"__name__": "__main__"}
        torch.manual_seed(0)
        try:
            with redirect_stdout(io.StringIO()):
                for block in blocks:
                    exec(block, names)
            connections, losses = names["wiring"].connections, names["losses"]
        except Exception as error:
            raise self.error(f"The Python above the wiring table: {error!r}") from error
        names.clear()
        gc.collect()  # models refer to themselves, and a site has many
        written = {
            head: [getattr(connection, field) for connection in connections]
            for head, field in COLUMNS.items()
        }
        if set(written["levels"]) == {"-"}:
            del written["levels"]
        code = {"student's place", "teacher's place"}
        columns = [
            [head, *(f"`{cell}`" if head in code and cell != "-" else cell for cell in column)]
            for head, column in written.items()
        ]
        table = rows([list(row) for row in zip(*columns, strict=True)])
        terms = ", ".join(f"`{name}`" for name in losses)
        return self.parse_text_to_nodes(f"{table}\n\nThe terms of the loss: {terms}.")


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the directive."""
    app.add_directive("wiring", WiringTable)
    return {"parallel_read_safe": True}
