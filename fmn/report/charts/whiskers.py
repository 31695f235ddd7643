"""Curves of several methods over one axis, with whiskers, for documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmn.report.charts.chart import Chart, Columns, Spec, base, channel, tips
from fmn.report.theme import categories, slots

WIDTH = 400
"""Of a panel, in pixels."""
NUDGE = 7
"""Pixels from curve to curve at one place: their whiskers lie side by side."""
COLUMNS: Columns = {
    "curve": "method",
    "place": "at",
    "value": "value",
    "low": "low",
    "high": "high",
}


@dataclass(frozen=True)
class Point:
    """A value with its range.

    Attributes:
        at: place on the axis.
        value: of the curve.
        low: end of the whisker.
        high: the other end.
    """

    at: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Panel:
    """Curves over one axis.

    Attributes:
        title: above.
        axis: what is along it.
        unit: of the values.
        places: along the axis, in order.
        curves: by name; those of one name have one colour in all panels.
    """

    title: str
    axis: str
    unit: str
    places: tuple[str, ...]
    curves: Mapping[str, Sequence[Point]]


def curve_slots(panels: Sequence[Panel], methods: Mapping[str, str]) -> dict[str, int]:
    """Return the slot of the palette that each curve of some panels has.

    Args:
        panels: one or more.
        methods: the method that each curve is of, by the curve's name: it looks as the method does
            elsewhere.
    """
    names = dict.fromkeys(name for panel in panels for name in panel.curves)
    return slots({name: methods.get(name, name) for name in names})


def draw(panel: Panel, slot_of: Mapping[str, int]) -> Chart:
    """Draw one panel, whose curves have these slots of the palette."""
    names = list(slot_of)
    rows = [
        {
            "curve": name,
            "place": point.at,
            "value": point.value,
            "low": point.low,
            "high": point.high,
            "beside": names.index(name) - (len(names) - 1) / 2,
        }
        for name, points in panel.curves.items()
        for point in points
    ]
    return Chart(panel.title, _spec(panel, slot_of), rows, COLUMNS)


def _spec(panel: Panel, slot_of: Mapping[str, int]) -> Spec:
    scales = categories(slot_of)
    most = max(1, len(slot_of) - 1) / 2
    middle = WIDTH / len(panel.places) / 2
    offset = {"domain": [-most, most], "range": [middle - NUDGE * most, middle + NUDGE * most]}
    zoomed = {"scale": {"zero": False}, "axis": {"tickCount": 6}}
    value = channel("value", "quantitative", panel.unit, **zoomed)
    places = {"domain": list(panel.places), "paddingInner": 0, "paddingOuter": 0}

    def layer(mark: dict[str, Any], **encoding: Any) -> Spec:
        return {"mark": mark, "encoding": {"y": value, **encoding}}

    return base(
        f"Curves of {panel.unit} against {panel.axis}, with whiskers",
        260,
        encoding={
            "x": channel("place", "ordinal", panel.axis, scale=places, axis={"labelAngle": 0}),
            "xOffset": channel("beside", "quantitative", scale=offset),
            "color": channel("curve", "nominal", scale=scales["color"], legend=None),
        },
        layer=[
            layer(
                {"type": "rule", "strokeWidth": 1},
                y=channel("low", "quantitative", panel.unit, **zoomed),
                y2={"field": "high"},
            ),
            layer(
                {"type": "line", "strokeWidth": 1.5},
                strokeDash=channel("curve", "nominal", scale=scales["dash"], legend=None),
            ),
            layer(
                {"type": "point", "filled": True, "size": 50, "opacity": 1},
                shape=channel("curve", "nominal", scale=scales["shape"], legend=None),
                tooltip=tips(COLUMNS, dict.fromkeys(("value", "low", "high"), ".2f")),
            ),
        ],
        resolve={"scale": {"strokeDash": "independent", "shape": "independent"}},
    )
