"""Bars: what the last runs took, and what they computed or found in the store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fmn.report.charts.chart import STEP, Board, Chart, Row, Spec, base, channel
from fmn.report.data import Report, Run
from fmn.report.theme import CATEGORIES, OTHER, colour_of

MOST_RUNS = 12
KINDS = ("fisher", "merge", "evaluate", "publish")
"""Kinds of steps that have the first colours; others take those that are left."""
OUTCOMES = {
    "computed": CATEGORIES[0],
    "cached": CATEGORIES[5],
    "skipped": OTHER,
    "failed": CATEGORIES[1],
}


def draw_seconds(data: Report) -> list[Chart]:
    """Draw the seconds of computing in each of the last runs, by kind of step."""
    runs = _last(data)
    kinds = dict.fromkeys([*KINDS, *sorted(kind for run in runs for kind in run.seconds)])
    colours = {kind: colour_of(number) for number, kind in enumerate(kinds)}
    rows: list[Row] = [
        {"run": _when(run), "kind": kind, "rank": rank, "seconds": round(run.seconds[kind], 3)}
        for run in runs
        for rank, kind in enumerate(kinds)
        if kind in run.seconds
    ]
    spec = _bars(
        "Bars: seconds of computing in each run, by kind of step",
        len(runs),
        ("seconds", "seconds of computing", ",.1f"),
        "kind",
        _only(colours, (row["kind"] for row in rows)),
    )
    columns = {"run": "run", "kind": "kind", "seconds": "seconds"}
    return [Chart(SECONDS.title, spec, rows, columns)] if rows else []


def draw_counts(data: Report) -> list[Chart]:
    """Draw the results of each of the last runs, computed or taken from the store."""
    runs = _last(data)
    rows: list[Row] = [
        {"run": _when(run), "outcome": outcome, "kind": kind, "rank": rank, "results": count}
        for run in runs
        for rank, (outcome, counts) in enumerate(_outcomes(run).items())
        for kind, count in counts.items()
        if count
    ]
    spec = _bars(
        "Bars: results of each run, computed or taken from the store",
        len(runs),
        ("results", "results", ",d"),
        "outcome",
        _only(OUTCOMES, (row["outcome"] for row in rows)),
    )
    columns = {"run": "run", "outcome": "outcome", "kind": "kind", "results": "results"}
    return [Chart(COUNTS.title, spec, rows, columns)] if rows else []


def _last(data: Report) -> list[Run]:
    return sorted(data.runs, key=lambda run: run.at, reverse=True)[:MOST_RUNS]


def _when(run: Run) -> str:
    return run.at[:16].replace("T", " ")


def _outcomes(run: Run) -> dict[str, Mapping[str, int]]:
    return {
        "computed": run.computed,
        "cached": run.cached,
        "skipped": run.skipped,
        "failed": {"": len(run.failed)},
    }


def _only(colours: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    there = set(names)
    return {name: colour for name, colour in colours.items() if name in there}


def _bars(
    description: str,
    runs: int,
    measure: tuple[str, str, str],
    by: str,
    colours: Mapping[str, str],
) -> Spec:
    """Return a bar per run, the latest first, stacked by kind or by outcome.

    Args:
        description: for who cannot see it.
        runs: how many.
        measure: field of what is summed, its title, and how its numbers are written.
        by: field of what is stacked.
        colours: of what is stacked.
    """
    name, title, number = measure
    scale = {"domain": list(colours), "range": list(colours.values())}
    legend = {"columns": {"expr": "width < 300 ? 2 : 4"}}
    axis = {"tickMinStep": 1, "tickCount": 5, "format": ",~r"}
    total: Sequence[Spec] = [
        channel("run", "nominal", "run"),
        channel(by, "nominal", by),
        channel(name, "quantitative", title, aggregate="sum", format=number),
    ]
    return base(
        description,
        STEP * runs,
        mark={"type": "bar", "height": 15},
        encoding={
            "y": channel("run", "ordinal", sort=None, axis={"domain": False, "ticks": False}),
            "x": channel(name, "quantitative", title, aggregate="sum", axis=axis),
            "color": channel(by, "nominal", scale=scale, legend=legend),
            "order": {"field": "rank"},
            "tooltip": total,
        },
    )


SECONDS = Board("seconds", "runs", draw_seconds, 480, title="Seconds of computing")
COUNTS = Board("counts", "runs", draw_counts, 480, title="Computed, and taken from the store")
