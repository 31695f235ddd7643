"""A merge's score on each task as a bar with its interval, and the model's own as a line across.

The page computes the rows, and makes the chart as high as it has to be.
"""

from __future__ import annotations

from fmn.report.charts.chart import STEP, Spec, base, channel, tips

TIPS = {
    "model": "model",
    "score": "merged",
    "interval": "interval",
    "chance": "chance",
    "individual": "alone",
    "apart": "merged − alone",
    "normalized": "merged / alone, %",
}


def template() -> Spec:
    """Return the spec, of one row of height."""
    numbers = ("score", "chance", "individual", "normalized")
    shown = tips(TIPS, dict.fromkeys(numbers, ".2f"))
    y = channel("model", "nominal", sort=None, axis={"domain": False, "ticks": False})
    return base(
        "Bars: score of the merge on each task, with its interval; a line across marks the score "
        "of the individual model, a dot that of chance",
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
            {
                "transform": [{"filter": "isValid(datum.low)"}],
                "mark": {"type": "rule", "style": "sure", "strokeWidth": 2, "tooltip": None},
                "encoding": {
                    "x": channel("low", "quantitative", "score × 100"),
                    "x2": {"field": "high"},
                },
            },
            {
                "transform": [{"filter": "isValid(datum.chance)"}],
                "mark": {
                    "type": "point",
                    "style": "sure",
                    "filled": True,
                    "size": 26,
                    "opacity": 1,
                },
                "encoding": {
                    "x": channel("chance", "quantitative", "score × 100"),
                    "tooltip": shown,
                },
            },
        ],
    )
