"""Curves: a mask Fisher's values of a kind of which a layer has many nodes, the largest first."""

from __future__ import annotations

import numpy as np

from fmn.report.charts.chart import (
    Board,
    Chart,
    Spec,
    base,
    channel,
    log_range,
    log_ticks,
    shortened,
    thinned,
)
from fmn.report.charts.labels import model_labels
from fmn.report.data import Report
from fmn.report.fishers import NodeTable, is_map

COLUMNS = {"layer": "layer", "fraction": "fraction", "value": "Fisher"}


def draw(data: Report) -> list[Chart]:
    """Draw the curves of each Fisher and each kind of node of which it has many.

    Kinds whose values are all 0 have none.
    """
    names = model_labels(data)
    return [
        curves_of(table, names[fisher.model], {"fisher": fisher.key, "kind": name})
        for fisher in data.fishers
        for name, table in fisher.tables().items()
        if not is_map(table.values.shape[1]) and table.values.any()
    ]


def curves_of(table: NodeTable, name: str, of: dict[str, str] | None = None) -> Chart:
    """Draw a curve for each layer of one kind of node of the model with this name."""
    count = table.values.shape[1]
    rows = [
        {
            "layer": table.layers[number],
            "fraction": round((rank + 0.5) / count, 5),
            "value": shortened(curve[rank]),
        }
        for number, curve in enumerate(-np.sort(-table.values, axis=1))
        for rank in thinned(range(np.count_nonzero(curve)))
    ]
    label = f"{name}: {table.kind.title}"
    return Chart(table.kind.heading, _spec(table, name), rows, COLUMNS, label=label, of=of or {})


def _spec(table: NodeTable, name: str) -> Spec:
    low, high = log_range(table.values)
    zeros = 100 * float((table.values == 0).mean())
    lonely = (np.count_nonzero(table.values, axis=1) == 1).any()  # a line of one point is not seen
    missing = f" ({zeros:.3g} % are 0, not drawn)" if zeros else ""
    scale = {"type": "log", "domain": [low, high], "nice": False}
    y = channel("value", "quantitative", "(∂ℓ/∂m)²", scale=scale)
    y["axis"] = log_ticks(low, high)
    legend = {"tickMinStep": 1, "format": "d", "gradientLength": 120}
    return base(
        f"Curves of the mask Fisher of {name}: the values of each layer's {table.kind.title}, "
        "sorted, on a logarithmic scale",
        260,
        mark={"type": "line", "strokeWidth": 1.4, "point": bool(lonely)},
        encoding={
            "x": channel(
                "fraction",
                "quantitative",
                f"fraction of the layer's {table.kind.unit}s, the largest first{missing}",
                axis={"format": "%"},
            ),
            "y": y,
            "detail": {"field": "layer"},
            "color": channel("layer", "quantitative", "layer", legend=legend),
        },
    )


BOARD = Board("curves", "fishers", draw, 380)
