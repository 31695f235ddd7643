"""Strips: method against method, a point for each combination of models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

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
from fmn.report.charts.labels import apart_text, ends, model_labels, percent, scored
from fmn.report.data import Apart, Merge, Report, apart
from fmn.report.theme import CATEGORIES, OTHER

TITLE = "Method against method"
COLUMNS = {
    "comparison": "methods",
    "models": "models",
    "difference": "difference, points",
    "interval": "interval",
    "sure": "inside?",
}
MOST_METHODS = 6
"""That are compared two by two."""
AXIS = "difference, percentage points"

Differences = dict[tuple[int, ...], tuple[Merge, Merge]]
"""From the numbers of some models to their merges by both methods, the better method's first."""


def draw(data: Report) -> list[Chart]:
    """Draw a strip for each pair of methods that merged the same models."""
    names, merges = model_labels(data), scored(data)
    rows: list[Row] = []
    for first, second in combinations(list(merges)[:MOST_METHODS], 2):
        both = {
            models: (merge, merges[second][models])
            for models, merge in merges[first].items()
            if models in merges[second]
        }
        if both and fmean(_difference(*pair) for pair in both.values()) < 0:
            both = {models: (other, one) for models, (one, other) in both.items()}
            first, second = second, first
        rows += _rows(f"{first} − {second}", both, names)
    if not rows:
        return []
    comparisons = list(dict.fromkeys(row["comparison"] for row in rows))
    return [Chart(TITLE, _spec(comparisons), rows, COLUMNS)]


def _difference(first: Merge, second: Merge) -> float:
    return percent(first) - percent(second)


def _rows(comparison: str, both: Differences, names: Sequence[str]) -> list[Row]:
    if not both:
        return []
    wins = sum(_difference(*pair) > 0 for pair in both.values())
    mean = _mean(list(both.values()))
    rising = sorted(both.items(), key=lambda item: _difference(*item[1]))
    return [
        {
            "comparison": comparison,
            "models": " + ".join(names[model] for model in models),
            "difference": _difference(first, second),
            **_surety(first.minus(second)),
            "better": "first" if _difference(first, second) > 0 else "second",
            "jitter": number * 0.618034 % 1,
            "wins": f"better in {wins} of {len(both):,}",
            "mean": f"mean {mean}",
        }
        for number, (models, (first, second)) in enumerate(thinned(rising))
    ]


def _surety(difference: Apart | None) -> Row:
    if difference is None:
        return {"interval": ends(None), "sure": "not known"}
    inside = "inside the interval" if difference.inside else "outside"
    return {"interval": ends(difference.interval), "sure": inside}


def _mean(pairs: Sequence[tuple[Merge, Merge]]) -> str:
    """Return the mean difference of two methods, with its interval where all are paired."""
    points = fmean(_difference(*pair) for pair in pairs) / 100
    if any(first.minus(second) is None for first, second in pairs):
        return f"{100 * points:+.2f}, no interval".replace("-", "−")
    drawn = np.mean([first.drawn() - second.drawn() for first, second in pairs], axis=0)
    return apart_text(apart(points, drawn))


def _spec(comparisons: Sequence[str]) -> Spec:
    band = min(96, max(70, 288 // max(len(comparisons), 1)))
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
            _above(band, "mean", 0, align="left", dy=band / 2 - 12),
        ],
    )


def _over(aggregate: str) -> Encoding:
    return channel("difference", "quantitative", AXIS, aggregate=aggregate)


def _middle_half(band: int) -> Spec:
    mark = {"type": "bar", "height": 0.44 * band, "color": OTHER, "opacity": 0.25, "tooltip": None}
    over = {"x": _over("q1"), "x2": {"field": "difference", "aggregate": "q3"}}
    return {"mark": mark, "encoding": over}


def _points(band: int) -> Spec:
    heights = {"domain": [0, 1], "range": [0.28 * band, 0.72 * band]}
    colours = {"domain": ["first", "second"], "range": list(CATEGORIES[:2])}
    shown = {**COLUMNS, "difference": "points", "sure": "difference"}
    faint = {"test": "datum.sure === 'inside the interval'", "value": 0.15}
    return {
        "mark": {"type": "point", "filled": True, "size": 28, "opacity": 0.9, "strokeWidth": 1},
        "encoding": {
            "x": channel("difference", "quantitative", AXIS, axis={"tickCount": 7}),
            "yOffset": channel("jitter", "quantitative", scale=heights),
            "color": channel("better", "nominal", scale=colours, legend=None),
            "stroke": channel("better", "nominal", scale=colours, legend=None),
            "fillOpacity": {"condition": faint, "value": 0.9},
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
    note="A point is one combination of models; right of 0 the first method is better; it is "
    "hollow where the difference is inside its interval. The bar spans the middle half, the tick "
    "is the median; below is the mean with its interval, on the same examples for both.",
    empty="No two methods merged the same models.",
)
