"""Lines: the mean normalised score by number of merged models, with the spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, quantiles
from typing import Any

import numpy as np

from fmn.evaluation import interval
from fmn.report.charts.chart import Board, Chart, Encoding, Row, Spec, base, channel, tips
from fmn.report.charts.labels import ends, method_slots, percent, scored
from fmn.report.data import Merge, Report
from fmn.report.theme import categories

TITLE = "Score and number of models"
COLUMNS = {
    "method": "method",
    "size": "models",
    "combinations": "merges",
    "mean": "mean, %",
    "interval": "interval of the mean",
    "low": "lowest",
    "high": "highest",
}
FORMATS = {"size": "d", "combinations": "d", "mean": ".2f", "low": ".2f", "high": ".2f"}


def draw(data: Report) -> list[Chart]:
    """Draw a line for each method."""
    rows = []
    merges = scored(data)
    for number, (method, best) in enumerate(merges.items()):
        by_size: dict[int, list[Merge]] = {}
        for models, merge in best.items():
            by_size.setdefault(len(models), []).append(merge)
        beside = 0.09 * (number - (len(merges) - 1) / 2)
        rows += [
            {"method": method, "size": size, "x": size + beside, **_spread(by_size[size])}
            for size in sorted(by_size)
        ]
    if not rows:
        return []
    slots = {label: slot for label, slot in method_slots(data).items() if label in merges}
    spec = _spec(slots, max(row["size"] for row in rows))
    return [Chart(TITLE, spec, rows, COLUMNS)]


def _spread(merges: Sequence[Merge]) -> Row:
    values = [percent(merge) for merge in merges]
    q1, _, q3 = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {
        "combinations": len(values),
        "mean": fmean(values),
        "interval": _interval(merges),
        "low": min(values),
        "q1": q1,
        "q3": q3,
        "high": max(values),
    }


def _interval(merges: Sequence[Merge]) -> str:
    """Return the interval of the mean over merges, on the same resamples for all."""
    if not all(merge.resampled for merge in merges):
        return ends(None)
    return ends(interval(np.mean([merge.drawn() for merge in merges], axis=0)))


def _spec(slots: Mapping[str, int], largest: int) -> Spec:
    scales = categories(slots)
    legend = {"columns": {"expr": "width < 420 ? 1 : 3"}, "symbolOpacity": 1}
    colour = channel("method", "nominal", scale=scales["color"], legend=legend)
    dash = channel("method", "nominal", scale=scales["dash"], legend=None)
    shape = channel("method", "nominal", scale=scales["shape"], legend={"symbolOpacity": 1})
    x = channel(
        "x", "quantitative", "merged models", scale={"domain": [1.6, largest + 0.4], "nice": False}
    )
    x["axis"] = {"values": list(range(2, largest + 1)), "grid": False, "format": "d"}
    y = channel(
        "mean", "quantitative", "mean normalised score, %", scale={"zero": False, "nice": True}
    )

    def layer(mark: dict[str, Any], **encoding: Encoding | list[Encoding]) -> Spec:
        return {"mark": mark, "encoding": {"x": x, "y": y, "color": colour, **encoding}}

    def span(low: str, high: str, **mark: Any) -> Spec:
        return layer({"type": "rule", **mark}, y=channel(low, "quantitative"), y2={"field": high})

    point = {"type": "point", "filled": True, "size": 60, "opacity": 1}
    hundred = {
        "data": {"values": [{"mean": 100}]},
        "mark": {"type": "rule", "strokeDash": [3, 3]},
        "encoding": {"y": y},
    }
    return base(
        "Lines: mean normalised score against the number of merged models, for each method, with "
        "the spread over combinations",
        280,
        layer=[
            hundred,
            span("low", "high", opacity=0.55),
            span("q1", "q3", strokeWidth=5, opacity=0.5),
            layer({"type": "line", "strokeWidth": 1.5}, strokeDash=dash),
            layer(point, shape=shape, tooltip=tips(COLUMNS, FORMATS)),
        ],
        resolve={"scale": {"strokeDash": "independent"}},
    )


BOARD = Board(
    "sizes",
    "comparison",
    draw,
    620,
    title=TITLE,
    note="Points are means over combinations; thick lines span the middle half of them, thin "
    "lines all.",
)
