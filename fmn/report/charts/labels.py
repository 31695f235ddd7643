"""The charts of a report: what each draws (rows) and how (a Vega-Lite spec).

The page and the pictures in files use the same ones.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, quantiles
from typing import Any

import numpy as np

from fmn.report import specs
from fmn.report.data import FisherMap, Merge, Report, Run
from fmn.report.specs import Spec
from fmn.report.theme import CATEGORIES, OTHER, ink_on

Row = dict[str, Any]
Columns = Mapping[str, str]
"""From a row's field to the heading that it has in a table."""

MOST_POINTS = 200
"""Of a curve, and of a strip of combinations: what has more is thinned out evenly."""
MOST_METHODS = 6
"""That are compared two by two."""
MOST_RUNS = 12
KINDS = dict(zip(("fisher", "merge", "evaluate", "publish"), CATEGORIES, strict=False))
OUTCOMES = {
    "computed": CATEGORIES[0],
    "cached": CATEGORIES[5],
    "skipped": OTHER,
    "failed": CATEGORIES[1],
}


@dataclass(frozen=True)
class Chart:
    """A picture, and the numbers in it.

    Attributes:
        title: above it.
        spec: how it is drawn: Vega-Lite, with data named ``rows``.
        rows: what is drawn.
        columns: those of the rows that a table shows.
    """

    title: str
    spec: Spec
    rows: Sequence[Row]
    columns: Columns

    def as_json(self) -> dict[str, Any]:
        """Return plain data, the rows as columns: a field's name is said once."""
        fields = list(self.rows[0]) if self.rows else []
        rows = {name: [row[name] for row in self.rows] for name in fields}
        return {"title": self.title, "spec": self.spec, "rows": rows, "columns": dict(self.columns)}


@dataclass(frozen=True)
class Charts:
    """The charts of a report; what has no data has no chart.

    Attributes:
        order: labels of the methods, those with the most measured merges first; their marks follow
            it.
        pairs: a heat map per method.
        sizes: score against number of models.
        methods: method against method.
        heads: by key of the Fisher, its map.
        curves: by key of the Fisher, its sorted neurons, unless all of them are 0.
        seconds: of computing, per run.
        counts: what runs computed and what they found in the store.
    """

    order: Sequence[str]
    pairs: Sequence[Chart]
    sizes: Chart | None
    methods: Chart | None
    heads: Mapping[str, Chart]
    curves: Mapping[str, Chart]
    seconds: Chart | None
    counts: Chart | None


def charts(data: Report) -> Charts:
    """Compute the rows of every chart of a report."""
    scored = _scored(data)
    runs = sorted(data.runs, key=lambda run: run.at, reverse=True)[:MOST_RUNS]
    names = model_labels(data)
    maps = [fisher for fisher in data.fishers if fisher.kind == "mask-fisher"]
    return Charts(
        order=list(scored),
        pairs=_pairs(scored, names),
        sizes=_sizes(scored),
        methods=_methods(scored, names),
        heads={fisher.key: _heads(fisher, names[fisher.model]) for fisher in maps},
        curves={
            fisher.key: chart for fisher in maps if (chart := _curves(fisher, names[fisher.model]))
        },
        seconds=_seconds(runs),
        counts=_counts(runs),
    )


def model_labels(data: Report) -> list[str]:
    """Return what charts call each model: its name, and digits of its key if names coincide."""
    names = Counter(model.name for model in data.models)
    return [
        model.name if names[model.name] == 1 else f"{model.name} ({model.key[:6]})"
        for model in data.models
    ]


def method_labels(data: Report) -> dict[str, str]:
    """Return what charts call each merge's method, by key.

    This is its name, with the parameters in which merges by it differ.
    """
    values: dict[str, dict[str, set[str]]] = {}
    for merge in data.merges:
        for name, value in _settings(merge).items():
            values.setdefault(merge.method, {}).setdefault(name, set()).add(value)
    differing = {
        method: [name for name, said in found.items() if len(said) > 1]
        for method, found in values.items()
    }
    return {merge.key: _label(merge, differing[merge.method]) for merge in data.merges}


def _settings(merge: Merge) -> dict[str, str]:
    equal = len({part.weight for part in merge.parts}) <= 1
    return {**merge.parameters, "λ": "equal" if equal else "own"}


