"""How Sphinx makes the site of these pages: ``make docs``."""

import sys
from pathlib import Path

import limbeck

DOCS = Path(__file__).parent
sys.path.append(str(DOCS / "extensions"))

project = "limbeck"
author = "The limbeck developers"
project_copyright = f"2026, {author}"
version = release = limbeck.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "command_line",
    "constructors",
    "landmark_tables",
    "mathml",
    "method_costs",
    "method_picture",
    "preset_tables",
    "published_rows",
    "repository_links",
    "wiring_table",
]
exclude_patterns = ["extensions"]

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 4
highlight_language = "text"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"limbeck {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
