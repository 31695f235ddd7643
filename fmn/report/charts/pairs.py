"""Models × models: the mean normalised score of every pair, a heat map for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmn.report.charts.chart import (
    INK,
    Board,
    Chart,
    Row,
    Spec,
    base,
    cell_text,
    channel,
    tips,
)
from fmn.report.charts.labels import Scored, ends, model_labels, percent, scored, standing
from fmn.report.data import Merge, Report
from fmn.report.theme import ink_on

COLUMNS = {
    "row": "model",
    "column": "merged with",
    "mean": "mean, %",
    "interval": "interval",
    "best": "from the best",
    "scores": "each, %",
}


def draw(data: Report) -> list[Chart]:
    """Draw a heat map for each method that merged pairs."""
    names = model_labels(data)
    pairs_of: Scored = {
        method: {
            models: merge for models, merge in best.items() if len(models) == len(set(models)) == 2
        }
        for method, best in scored(data).items()
    }
    means = [percent(merge) for pairs in pairs_of.values() for merge in pairs.values()]
    if not means:
        return []
    low, high = min(means), max(means)
    domain = (low, high) if low < high else (low - 0.5, high + 0.5)
    numbers = {model for pairs in pairs_of.values() for pair in pairs for model in pair}
    models = [names[model] for model in sorted(numbers)]
    return [
        Chart(
            method,
            _spec(method, models, domain),
            _rows(pairs, names, *domain),
            COLUMNS,
            label=method,
            of={"method": method},
            across=len(models),
        )
        for method, pairs in pairs_of.items()
        if pairs
    ]


def _rows(
    pairs: Mapping[tuple[int, ...], Merge], names: Sequence[str], low: float, high: float
) -> list[Row]:
    rows = []
    for merge in pairs.values():
        mean = percent(merge)
        each = ", ".join(
            f"{member.name} {100 * member.normalized:.1f}"
            for member in merge.members
            if member.normalized is not None
        )
        first, second = (names[member.model] for member in merge.members)
        for row, column in ((first, second), (second, first)):
            rows.append(
                {
                    "row": row,
                    "column": column,
                    "mean": mean,
                    "interval": ends(merge.interval),
                    "best": standing(merge),
                    "scores": each,
                    "ink": ink_on((mean - low) / (high - low)),
                }
            )
    return rows


def _spec(method: str, models: Sequence[str], domain: tuple[float, float]) -> Spec:
    short = len(models) <= 8 and max(map(len, models), default=0) <= 8
    axis = {"domain": False, "ticks": False, "labelPadding": 6}
    scale = {"domain": list(models)}
    legend = {"tickCount": 4, "gradientLength": 160, "titleOrient": "top", "titlePadding": 4}
    colour = channel(
        "mean",
        "quantitative",
        "mean normalised score, %",
        scale={"domain": list(domain)},
        legend=legend,
    )
    shown = {**COLUMNS, "column": "with", "scores": "each"}
    return base(
        f"Heat map of pairs merged by {method}: models by models, coloured by mean normalised "
        "score",
        32 * len(models),
        encoding={
            "x": channel(
                "column", "nominal", scale=scale, axis={**axis, "labelAngle": 0 if short else -40}
            ),
            "y": channel("row", "nominal", scale=scale, axis=axis),
        },
        layer=[
            {
                "mark": {"type": "rect", "cornerRadius": 2, "stroke": None},
                "encoding": {"color": colour, "tooltip": tips(shown, {"mean": ".2f"})},
            },
            cell_text(channel("mean", "quantitative", format=".1f"), INK),
        ],
    )


BOARD = Board(
    "pairs",
    "comparison",
    draw,
    300,
    heading="Pairs",
    note="Mean normalised score of every two models, in %. Methods share one scale of colours.",
    empty="No pair was measured.",
)