def _label(merge: Merge, differing: Iterable[str]) -> str:
    said = _settings(merge)
    return ", ".join([merge.method, *(f"{name} {said.get(name, 'unset')}" for name in differing)])


Scored = Mapping[str, Mapping[tuple[int, ...], Merge]]
"""From the label of a method to its best merge of each set of models; methods with the most merges
first.
"""


def _scored(data: Report) -> Scored:
    labels = method_labels(data)
    found: dict[str, dict[tuple[int, ...], Merge]] = {}
    for merge in sorted(data.merges, key=lambda merge: merge.key):
        if merge.mean is None:
            continue
        models = tuple(sorted(part.model for part in merge.parts))
        best = found.setdefault(labels[merge.key], {})
        if models not in best or merge.mean > (best[models].mean or 0.0):
            best[models] = merge
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), item[0])))


def _percent(merge: Merge) -> float:
    assert merge.mean is not None
    return 100 * merge.mean


def _pairs(scored: Scored, names: Sequence[str]) -> list[Chart]:
    of: Scored = {
        method: {
            models: merge for models, merge in best.items() if len(models) == len(set(models)) == 2
        }
        for method, best in scored.items()
    }
    means = [_percent(merge) for pairs in of.values() for merge in pairs.values()]
    if not means:
        return []
    low, high = _apart(min(means), max(means))
    models = [
        names[model]
        for model in sorted({model for pairs in of.values() for pair in pairs for model in pair})
    ]
    columns = {"row": "model", "column": "merged with", "mean": "mean, %", "scores": "each, %"}
    return [
        Chart(
            method,
            specs.pairs(method, models, (low, high)),
            _cells(pairs, names, low, high),
            columns,
        )
        for method, pairs in of.items()
        if pairs
    ]


def _cells(
    pairs: Mapping[tuple[int, ...], Merge], names: Sequence[str], low: float, high: float
) -> list[Row]:
    rows = []
    for merge in pairs.values():
        mean = _percent(merge)
        each = ", ".join(
            f"{part.name} {100 * part.normalized:.1f}"
            for part in merge.parts
            if part.normalized is not None
        )
        first, second = (names[part.model] for part in merge.parts)
        for row, column in ((first, second), (second, first)):
            rows.append(
                {
                    "row": row,
                    "column": column,
                    "mean": mean,
                    "scores": each,
                    "ink": ink_on((mean - low) / (high - low)),
                }
            )
    return rows


def _apart(low: float, high: float) -> tuple[float, float]:
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _sizes(scored: Scored) -> Chart | None:
    rows = []
    for number, (method, best) in enumerate(scored.items()):
        by_size: dict[int, list[float]] = {}
        for models, merge in best.items():
            by_size.setdefault(len(models), []).append(_percent(merge))
        beside = 0.09 * (number - (len(scored) - 1) / 2)
        rows += [
            {"method": method, "size": size, "x": size + beside, **_spread(by_size[size])}
            for size in sorted(by_size)
        ]
    if not rows:
        return None
    spec = specs.sizes(list(scored), max(row["size"] for row in rows))
    return Chart("Score and number of models", spec, rows, specs.SPREAD)


def _spread(values: Sequence[float]) -> Row:
    q1, _, q3 = quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {
        "combinations": len(values),
        "mean": fmean(values),
        "low": min(values),
        "q1": q1,
        "q3": q3,
        "high": max(values),
    }


def _methods(scored: Scored, names: Sequence[str]) -> Chart | None:
    rows = []
    for first, second in combinations(list(scored)[:MOST_METHODS], 2):
        if (both := _differences(scored[first], scored[second])) and fmean(both.values()) < 0:
            first, second, both = (
                second,
                first,
                {models: -difference for models, difference in both.items()},
            )
        wins = f"better in {sum(difference > 0 for difference in both.values())} of {len(both):,}"
        for number, (models, difference) in enumerate(
            _thinned(sorted(both.items(), key=lambda item: item[1]))
        ):
            rows.append(
                {
                    "comparison": f"{first} − {second}",
                    "models": " + ".join(names[model] for model in models),
                    "difference": difference,
                    "better": "first" if difference > 0 else "second",
                    "jitter": number * 0.618034 % 1,
                    "wins": wins,
                }
            )
    if not rows:
        return None
    columns = {"comparison": "methods", "models": "models", "difference": "difference, points"}
    comparisons = list(dict.fromkeys(row["comparison"] for row in rows))
    return Chart("Method against method", specs.methods(comparisons), rows, columns)


