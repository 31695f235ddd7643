"""The charts of a single merge as Vega-Lite specs.

The page computes their rows, and makes them as high as they need.
"""

from __future__ import annotations

from fmn.report.specs import INK, STEP, Spec, cell_text, field, nodes_grid, spec, tips


def scores() -> Spec:
    """Draw a merge's score on each task as a bar, and the model's own score as a line across."""
    each = tips(
        {
            "model": "model",
            "score": "merged",
            "individual": "alone",
            "normalized": "merged / alone, %",
        },
        {},
    )
    for tip in each[1:]:
        tip |= {"type": "quantitative", "format": ".2f"}
    y = field("model", "nominal", sort=None, axis={"domain": False, "ticks": False})
    return spec(
        "Bars: score of the merge on each task; a line across marks the score of the individual "
        "model",
        STEP,
        encoding={"y": y},
        layer=[
            {
                "mark": {"type": "bar", "height": 14},
                "encoding": {
                    "x": field("score", "quantitative", "score × 100", axis={"tickCount": 6}),
                    "color": {"field": "fill", "type": "nominal", "scale": None},
                    "tooltip": each,
                },
            },
            {
                "transform": [{"filter": "isValid(datum.individual)"}],
                "mark": {"type": "tick", "thickness": 2.5, "height": 24, "opacity": 1},
                "encoding": {
                    "x": field("individual", "quantitative", "score × 100"),
                    "tooltip": each,
                },
            },
        ],
    )


def winners() -> Spec:
    """Layers × heads: the model with each head's greatest share.

    A cell has the model's colour, its letter and its share.
    """
    return spec(
        "Map of layers by attention heads: the model with the greatest share of each head, and "
        "its share in per cent",
        STEP,
        encoding=nodes_grid(),
        layer=[
            {
                "mark": {"type": "rect", "cornerRadius": 2},
                "encoding": {
                    "fill": {"field": "fill", "type": "nominal", "scale": None},
                    "tooltip": tips(
                        {"layer": "layer", "head": "head", "model": "wins", "all": "shares, %"}, {}
                    ),
                },
            },
            cell_text(field("text", "nominal"), INK),
        ],
    )


def shares(description: str, title: str) -> Spec:
    """Draw a bar per layer, stacked by model, that adds up to 100 %."""
    x = field("share", "quantitative", title, stack="zero", scale={"domain": [0, 100]})
    axis = {"domain": False, "ticks": False, "labelAngle": 0}
    return spec(
        description,
        STEP,
        encoding={"y": field("layer", "ordinal", "layer", axis=axis), "order": {"field": "rank"}},
        layer=[
            {
                "mark": {"type": "bar", "height": 18},
                "encoding": {
                    "x": x,
                    "fill": {"field": "fill", "type": "nominal", "scale": None},
                    "tooltip": tips(
                        {"layer": "layer", "model": "model", "share": "share, %"}, {"share": ".1f"}
                    ),
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
