"""Bars: a bar per layer, stacked by model, of nodes of one kind; it adds up to 100 %.

The page computes the rows of the merge that it shows by itself, and draws them by the same spec.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fmn.architectures import NodeKind
from fmn.report.charts.chart import INK, STEP, Chart, Spec, base, channel, tips
from fmn.report.shares import NodeShares
from fmn.report.theme import colour_of, ink_over, letter_of

Measure = Literal["mean", "won"]
MEASURES: tuple[Measure, ...] = ("mean", "won")
TITLES: dict[Measure, str] = {"mean": "mean share", "won": "won"}
NARROWEST = 0.09
"""Of a part of a bar that has room for a letter."""
COLUMNS = {"layer": "layer", "model": "model", "share": "share, %"}


def template(kind: NodeKind, measure: Measure) -> Spec:
    """Return the spec for one kind of node, of one row of height."""
    description, title = {
        "mean": (f"mean share of each model in each layer's {kind.title}", "mean share, %"),
        "won": (f"part of each layer's {kind.title} that each model wins", f"{kind.unit}s won, %"),
    }[measure]
    x = channel("share", "quantitative", title, stack="zero", scale={"domain": [0, 100]})
    axis = {"domain": False, "ticks": False, "labelAngle": 0}
    return base(
        f"Bars: {description}",
        STEP,
        encoding={
            "y": channel("layer", "ordinal", "layer", axis=axis),
            "order": {"field": "rank"},
        },
        layer=[
            {
                "mark": {"type": "bar", "height": 18},
                "encoding": {
                    "x": x,
                    "fill": {"field": "fill", "type": "nominal", "scale": None},
                    "tooltip": tips(COLUMNS, {"share": ".1f"}),
                },
            },
            {
                "mark": {"type": "text", "fontSize": 10, "tooltip": None},
                "encoding": {
                    "x": {**x, "bandPosition": 0.5},
                    "text": {"field": "text", "type": "nominal"},
                    "fill": INK,
                },
            },
        ],
    )


def draw(names: Sequence[str], shares: NodeShares, measure: Measure) -> Chart:
    """Draw the mean shares of one kind of node, or how many each model wins."""
    parts = shares.mean() if measure == "mean" else shares.won()
    rows = [
        {
            "layer": layer,
            "model": names[model],
            "rank": model,
            "share": 100 * float(part),
            "fill": colour_of(model),
            "ink": ink_over(colour_of(model)),
            "text": letter_of(model) if part >= NARROWEST else "",
        }
        for layer, row in zip(shares.layers, parts, strict=True)
        for model, part in enumerate(row)
    ]
    spec = template(shares.kind, measure) | {"height": STEP * len(shares.layers)}
    return Chart(f"{shares.kind.heading}: {TITLES[measure]}, %", spec, rows, COLUMNS)
