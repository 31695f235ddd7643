"""Charts as Vega-Lite specs: plain data, without the rows that they draw.

The page and the pictures draw the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fmn.report.theme import CATEGORIES, DASHES, OTHER, SHAPES

Spec = dict[str, Any]
Encoding = dict[str, Any]

ROOM = {"expr": "bandwidth('x') >= 25 ? 1 : 0"}
"""The opacity of text in cells: none is drawn where it would not fit."""


def spec(description: str, height: int, **content: Any) -> Spec:
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


def field(name: str, kind: str, title: str | None = None, **more: Any) -> Encoding:
    """Return a channel that shows a column.

    ``kind`` is Vega-Lite's type: nominal, ordinal, quantitative.
    """
    return {"field": name, "type": kind, "title": title, **more}


def tips(titles: Mapping[str, str], formats: Mapping[str, str]) -> list[Encoding]:
    """Return what is said of the mark under the pointer: columns and their titles.

    Columns that are numbers have a format as well.
    """
    kinds = {name: "quantitative" if name in formats else "nominal" for name in titles}
    return [
        {
            "field": name,
            "type": kinds[name],
            "title": title,
            **({"format": formats[name]} if name in formats else {}),
        }
        for name, title in titles.items()
    ]


def cell_text(of: Encoding, ink: Any, only: str | None = None) -> Spec:
    """Return a layer of text in cells, coloured by ``ink``, of the rows that pass ``only``."""
    layer = {
        "mark": {"type": "text", "fontSize": 10, "opacity": ROOM, "tooltip": None},
        "encoding": {"text": of, **({"fill": ink} if ink else {})},
    }
    return layer | ({"transform": [{"filter": only}]} if only else {})


STEP = 24
"""The height of a row of a map or of a bar; the page multiplies it where only it knows how many
there are.
"""

SPREAD = {
    "method": "method",
    "size": "models",
    "combinations": "merges",
    "mean": "mean, %",
    "low": "lowest",
    "high": "highest",
}
INK = {"field": "ink", "type": "nominal", "scale": None}


def categories(names: Sequence[str]) -> dict[str, Any]:
    """Return the scales that tell methods apart: by colour, and also by shape or dash."""
    count = range(len(names))
    colours = [CATEGORIES[i] if i < len(CATEGORIES) else OTHER for i in count]
    return {
        "color": {"domain": list(names), "range": colours},
        "shape": {"domain": list(names), "range": [SHAPES[i % len(SHAPES)] for i in count]},
        "dash": {"domain": list(names), "range": [DASHES[i % len(DASHES)] for i in count]},
    }


def pairs(method: str, models: Sequence[str], domain: tuple[float, float]) -> Spec:
    """Models × models: the mean normalised score of every pair, in %."""
    short = len(models) <= 8 and max(map(len, models), default=0) <= 8
    axis = {"domain": False, "ticks": False, "labelPadding": 6}
    return spec(
        f"Heat map of pairs merged by {method}: models by models, coloured by mean normalised "
        "score",
        32 * len(models),
        encoding={
            "x": field(
                "column",
                "nominal",
                scale={"domain": list(models)},
                axis={**axis, "labelAngle": 0 if short else -40},
            ),
            "y": field("row", "nominal", scale={"domain": list(models)}, axis=axis),
        },
        layer=[
            {
                "mark": {"type": "rect", "cornerRadius": 2, "stroke": None},
                "encoding": {
                    "color": field(
                        "mean",
                        "quantitative",
                        "mean normalised score, %",
                        scale={"domain": list(domain)},
                        legend={
                            "tickCount": 4,
                            "gradientLength": 160,
                            "titleOrient": "top",
                            "titlePadding": 4,
                        },
                    ),
                    "tooltip": tips(
                        {"row": "model", "column": "with", "mean": "mean, %", "scores": "each"},
                        {"mean": ".2f"},
                    ),
                },
            },
            cell_text(field("mean", "quantitative", format=".1f"), INK),
        ],
    )


def sizes(methods: Sequence[str], largest: int) -> Spec:
    """Draw the mean normalised score by number of merged models.

    Each method has a line, with the spread.
    """
    scale = categories(methods)
    color = field(
        "method",
        "nominal",
        scale=scale["color"],
        legend={"columns": {"expr": "width < 420 ? 1 : 3"}, "symbolOpacity": 1},
    )
    x = field(
        "x", "quantitative", "merged models", scale={"domain": [1.6, largest + 0.4], "nice": False}
    )
    x["axis"] = {"values": list(range(2, largest + 1)), "grid": False, "format": "d"}
    y = field(
        "mean", "quantitative", "mean normalised score, %", scale={"zero": False, "nice": True}
    )
    shown = tips(
        SPREAD, {"size": "d", "combinations": "d", "mean": ".2f", "low": ".2f", "high": ".2f"}
    )
    return spec(
        "Lines: mean normalised score against the number of merged models, for each method, with "
        "the spread over combinations",
        280,
        layer=[
            {
                "data": {"values": [{"mean": 100}]},
                "mark": {"type": "rule", "strokeDash": [3, 3]},
                "encoding": {"y": y},
            },
            {
                "mark": {"type": "rule", "opacity": 0.55},
                "encoding": {
                    "x": x,
                    "y": field("low", "quantitative"),
                    "y2": {"field": "high"},
                    "color": color,
                },
            },
            {
                "mark": {"type": "rule", "strokeWidth": 5, "opacity": 0.5},
                "encoding": {
                    "x": x,
                    "y": field("q1", "quantitative"),
                    "y2": {"field": "q3"},
                    "color": color,
                },
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": color,
                    "strokeDash": field("method", "nominal", scale=scale["dash"], legend=None),
                },
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1},
                "encoding": {
                    "x": x,
                    "y": y,
                    "color": color,
                    "shape": field(
                        "method", "nominal", scale=scale["shape"], legend={"symbolOpacity": 1}
                    ),
                    "tooltip": shown,
                },
            },
        ],
        resolve={"scale": {"strokeDash": "independent"}},
    )


def methods(comparisons: Sequence[str]) -> Spec:
    """Draw method against method, about the zero line.

    Each pair of methods has a row of points, one per combination.
    """
    band = min(80, max(54, 240 // max(len(comparisons), 1)))
    y = field("comparison", "nominal", scale={"domain": list(comparisons), "paddingInner": 0.1})
    y["axis"] = None  # the names stand above the points, where they leave a narrow page its width
    x_title = "difference, percentage points"

    def over(aggregate: str) -> Encoding:
        return field("difference", "quantitative", x_title, aggregate=aggregate)

    def above(name: str, x: Any, **mark: Any) -> Spec:
        text = {"type": "text", "dy": 8 - band / 2, "tooltip": None, **mark}
        return {
            "mark": text,
            "encoding": {
                "x": {"value": x},
                "text": {"field": name, "aggregate": "max", "type": "nominal"},
            },
        }

    return spec(
        "Strips: for each pair of methods, the difference of their mean normalised scores on "
        "every combination of models",
        band * len(comparisons),
        encoding={"y": y},
        layer=[
            {
                "data": {"values": [{"zero": 0}]},
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {
                    "x": field("zero", "quantitative", x_title),
                    "y": {"value": 0},
                    "y2": {"value": "height"},
                },
            },
            {
                "mark": {
                    "type": "bar",
                    "height": band / 2,
                    "color": OTHER,
                    "opacity": 0.25,
                    "tooltip": None,
                },
                "encoding": {"x": over("q1"), "x2": {"field": "difference", "aggregate": "q3"}},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 28, "opacity": 0.9},
                "encoding": {
                    "x": field("difference", "quantitative", x_title, axis={"tickCount": 7}),
                    "yOffset": field(
                        "jitter",
                        "quantitative",
                        scale={"domain": [0, 1], "range": [0.28 * band, 0.72 * band]},
                    ),
                    "color": field(
                        "better",
                        "nominal",
                        scale={"domain": ["first", "second"], "range": list(CATEGORIES[:2])},
                        legend=None,
                    ),
                    "tooltip": tips(
                        {"comparison": "methods", "models": "models", "difference": "points"},
                        {"difference": "+.2f"},
                    ),
                },
            },
            {
                "mark": {"type": "tick", "thickness": 2.5, "height": 0.6 * band, "tooltip": None},
                "encoding": {"x": over("median")},
            },
            above("comparison", 0, align="left", fontWeight=600, limit={"expr": "width - 130"}),
            above("wins", "width", align="right"),
        ],
    )


def heads(title: str, layers: int, low: float, high: float) -> Spec:
    """Layers × heads: a mask Fisher's values on a logarithmic scale; a cell that is 0 is hollow."""
    legend = {"format": "~e", "values": _powers(low, high), "gradientLength": 180}
    scale = {"type": "log", "domain": [low, high]}
    return spec(
        f"Heat map of the mask Fisher of {title}: layers by attention heads, on a logarithmic "
        "colour scale",
        STEP * layers,
        encoding=nodes_grid(),
        layer=[
            {
                "transform": [{"filter": "datum.value > 0"}],
                "mark": {"type": "rect", "cornerRadius": 2, "stroke": None},
                "encoding": {
                    "color": field("value", "quantitative", "(∂ℓ/∂m)²", scale=scale, legend=legend),
                    "tooltip": tips(
                        {"layer": "layer", "head": "head", "value": "Fisher"}, {"value": ".3~e"}
                    ),
                },
            },
            {
                "transform": [{"filter": "datum.value == 0"}],
                "mark": {
                    "type": "rect",
                    "cornerRadius": 2,
                    "fill": None,
                    "stroke": OTHER,
                    "strokeDash": [2, 2],
                    "strokeOpacity": 0.7,
                },
                "encoding": {
                    "tooltip": tips(
                        {"layer": "layer", "head": "head", "value": "Fisher"}, {"value": "d"}
                    )
                },
            },
            cell_text(field("text", "nominal"), INK, "datum.value > 0"),
            cell_text(field("text", "nominal"), None, "datum.value == 0"),
        ],
    )


