"""Layers × groups of parameters: the means of a diagonal Fisher, on a logarithmic scale."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fmn.report.charts.chart import Chart, channel
from fmn.report.charts.maps import grid_rows, heat_map
from fmn.report.fishers import Array

COLUMNS = {"layer": "layer", "node": "parameters", "value": "mean"}


def draw(groups: Mapping[str, Array]) -> Chart:
    """Draw the means over each group of parameters, [layers] by the group's name."""
    names, values = list(groups), np.stack(list(groups.values()), axis=1)
    quiet = {"domain": False, "ticks": False, "labelAngle": 0}
    broken = {**quiet, "labelExpr": "split(replace(datum.label, / \\+ /g, '|+ '), '|')"}
    zero = " (dashed: 0)" if (values == 0).any() else ""
    spec = heat_map(
        "Heat map of a diagonal Fisher: layers by groups of parameters, on a logarithmic colour "
        "scale",
        values,
        "mean of (∂ℓ/∂θ)²",
        {
            "x": channel(
                "node", "nominal", f"parameters{zero}", scale={"domain": names}, axis=broken
            ),
            "y": channel("layer", "ordinal", "layer", axis=quiet),
        },
        COLUMNS,
    )
    rows = grid_rows(range(len(values)), names, values)
    title = "Mean over the parameters of each group"
    return Chart(title, spec, rows, COLUMNS, across=len(names))
