"""Links out of the pages to files of the repository lead to where the repository is published.

In a clone, and where the repository is browsed, a page links to ``../../src/limbeck/presets.py``;
on the site that file is not beside it.
"""

import re
import tomllib
from os.path import relpath
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]


def follow(app: Sphinx, page: str, source: list[str]) -> None:
    """Rewrite such links in a page that is read."""
    folder = Path(app.env.doc2path(page)).parent

    def published(link: re.Match[str]) -> str:
        file, mark, place = link[1].partition("#")
        path = (folder / file).resolve()
        if path.is_relative_to(ROOT / "docs") or not path.exists():
            return link[0]
        kind = "tree" if path.is_dir() else "blob"
        return f"]({REPOSITORY}/{kind}/main/{relpath(path, ROOT)}{mark}{place})"

    source[0] = re.sub(r"\]\((\.\./[^)\s]+)\)", published, source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of it."""
    app.connect("source-read", follow)
    return {"parallel_read_safe": True}
