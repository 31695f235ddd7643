"""Strips: method against method, a point for each combination of models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

from fmn.report.charts.chart import (
    Board,
    Chart,
    Encoding,
    Row,
    Spec,
    base,
    channel,
    thinned,
    tips,
)
from fmn.report.charts.labels import model_labels, percent, scored
from fmn.report.data import Merge, Report
from fmn.report.theme import CATEGORIES, OTHER

TITLE = "Method against method"
COLUMNS = {"comparison": "methods", "models": "models", "difference": "difference, points"}
MOST_METHODS = 6
"""That are compared two by two."""
AXIS = "difference, percentage points"

Differences = dict[tuple[int, ...], float]
"""From the numbers of some models to the points by which one method is better on them."""


def draw(data: Report) -> list[Chart]:
    """Draw a strip for each pair of methods that merged the same models."""
    names, merges = model_labels(data), scored(data)
    rows: list[Row] = []
    for first, second in combinations(list(merges)[:MOST_METHODS], 2):
        both = _differences(merges[first], merges[second])
        if both and fmean(both.values()) < 0:
            both = {models: -difference for models, difference in both.items()}
            first, second = second, first
        rows += _rows(f"{first} − {second}", both, names)
    if not rows:
        return []
    comparisons = list(dict.fromkeys(row["comparison"] for row in rows))
    return [Chart(TITLE, _spec(comparisons), rows, COLUMNS)]


def _differences(
    first: Mapping[tuple[int, ...], Merge], second: Mapping[tuple[int, ...], Merge]
) -> Differences:
    return {
        models: percent(first[models]) - percent(second[models])
        for models in first
        if models in second
    }


def _rows(comparison: str, both: Differences, names: Sequence[str]) -> list[Row]:
    wins = f"better in {sum(difference > 0 for difference in both.values())} of {len(both):,}"
    rising = sorted(both.items(), key=lambda item: item[1])
    return [
        {
            "comparison": comparison,
            "models": " + ".join(names[model] for model in models),
            "difference": difference,
            "better": "first" if difference > 0 else "second",
            "jitter": number * 0.618034 % 1,
            "wins": wins,
        }
        for number, (models, difference) in enumerate(thinned(rising))
    ]


def _spec(comparisons: Sequence[str]) -> Spec:
    band = min(80, max(54, 240 // max(len(comparisons), 1)))
    y = channel("comparison", "nominal", scale={"domain": list(comparisons), "paddingInner": 0.1})
    y["axis"] = None  # the names stand above the points, where they leave a narrow page its width
    return base(
        "Strips: for each pair of methods, the difference of their mean normalised scores on "
        "every combination of models",
        band * len(comparisons),
        encoding={"y": y},
        layer=[
            {
                "data": {"values": [{"zero": 0}]},
                "mark": {"type": "rule", "strokeWidth": 1.5},
                "encoding": {
                    "x": channel("zero", "quantitative", AXIS),
                    "y": {"value": 0},
                    "y2": {"value": "height"},
                },
            },
            _middle_half(band),
            _points(band),
            {
                "mark": {"type": "tick", "thickness": 2.5, "height": 0.6 * band, "tooltip": None},
                "encoding": {"x": _over("median")},
            },
            _above(
                band,
                "comparison",
                0,
                align="left",
                fontWeight=600,
                limit={"expr": "width - 130"},
            ),
            _above(band, "wins", "width", align="right"),
        ],
    )


def _over(aggregate: str) -> Encoding:
    return channel("difference", "quantitative", AXIS, aggregate=aggregate)


def _middle_half(band: int) -> Spec:
    mark = {"type": "bar", "height": band / 2, "color": OTHER, "opacity": 0.25, "tooltip": None}
    over = {"x": _over("q1"), "x2": {"field": "difference", "aggregate": "q3"}}
    return {"mark": mark, "encoding": over}


def _points(band: int) -> Spec:
    heights = {"domain": [0, 1], "range": [0.28 * band, 0.72 * band]}
    colours = {"domain": ["first", "second"], "range": list(CATEGORIES[:2])}
    shown = {"comparison": "methods", "models": "models", "difference": "points"}
    return {
        "mark": {"type": "point", "filled": True, "size": 28, "opacity": 0.9},
        "encoding": {
            "x": channel("difference", "quantitative", AXIS, axis={"tickCount": 7}),
            "yOffset": channel("jitter", "quantitative", scale=heights),
            "color": channel("better", "nominal", scale=colours, legend=None),
            "tooltip": tips(shown, {"difference": "+.2f"}),
        },
    }


def _above(band: int, name: str, x: Any, **mark: Any) -> Spec:
    """Return a layer of text above each strip."""
    text = {"field": name, "aggregate": "max", "type": "nominal"}
    return {
        "mark": {"type": "text", "dy": 8 - band / 2, "tooltip": None, **mark},
        "encoding": {"x": {"value": x}, "text": text},
    }


BOARD = Board(
    "methods",
    "comparison",
    draw,
    620,
    title=TITLE,
    note="A point is one combination of models; right of 0 the first method is better. The bar "
    "spans the middle half, the tick is the median.",
    empty="No two methods merged the same models.",
)
