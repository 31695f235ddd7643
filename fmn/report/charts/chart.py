"""What all charts are made of: their data, and the parts of their Vega-Lite specs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmn.report.data import Report
from fmn.report.fishers import Array

Spec = dict[str, Any]
"""Of Vega-Lite; nothing in it but constants of this package is an expression."""
Encoding = dict[str, Any]
Row = dict[str, Any]
Columns = Mapping[str, str]
"""From a row's field to the heading that it has in a table."""

STEP = 24
"""The height of a row of a map or of a bar; the page multiplies it where only it knows how many
there are.
"""
MOST_POINTS = 200
"""Of a curve, and of a strip of combinations: what has more is thinned out evenly."""

ROOM = {"expr": "bandwidth('x') >= 25 ? 1 : 0"}
"""The opacity of text in cells: none is drawn where it would not fit."""
INK = {"field": "ink", "type": "nominal", "scale": None}


@dataclass(frozen=True)
class Chart:
    """A picture, and the numbers in it.

    Attributes:
        title: above it.
        spec: how it is drawn: Vega-Lite, with data named ``rows``.
        rows: what is drawn.
        columns: those of the rows that a table shows.
        label: what it is called among others of its board.
        of: what it is a chart of, if not of the whole report: a ``method``'s label, a ``fisher``'s
            key.
        across: how many cells lie beside each other, if it is a map.
    """

    title: str
    spec: Spec
    rows: Sequence[Row]
    columns: Columns
    label: str = ""
    of: Mapping[str, str] = field(default_factory=dict)
    across: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return plain data, the rows as columns: a field's name is said once."""
        fields = list(self.rows[0]) if self.rows else []
        rows = {name: [row[name] for row in self.rows] for name in fields}
        return {
            "title": self.title,
            "spec": self.spec,
            "rows": rows,
            "columns": dict(self.columns),
            "of": dict(self.of),
        }


@dataclass(frozen=True)
class Board:
    """All charts of one sort in a report, and where the page has them.

    Attributes:
        name: of their file.
        section: of the page: ``comparison``, ``fishers`` (of one model) or ``runs``.
        draw: makes them; none where there are no data.
        width: of each in a file, in pixels.
        title: of its only chart, where it is one.
        heading: above all of them, where there may be many.
        note: below the heading.
        empty: what the page says where there is none; nothing, if this is empty.
    """

    name: str
    section: str
    draw: Callable[[Report], Sequence[Chart]]
    width: int
    title: str = ""
    heading: str = ""
    note: str = ""
    empty: str = ""


def base(description: str, height: int, **content: Any) -> Spec:
    """Return a chart as wide as its place, of rows that are still to come.

    The description is for who cannot see it.
    """
    return {
        "description": description,
        "data": {"name": "rows"},
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        **content,
    }


def channel(name: str, kind: str, title: str | None = None, **more: Any) -> Encoding:
    """Return a channel that shows a column.

    ``kind`` is Vega-Lite's type: nominal, ordinal, quantitative.
    """
    return {"field": name, "type": kind, "title": title, **more}


def tips(titles: Mapping[str, str], formats: Mapping[str, str]) -> list[Encoding]:
    """Return what is told of the mark under the pointer: columns and their titles.

    Columns that are numbers have a format as well.
    """
    return [
        channel(name, "quantitative", title, format=formats[name])
        if name in formats
        else channel(name, "nominal", title)
        for name, title in titles.items()
    ]


def cell_text(of: Encoding, ink: Any, only: str | None = None) -> Spec:
    """Return a layer of text in cells, coloured by ``ink``, of the rows that pass ``only``."""
    layer = {
        "mark": {"type": "text", "fontSize": 10, "opacity": ROOM, "tooltip": None},
        "encoding": {"text": of, **({"fill": ink} if ink else {})},
    }
    return layer | ({"transform": [{"filter": only}]} if only else {})


def grid_axes(unit: str) -> Encoding:
    """Return the axes of a map of layers × nodes."""
    axis = {"domain": False, "ticks": False, "labelAngle": 0, "labelOverlap": True}
    return {
        "x": channel("node", "ordinal", unit, axis=axis),
        "y": channel("layer", "ordinal", "layer", axis=axis),
    }


def thinned(items: Sequence[Any]) -> Iterator[Any]:
    """Give so many of a sequence as can be drawn, evenly spread, both ends among them."""
    count = min(len(items), MOST_POINTS)
    return (items[round(number * (len(items) - 1) / max(count - 1, 1))] for number in range(count))


def log_range(values: Array) -> tuple[float, float]:
    """Return the ends of a logarithmic scale for some values: those of the positive ones."""
    positive = values[values > 0]
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
    return (low, high) if low < high else (low / 2, high * 2)


def log_ticks(low: float, high: float) -> dict[str, Any]:
    """Return where an axis or a legend on a logarithmic scale has numbers, and how they look.

    At the powers of ten within the range, five at most; at its ends where it has fewer than two.
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last <= first:
        return {"values": [low, high], "format": ".1~e"}
    step = -(-(last - first + 1) // 5)
    values = [float(f"1e{power}") for power in range(first, last + 1, step)]
    return {"values": values, "format": "~e"}


def shortened(value: float) -> float:
    """Return a value with the four digits that a chart shows of it."""
    return float(f"{value:.4g}")
