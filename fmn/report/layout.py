"""Charts beside each other, with a title and a key: the spec of a picture for a file."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmn.report.charts.chart import ROOM, Chart, Spec
from fmn.report.theme import SHAPES, colour_of

CELL = 25
"""Pixels: a cell that is narrower has no room for text."""
LETTER = 7
"""Pixels that a letter takes, about."""
INDEPENDENT = {"scale": dict.fromkeys(("color", "fill", "x", "y"), "independent")}


@dataclass(frozen=True)
class Placed:
    """A chart in a picture.

    Attributes:
        chart: which.
        width: in pixels.
        title: above it; its own, if this is None.
    """

    chart: Chart
    width: int
    title: str | None = None

    def spec(self) -> Spec:
        """Return the chart with its rows, as wide as it shall be."""
        has_room = self.width >= CELL * self.chart.across
        text = json.dumps(self.chart.spec).replace(json.dumps(ROOM), str(int(has_room)))
        spec: Spec = json.loads(text)
        del spec["autosize"]
        title = self.chart.title if self.title is None else self.title
        return spec | {
            "width": self.width,
            "data": {"values": list(self.chart.rows)},
            **({"title": title} if title else {}),
        }


def beside(
    charts: Sequence[Placed],
    *,
    columns: int = 3,
    title: str = "",
    caption: str = "",
    key: Spec | None = None,
) -> Spec:
    """Return a picture of charts beside and below each other.

    Args:
        charts: one or more.
        columns: so many beside each other.
        title: above all.
        caption: below the title.
        key: above the charts, see :func:`models_key` and :func:`methods_key`.
    """
    whole: Spec = {
        "concat": [chart.spec() for chart in charts],
        "columns": columns,
        "align": "each",
        "spacing": 28,
        "resolve": INDEPENDENT,
    }
    if key:
        whole = {"vconcat": [key, whole], "spacing": 0}
    if title:
        width = total_width(charts, columns)
        lines = {"text": textwrap.wrap(title, width // (LETTER + 2)), "fontSize": 15, "offset": 14}
        below = {"subtitle": textwrap.wrap(caption, width // LETTER)} if caption else {}
        whole["title"] = lines | below
    return whole


def total_width(charts: Sequence[Placed], columns: int) -> int:
    """Return how wide charts are beside each other, in pixels, with what stands beside each."""
    rows = [charts[start : start + columns] for start in range(0, len(charts), columns)]
    return max(sum(chart.width + 60 for chart in row) for row in rows)


def models_key(colours: Mapping[str, str], width: int) -> Spec:
    """Return what says which model has which colour."""
    return _key(list(colours), width, {"color": list(colours.values())}, symbolType="square")


def methods_key(slots: Mapping[str, int], width: int) -> Spec:
    """Return what says which method has which colour and shape."""
    colours = [colour_of(slot) for slot in slots.values()]
    shapes = [SHAPES[slot % len(SHAPES)] for slot in slots.values()]
    return _key(list(slots), width, {"color": colours, "shape": shapes})


def _key(
    labels: Sequence[str], width: int, ranges: Mapping[str, Sequence[str]], **look: Any
) -> Spec:
    longest = max(map(len, labels))
    columns = max(1, min(len(labels), width // (LETTER * longest + 30)))
    legend = {
        "title": None,
        "orient": "top",
        "columns": columns,
        "labelLimit": width,
        "symbolOpacity": 1,
        "symbolSize": 110,
        **look,
    }
    return {
        "data": {"values": [{"label": label} for label in labels]},
        "width": width,
        "height": 1,
        "mark": {"type": "point", "filled": True, "opacity": 0},
        "encoding": {
            name: {
                "field": "label",
                "type": "nominal",
                "scale": {"domain": list(labels), "range": list(values)},
                "legend": legend,
            }
            for name, values in ranges.items()
        },
    }