def nodes_grid() -> Encoding:
    """Return the axes of a map of layers × heads."""
    axis = {"domain": False, "ticks": False, "labelAngle": 0}
    return {
        "x": field("head", "ordinal", "head", axis=axis),
        "y": field("layer", "ordinal", "layer", axis=axis),
    }


def curves(title: str, low: float, high: float, dots: bool) -> Spec:
    """Draw the sorted Fisher values of the neurons, a curve per layer, the largest first."""
    y = field(
        "value",
        "quantitative",
        "(∂ℓ/∂m)²",
        scale={"type": "log", "domain": [low, high], "nice": False},
    )
    y["axis"] = {"format": "~e", "values": _powers(low, high)}
    return spec(
        f"Curves of the mask Fisher of {title}: the values of each layer's neurons, sorted, on a "
        "logarithmic scale",
        260,
        mark={"type": "line", "strokeWidth": 1.4, "point": dots},
        encoding={
            "x": field(
                "fraction",
                "quantitative",
                "fraction of the layer's neurons, the largest first",
                axis={"format": "%"},
            ),
            "y": y,
            "detail": {"field": "layer"},
            "color": field(
                "layer",
                "quantitative",
                "layer",
                legend={"tickMinStep": 1, "format": "d", "gradientLength": 120},
            ),
        },
    )


