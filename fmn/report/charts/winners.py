"""Layers × nodes of one kind: the model with the greatest share of each, and that share.

The page computes the rows of the merge that it shows by itself, and draws them by the same spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fmn.architectures import NodeKind
from fmn.report.charts.chart import (
    INK,
    STEP,
    Chart,
    Row,
    Spec,
    base,
    cell_text,
    channel,
    grid_axes,
    tips,
)
from fmn.report.fishers import Array
from fmn.report.shares import NodeShares
from fmn.report.theme import OTHER, PALEST, TOKENS, colour_of, ink_over, letter_of, mixed

TIE = "="
COLUMNS = {"layer": "layer", "node": "node", "model": "wins", "all": "shares, %"}


def template(kind: NodeKind) -> Spec:
    """Return the spec for one kind of node, of one row of height.

    A cell has its winner's colour, the paler the smaller its share; its letter; and its share.
    """
    shown = {"layer": "layer", "node": kind.unit, "model": "wins", "all": "shares, %"}
    return base(
        f"Map of layers by {kind.title}: the model with the greatest share of each, and its share "
        "in per cent",
        STEP,
        encoding=grid_axes(kind.unit),
        layer=[
            {
                "mark": {"type": "rect", "cornerRadius": 2},
                "encoding": {
                    "fill": {"field": "fill", "type": "nominal", "scale": None},
                    "tooltip": tips(shown, {}),
                },
            },
            cell_text(channel("text", "nominal"), INK),
        ],
    )


def draw(names: Sequence[str], shares: NodeShares) -> Chart:
    """Draw the winners of one kind of node among the models of these names."""
    layers, nodes, _ = shares.values.shape
    rows = [
        _row(names, shares.layers[row], node, shares.values[row, node])
        for row, node in np.ndindex(layers, nodes)
    ]
    spec = template(shares.kind)
    title = f"{shares.kind.heading}: the winner and its share, %"
    chart = Chart(title, spec, rows, {**COLUMNS, "node": shares.kind.unit}, across=nodes)
    return replace(chart, spec=spec | {"height": STEP * layers})


def _row(names: Sequence[str], layer: int, node: int, shares: Array) -> Row:
    greatest = float(shares.max())
    winners = [model for model, share in enumerate(shares) if share == greatest]
    least = 1 / len(names)
    tied = len(winners) > 1
    strength = PALEST + (1 - PALEST) * (greatest - least) / ((1 - least) or 1)
    fill = mixed(OTHER if tied else colour_of(winners[0]), TOKENS["light"]["paper"], strength)
    return {
        "layer": layer,
        "node": node,
        "fill": fill,
        "ink": ink_over(fill),
        "text": f"{TIE if tied else letter_of(winners[0])} {100 * greatest:.0f}",
        "model": ", ".join(names[model] for model in winners),
        "all": ", ".join(
            f"{name} {100 * share:.1f}" for name, share in zip(names, shares, strict=True)
        ),
    }
