"""Formulas as drawings in the page, by ziamath: they need neither a script nor a web font."""

from __future__ import annotations

from html import escape
from typing import Any

import ziamath
from docutils import nodes
from sphinx.application import Sphinx

SIZE = 20
ziamath.config.svg2 = False  # paths, and not references that two formulas of a page could share


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the renderer; Sphinx calls this."""
    app.add_html_math_renderer("drawn", (draw_inline, None), (draw_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def draw_inline(translator: Any, node: nodes.math) -> None:
    """Draw a formula within a line."""
    translator.body.append(f'<span class="formula">{drawing(node.astext(), "inline")}</span>')
    raise nodes.SkipNode


def draw_block(translator: Any, node: nodes.math_block) -> None:
    """Draw a formula that stands by itself."""
    translator.body.append(f'<div class="formula">{drawing(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def drawing(formula: str, style: str) -> str:
    """Return a formula in TeX as SVG, in the colour of the text.

    Its source is the text for who listens.
    """
    drawn = ziamath.Latex(formula, size=SIZE, color="currentColor", inline=style == "inline")
    return drawn.svg().replace("<svg", f'<svg role="img" aria-label="{escape(formula)}"', 1)