def _differences(
    first: Mapping[tuple[int, ...], Merge], second: Mapping[tuple[int, ...], Merge]
) -> dict[tuple[int, ...], float]:
    return {
        models: _percent(first[models]) - _percent(second[models])
        for models in first
        if models in second
    }


def _thinned(items: Sequence[Any]) -> Iterator[Any]:
    """Give so many of a sequence as can be drawn, evenly spread, both ends among them."""
    count = min(len(items), MOST_POINTS)
    return (items[round(number * (len(items) - 1) / max(count - 1, 1))] for number in range(count))


def _range(values: Any) -> tuple[float, float]:
    """Return the ends of a logarithmic scale for some values: those of the positive ones."""
    positive = values[values > 0]
    low, high = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
    return (low, high) if low < high else (low / 2, high * 2)


def _heads(fisher: FisherMap, name: str) -> Chart:
    values, _ = fisher.values()
    low, high = _range(values)
    span = math.log(high / low)
    rows = [
        {
            "layer": layer,
            "head": head,
            "value": _short(value),
            "text": _tiny(value),
            "ink": ink_on(math.log(value / low) / span) if value > 0 else "",
        }
        for (layer, head), value in np.ndenumerate(values)
    ]
    columns = {"layer": "layer", "head": "head", "value": "Fisher"}
    return Chart("Attention heads", specs.heads(name, fisher.layers, low, high), rows, columns)


def _curves(fisher: FisherMap, name: str) -> Chart | None:
    _, values = fisher.values()
    count = fisher.neurons
    rows = [
        {"layer": layer, "fraction": round((rank + 0.5) / count, 5), "value": _short(curve[rank])}
        for layer, curve in enumerate(-np.sort(-values, axis=1))
        for rank in _thinned(range(np.count_nonzero(curve)))
    ]
    columns = {"layer": "layer", "fraction": "fraction", "value": "Fisher"}
    return (
        Chart(
            "Feed-forward neurons",
            specs.curves(name, *_range(values), dots=count == 1),
            rows,
            columns,
        )
        if rows
        else None
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _tiny(value: float) -> str:
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def _when(at: str) -> str:
    return at[:16].replace("T", " ")


def _seconds(runs: Sequence[Run]) -> Chart | None:
    rows: list[Row] = [
        {"run": _when(run.at), "kind": kind, "seconds": round(run.seconds[kind], 3)}
        for run in runs
        for kind in KINDS
        if kind in run.seconds
    ]
    about, kinds = (
        "Bars: seconds of computing in each run, by kind of step",
        {row["kind"] for row in rows},
    )
    spec = specs.stacked(
        about, len(runs), "seconds", "seconds of computing", "kind", _only(KINDS, kinds)
    )
    columns = {"run": "run", "kind": "kind", "seconds": "seconds"}
    return Chart("Seconds of computing", spec, rows, columns) if rows else None


def _counts(runs: Sequence[Run]) -> Chart | None:
    rows: list[Row] = [
        {"run": _when(run.at), "outcome": outcome, "kind": kind, "results": count}
        for run in runs
        for outcome, counts in _outcomes(run)
        for kind, count in counts.items()
        if count
    ]
    about, outcomes = (
        "Bars: results of each run, computed or taken from the store",
        {row["outcome"] for row in rows},
    )
    spec = specs.stacked(
        about, len(runs), "results", "results", "outcome", _only(OUTCOMES, outcomes)
    )
    columns = {"run": "run", "outcome": "outcome", "kind": "kind", "results": "results"}
    return Chart("Computed, and taken from the store", spec, rows, columns) if rows else None


def _only(colours: Mapping[str, str], names: Collection[str]) -> dict[str, str]:
    return {name: colour for name, colour in colours.items() if name in names}


def _outcomes(run: Run) -> list[tuple[str, Mapping[str, int]]]:
    return [
        ("computed", run.computed),
        ("cached", run.cached),
        ("skipped", run.skipped),
        ("failed", {"": len(run.failed)}),
    ]
