"""The site: `make docs` builds it into site/, where it reads from disk, without a network."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "fmn"
project_copyright = "the authors of fmn; Apache-2.0"
html_title = "fmn"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "formulas",
    "settings",
]

myst_enable_extensions = ["colon_fence"]
myst_fence_as_directive = ["math"]  # GitHub draws such fences as well
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 88
add_module_names = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["fmn.css"]
html_math_renderer = "drawn"
html_copy_source = False
html_show_sphinx = False
html_use_index = False
html_show_search_summary = False  # a page from disk may not read the others
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "github-dark"


def setup(app: Sphinx) -> None:
    """Say defaults of options that are paths as who types them; Sphinx calls this."""
    app.connect("sphinx-click-process-options", plain_paths)


def plain_paths(_: Sphinx, __: click.Context, lines: list[str]) -> None:
    """Write the path instead of the object that holds it."""
    lines[:] = [re.sub(r"PosixPath\('(.*?)'\)", r"\1", line) for line in lines]
