"""What the parts of the campaign hand to the table."""

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Result:
    """One line of the table, and what failed.

    Attributes:
        name: What was tried.
        tried: How many times.
        failed: By the name of the case, what went wrong, and the command that shows it.
        counts: More numbers of the line, by their names.
        point: Of issue 15.
    """

    name: str
    tried: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    point: int = 0

    def count(self, names: list[str]) -> None:
        """One more of each."""
        for name in names:
            self.counts[name] = self.counts.get(name, 0) + 1

    @property
    def line(self) -> str:
        """For the table."""
        more = ", ".join(f"{name} {number}" for name, number in self.counts.items())
        return f"| {self.name} | {self.tried - len(self.failed)} of {self.tried} | {more} |"


def keep(results: list[Result], path: Path) -> None:
    """Write what a kind of the campaign gave: one that takes hours is run kind by kind."""
    path.write_text(json.dumps([asdict(result) for result in results], indent=1))


def kept(paths: Iterable[Path]) -> list[Result]:
    """What :func:`keep` wrote."""
    return [Result(**each) for path in paths for each in json.loads(path.read_text())]


def table(results: list[Result]) -> str:
    """All lines, in Markdown."""
    head = "| what | as promised | of the others |\n|---|---:|---|"
    return "\n".join([head, *(result.line for result in results)])


def worklist(results: list[Result]) -> str:
    """Each failing case in one line, grouped by the points of issue 15."""
    by_point: dict[str, list[str]] = {}
    for result in results:
        for name, how in result.failed.items():
            own = re.match(r"\[(\d)\] ", how)
            point = own[1] if own else str(result.point)
            line = f"- **{result.name}: {name}**: {how.removeprefix(own[0] if own else '')}"
            by_point.setdefault(point, []).append(line)
    return "\n".join(
        f"\n## Point {point}\n\n" + "\n".join(lines) for point, lines in sorted(by_point.items())
    )
