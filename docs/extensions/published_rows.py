"""What was published of a method: its rows in ``docs/methods/published.yaml``, as a table.

The directive ``published-rows`` shows those of a method, by its name in that file.
"""

from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROWS = Path("methods", "published.yaml")
HEAD = ("row", "score", "without", "published", "recipe", "remark")
CLOSING = (
    "No row of this table was trained here at its full length. What the method gained on small "
    "sets stands beside it in [Published and ours](../results/index.md#published-and-ours)."
)


class PublishedRows(SphinxDirective):
    """Writes the rows of a method."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """The table and the sentence below it."""
        path = Path(self.env.srcdir, ROWS)
        self.env.note_dependency(str(path))
        rows = [
            row for row in yaml.safe_load(path.read_text()) if row["method"] == self.arguments[0]
        ]
        if not rows:
            raise self.error(f"{path} has no row of {self.arguments[0]!r}")
        lines = [HEAD, ["---"] * len(HEAD), *map(_cells, rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return self.parse_text_to_nodes(f"{table}\n\n{CLOSING}")


def _cells(row: dict[str, Any]) -> list[str]:
    # As many decimals as the source has: YAML reads 41.0 and 41 alike.
    decimals = max(len(repr(v).partition(".")[2]) for v in (*row["plain"], *row["distilled"]))
    without, with_it = (_numbers(row[key], decimals) for key in ("plain", "distilled"))
    recipe = row.get("recipe")
    return [
        row["row"],
        " / ".join(row["score"]),
        f"{without} with {row['over']}" if "over" in row else without,
        with_it,
        f"`{recipe}`" if recipe else "-",
        row.get("remark", ""),
    ]


def _numbers(values: list[float], decimals: int) -> str:
    return " / ".join(f"{value:.{decimals}f}" for value in values)


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of it."""
    app.add_directive("published-rows", PublishedRows)
    return {"parallel_read_safe": True}