def _powers(low: float, high: float) -> list[float]:
    """Return the powers of ten within a range, five at most.

    Its ends where it has fewer than two.
    """
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last <= first:
        return [low, high]
    return [float(f"1e{power}") for power in range(first, last + 1, -(-(last - first + 1) // 5))]


def stacked(
    description: str, runs: int, measure: str, title: str, by: str, colours: Mapping[str, str]
) -> Spec:
    """Draw a bar per run, the latest first, stacked by kind or by outcome."""
    scale = {"domain": list(colours), "range": list(colours.values())}
    rank = f"indexof({list(colours)!r}, datum.{by})"
    return spec(
        description,
        STEP * runs,
        transform=[{"calculate": rank, "as": "rank"}],
        mark={"type": "bar", "height": 15},
        encoding={
            "y": field("run", "ordinal", sort=None, axis={"domain": False, "ticks": False}),
            "x": field(
                measure,
                "quantitative",
                title,
                aggregate="sum",
                axis={"tickMinStep": 1, "tickCount": 5, "format": ",~r"},
            ),
            "color": field(
                by, "nominal", scale=scale, legend={"columns": {"expr": "width < 300 ? 2 : 4"}}
            ),
            "order": {"field": "rank"},
            "tooltip": [
                field("run", "nominal", "run"),
                field(by, "nominal", by),
                field(
                    measure,
                    "quantitative",
                    title,
                    aggregate="sum",
                    format=",.1f" if measure == "seconds" else ",d",
                ),
            ],
        },
    )
