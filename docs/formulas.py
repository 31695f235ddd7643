"""Fenced ``math`` blocks become drawings in the page, made when the site is built.

So formulas need neither a script nor a web font.
"""

from __future__ import annotations

import re
from functools import cache
from html import escape
from typing import Any

from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import TextPath

BLOCK = re.compile(r"^```math\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SIZE = 18
MARGIN = 2.0
COMMANDS = {
    Path.MOVETO: "M",
    Path.LINETO: "L",
    Path.CURVE3: "Q",
    Path.CURVE4: "C",
    Path.CLOSEPOLY: "Z",
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Draw the formulas of a page; mkdocs calls this."""
    return BLOCK.sub(lambda found: "\n".join(map(drawn, found[1].strip().splitlines())), markdown)


@cache
def drawn(formula: str) -> str:
    """Return a formula, in the part of TeX that matplotlib knows, as one line of HTML.

    Its source is the text for who listens.

    Raises:
        ValueError: matplotlib does not know a command in it.
    """
    path = TextPath((0, 0), f"${formula}$", size=SIZE, prop=FontProperties(math_fontfamily="stix"))
    box = path.get_extents()
    left, top = box.x0 - MARGIN, box.y1 + MARGIN
    width, height = box.width + 2 * MARGIN, box.height + 2 * MARGIN
    strokes = []
    for points, code in path.iter_segments(simplify=False, curves=True):
        pairs = [] if code == Path.CLOSEPOLY else points.reshape(-1, 2)
        strokes.append(COMMANDS[code] + " ".join(f"{x - left:.1f} {top - y:.1f}" for x, y in pairs))
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.1f} {height:.1f}"'
    return (
        f'<div class="formula"><svg role="img" aria-label="{escape(formula)}" {size}><path '
        f'd="{"".join(strokes)}"/></svg></div>\n'
    )
