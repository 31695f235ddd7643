"""Layers × nodes: a mask Fisher's values of a kind of which a layer has few nodes, on a log scale.

A cell that is 0 is hollow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fmn.architectures import NodeKind
from fmn.report.charts.chart import (
    INK,
    STEP,
    Board,
    Chart,
    Encoding,
    Row,
    Spec,
    base,
    cell_text,
    channel,
    grid_axes,
    log_range,
    log_ticks,
    shortened,
    tips,
)
from fmn.report.charts.labels import model_labels
from fmn.report.data import Report
from fmn.report.fishers import Array, NodeTable, is_map
from fmn.report.theme import OTHER, ink_on


def draw(data: Report) -> list[Chart]:
    """Draw a map for each Fisher and each kind of node of which it has few."""
    names = model_labels(data)
    return [
        map_of(table, names[fisher.model], {"fisher": fisher.key, "kind": name})
        for fisher in data.fishers
        for name, table in fisher.tables().items()
        if is_map(table.values.shape[1])
    ]


def map_of(table: NodeTable, name: str, of: dict[str, str] | None = None) -> Chart:
    """Draw the map of one kind of node of the model with this name."""
    kind = table.kind
    rows = grid_rows(table.layers, range(table.values.shape[1]), table.values)
    spec = heat_map(
        f"Heat map of the mask Fisher of {name}: layers by {kind.title}, on a logarithmic colour "
        "scale",
        table.values,
        "(∂ℓ/∂m)²",
        grid_axes(_axis_title(kind, table.values)),
        {"layer": "layer", "node": kind.unit, "value": "Fisher"},
    )
    return Chart(
        kind.heading,
        spec,
        rows,
        {"layer": "layer", "node": kind.unit, "value": "Fisher"},
        label=f"{name}: {kind.title}",
        of=of or {},
        across=table.values.shape[1],
    )


def _axis_title(kind: NodeKind, values: Array) -> str:
    return f"{kind.unit} (dashed: 0)" if (values == 0).any() else kind.unit


def grid_rows(layers: Sequence[int], columns: Sequence[int | str], values: Array) -> list[Row]:
    """Return a row for each cell of a table of values, [layers, columns]."""
    low, high = log_range(values)
    span = math.log(high / low)
    return [
        {
            "layer": layers[row],
            "node": columns[column],
            "value": shortened(value),
            "text": _tiny(value),
            "ink": ink_on(math.log(value / low) / span) if value > 0 else "",
        }
        for (row, column), value in np.ndenumerate(values)
    ]


def _tiny(value: float) -> str:
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def heat_map(
    description: str, values: Array, unit: str, axes: Encoding, shown: dict[str, str]
) -> Spec:
    """Return a heat map on a logarithmic scale.

    Args:
        description: for who cannot see it.
        values: [layers, columns].
        unit: of the values.
        axes: the encoding of ``x`` and ``y``.
        shown: of the cell under the pointer.
    """
    low, high = log_range(values)
    legend = {**log_ticks(low, high), "gradientLength": 180}
    scale = {"type": "log", "domain": [low, high]}
    cell = {"type": "rect", "cornerRadius": 2}
    hollow = {"fill": None, "stroke": OTHER, "strokeDash": [2, 2], "strokeOpacity": 0.7}
    text = channel("text", "nominal")
    return base(
        description,
        STEP * len(values),
        encoding=axes,
        layer=[
            {
                "transform": [{"filter": "datum.value > 0"}],
                "mark": {**cell, "stroke": None},
                "encoding": {
                    "color": channel("value", "quantitative", unit, scale=scale, legend=legend),
                    "tooltip": tips(shown, {"value": ".3~e"}),
                },
            },
            {
                "transform": [{"filter": "datum.value == 0"}],
                "mark": {**cell, **hollow},
                "encoding": {"tooltip": tips(shown, {"value": "d"})},
            },
            cell_text(text, INK, "datum.value > 0"),
            cell_text(text, None, "datum.value == 0"),
        ],
    )


BOARD = Board("maps", "fishers", draw, 380)
