"""What methods cost, out of the table that ``benchmarks/costs.py`` writes into the overview.

The directive ``method-costs`` shows the rows of a method, by the name of its class; the role
``costs`` has its R alone, pair by pair.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective, SphinxRole

TABLE = Path("methods", "index.md")
WRITTEN = re.compile(
    r"^<!-- benchmarks/costs\.py -->$(.*)^<!-- end of benchmarks/costs\.py -->$",
    re.MULTILINE | re.DOTALL,
)


def head_and_rows(text: str, method: str) -> tuple[list[str], list[list[str]]]:
    """The head of the table of costs, and the rows of a method; none where it is not in there."""
    (table,) = WRITTEN.findall(text)
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    head, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return head, [row for row in body if row[1].split(",")[0] == method]


class MethodCosts(SphinxDirective):
    """Writes the rows of a method."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The table, or a sentence where the method has not been measured there."""
        table = Path(self.env.srcdir, TABLE)
        self.env.note_dependency(str(table))
        head, found = head_and_rows(table.read_text(), self.arguments[0])
        link = "[table of costs](index.md#what-each-costs)"
        if not found:
            return self.parse_text_to_nodes(f"It is not in the {link} yet.")
        lines = [head, ["---"] * len(head), *found]
        rows = "\n".join(f"| {' | '.join(row)} |" for row in lines)
        return self.parse_text_to_nodes(f"{rows}\n\nHow this was measured: {link}.")


class Costs(SphinxRole):
    """R of a method on each pair; a dash where it has not been measured."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """The medians."""
        table = Path(self.env.srcdir, TABLE)
        _, found = head_and_rows(table.read_text(), self.text)
        return [nodes.Text(", ".join(row[2].split()[0] for row in found) or "-")], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of both."""
    app.add_directive("method-costs", MethodCosts)
    app.add_role("costs", Costs())
    return {"parallel_read_safe": True}
