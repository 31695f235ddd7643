"""Columns of text below a title, a row for each layer, as wide as a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

KEPT = "\N{NO-BREAK SPACE}"
"""Between a letter and what it means, until lines are broken."""
MARGIN = 7
"""Columns that the number of the layer takes."""
GAP = "  "
LONGEST = 9
"""Letters of the longest word in a heading."""


@dataclass(frozen=True)
class Column:
    """A column of a picture.

    Attributes:
        heading: above.
        cells: its text in each layer that has it.
        legend: what its signs mean; nothing, if a column beside it says so.
    """

    heading: str
    cells: Mapping[int, str]
    legend: str = ""


def picture(title: str, blocks: Sequence[Sequence[Column]], width: int) -> str:
    """Return a title, then blocks of columns: headings, a row per layer, and a legend."""
    parts = [_wrapped([title], width), *(_block(columns, width) for columns in blocks)]
    return "\n\n".join(parts)


def _block(columns: Sequence[Column], width: int) -> str:
    layers = sorted({layer for column in columns for layer in column.cells})
    rows = [
        [f"{layer:5}", *(column.cells.get(layer, "") for column in columns)] for layer in layers
    ]
    cells = [["layer", *(column.heading for column in columns)], *rows]
    shown = [max(len(row[column]) for row in rows) for column in range(len(columns) + 1)]
    headings = [
        textwrap.wrap(text, max(shown[column], LONGEST)) for column, text in enumerate(cells[0])
    ]
    heading = list(zip_longest(*headings, fillvalue=""))
    wide = [max(map(len, column)) for column in zip(*heading, *rows, strict=True)]
    lines = [
        GAP.join(text.ljust(most) for text, most in zip(row, wide, strict=True)).rstrip()
        for row in (*heading, *rows)
    ]
    legend = [column.legend for column in columns if column.legend]
    return "\n".join([*lines, "", _wrapped(legend, width)])


def _wrapped(texts: Sequence[str], width: int) -> str:
    """Return paragraphs whose lines fit."""
    return "\n".join(
        line.replace(KEPT, " ").rstrip()
        for text in texts
        for line in textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    )
