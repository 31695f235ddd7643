"""A merge's score on each task as a bar, and the model's own score as a line across.

The page computes the rows, and makes the chart as high as it has to be.
"""

from __future__ import annotations

from fmn.report.charts.chart import STEP, Spec, base, channel, tips

TIPS = {
    "model": "model",
    "score": "merged",
    "individual": "alone",
    "normalized": "merged / alone, %",
}


def template() -> Spec:
    """Return the spec, of one row of height."""
    shown = tips(TIPS, dict.fromkeys(("score", "individual", "normalized"), ".2f"))
    y = channel("model", "nominal", sort=None, axis={"domain": False, "ticks": False})
    return base(
        "Bars: score of the merge on each task; a line across marks the score of the individual "
        "model",
        STEP,
        encoding={"y": y},
        layer=[
            {
                "mark": {"type": "bar", "height": 14},
                "encoding": {
                    "x": channel("score", "quantitative", "score × 100", axis={"tickCount": 6}),
                    "color": {"field": "fill", "type": "nominal", "scale": None},
                    "tooltip": shown,
                },
            },
            {
                "transform": [{"filter": "isValid(datum.individual)"}],
                "mark": {"type": "tick", "thickness": 2.5, "height": 24, "opacity": 1},
                "encoding": {
                    "x": channel("individual", "quantitative", "score × 100"),
                    "tooltip": shown,
                },
            },
        ],
    )
