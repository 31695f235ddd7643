"""The protocol's results as tables and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from fmn.report.charts.chart import Spec
from fmn.report.charts.whiskers import Panel, Point
from fmn.report.documents import Table
from fmn.report.inspect import draw_curves
from fmn.steps.reproduce.beside import beside
from fmn.steps.reproduce.paper import speed_ups
from fmn.steps.reproduce.results import ColumnResult, Results, gaps

SIZE = "models merged at a time"


def documents(results: Results) -> list[Table]:
    """Return the tables: pairs, aggregate, times, sizes, those beside the paper, every score.

    Those without rows too.
    """
    ours = [make(results) for make in (_pairs, _aggregate, _times, _sizes)]
    return [*ours, *beside(results), _scores(results)]


def _pairs(results: Results) -> Table:
    outcomes = [outcome for outcome in results.outcomes if outcome.rows(2)]
    pairs = {tuple(row.scores): None for outcome in outcomes for row in outcome.rows(2)}
    cells = [
        {tuple(row.scores): 100 * outcome.report.mean(row) for row in outcome.rows(2)}
        for outcome in outcomes
    ]
    rows = [(" + ".join(pair), *(_number(of.get(pair)) for of in cells)) for pair in pairs]
    means = [("mean", *(_number(fmean(of.values())) for of in cells))] if rows else []
    return Table(
        "pairs",
        "Normalised score of every pair, %",
        ("pair",),
        tuple(outcome.column.label for outcome in outcomes),
        (*rows, *means),
        (
            "The mean over a pair's two tasks of the merged model's score / the model's own score.",
            *gaps(outcomes, 2),
        ),
    )


def _aggregate(results: Results) -> Table:
    rows = []
    for outcome in results.outcomes:
        if means := outcome.means(2):
            scores = [100 * score for row in outcome.rows(2) for score in row.scores.values()]
            gains = results.gains(outcome)
            against = (
                [_number(fmean(gains.values()), sign=True), _number(max(gains.values()), sign=True)]
                if gains
                else ["", ""]
            )
            above = f"{sum(gain > 0 for gain in gains.values())} of {len(gains)}" if gains else ""
            spread = _number(stdev(means)) if len(means) > 1 else ""
            numbers = (
                _number(fmean(means)),
                spread,
                _number(min(means)),
                _number(max(means)),
                *against,
                above,
                _number(fmean(scores)),
            )
            rows.append((outcome.column.title, outcome.column.examples, *numbers))
    return Table(
        "aggregate",
        "Aggregated over all pairs, %",
        ("method", "examples"),
        (
            "normalised",
            "std",
            "lowest",
            "highest",
            "against averaging",
            "largest gain",
            "pairs above",
            "score",
        ),
        tuple(rows),
        (
            "Normalised: mean over pairs; std: standard deviation over pairs. Against averaging, "
            "largest gain: points of the normalised score, mean over pairs and of the best pair. "
            "Score: mean over pairs and tasks, not normalised.",
            *gaps(results.outcomes, 2),
        ),
    )


def _times(results: Results) -> Table:
    timed = [outcome for outcome in results.outcomes if outcome.fishers]
    methods = {outcome.column.method: outcome.column.title for outcome in timed}
    others = [method for method in methods if "fisher" in methods and method != "fisher"]
    rows = [row for of in _by_examples(timed) for row in _timed(results, of, methods, others)]
    return Table(
        "times",
        "Seconds of each task's Fisher, and the speed-up over the full Fisher",
        ("task", "examples"),
        (
            *(f"{title}, s" for title in methods.values()),
            *(f"speed-up of {methods[method]}" for method in others),
        ),
        tuple(rows),
        (
            "Computing and writing the Fisher, one after the other; examples were tokenised and "
            "models loaded before, unless the Fisher is of a run of the zoo. The speed-up over all "
            "is the mean of the tasks'.",
            *_machines(timed),
        ),
    )


def _timed(
    results: Results, of: Mapping[str, ColumnResult], methods: Iterable[str], others: Iterable[str]
) -> Iterator[tuple[str, ...]]:
    """Iterate over the rows of Fishers over as many examples, by method: each model's, and all."""
    seconds = {method: outcome.seconds for method, outcome in of.items()}
    ratios = {m: speed_ups(seconds.get("fisher", {}), seconds.get(m, {})) for m in others}
    for name in results.names:
        records = [each.fishers[name] for each in of.values() if name in each.fishers]
        if records:
            yield (
                name,
                f"{max(record.inputs['settings']['samples'] for record in records):,}",
                *(_number(seconds.get(method, {}).get(name)) for method in methods),
                *(_number(ratios[method].get(name), digits=1) for method in others),
            )

    def of_all(by_name: Mapping[str, float], join: Callable[[Iterable[float]], float]) -> Any:
        return join(by_name.values()) if len(by_name) == len(results.names) else None

    yield (
        f"all {len(results.names)}",
        next(iter(of.values())).column.examples,
        *(_number(of_all(seconds.get(method, {}), sum)) for method in methods),
        *(_number(of_all(ratios[method], fmean), digits=1) for method in others),
    )


def _sizes(results: Results) -> Table:
    outcomes = [outcome for outcome in results.fewest() if outcome.report.rows]
    rows = []
    for size in results.sizes:
        means = [outcome.means(size) for outcome in outcomes]
        if any(means):
            rows.append(
                (
                    str(size),
                    str(max(map(len, means))),
                    *(_number(fmean(each) if each else None) for each in means),
                )
            )
    return Table(
        "sizes",
        "Mean normalised score by the number of merged models, %",
        (SIZE, "sets"),
        tuple(outcome.column.label for outcome in outcomes),
        tuple(rows),
        gaps(outcomes),
    )


def _scores(results: Results) -> Table:
    rows = []
    for outcome in results.outcomes:
        method, examples = outcome.column.method, outcome.column.examples.replace(",", "")
        for row in outcome.report.rows:
            normalized = outcome.report.normalized(row)
            for name, score in row.scores.items():
                own = results.individual[name]
                numbers = (
                    f"{100 * own:.4f}",
                    f"{100 * score:.4f}",
                    f"{100 * normalized[name]:.4f}",
                    *(f"{100 * end:.4f}" for end in row.intervals.get(name, ())),
                )
                numbers += ("",) * (5 - len(numbers))
                rows.append((" + ".join(row.scores), method, examples, name, *numbers))
    return Table(
        "scores",
        "Every score, %",
        ("models", "method", "examples", "task of"),
        ("own", "merged", "normalised", "low", "high"),
        tuple(rows),
        is_long=True,
    )


def picture(results: Results) -> Spec | None:
    """Draw the score by number of merged models, and that of pairs by number of examples."""
    panels = []
    fewest = [outcome for outcome in results.fewest() if len(outcome.report.sizes()) > 1]
    if fewest:
        curves = {
            outcome.column.title: _points(
                (str(s), outcome.means(s)) for s in outcome.report.sizes()
            )
            for outcome in fewest
        }
        places = tuple(str(size) for size in results.sizes)
        examples = next(
            (outcome.column.examples for outcome in fewest if outcome.column.examples), ""
        )
        title = f"Fishers over {examples} examples" if examples else "All sets"
        panels.append(Panel(title, SIZE, "normalised score, %", places, curves))
    pairs = [outcome for outcome in results.outcomes if outcome.rows(2)]
    places = tuple(
        dict.fromkeys(outcome.column.examples for outcome in pairs if outcome.column.examples)
    )
    if len(places) > 1:
        by_method: dict[str, list[tuple[str, list[float]]]] = {}
        for outcome in pairs:
            positions = [outcome.column.examples] if outcome.column.examples else places
            by_method.setdefault(outcome.column.title, []).extend(
                (place, outcome.means(2)) for place in positions
            )
        curves = {title: _points(points) for title, points in by_method.items()}
        panels.append(Panel("Pairs", "examples of a Fisher", "normalised score, %", places, curves))
    methods = {outcome.column.title: outcome.column.method for outcome in results.outcomes}
    title = "Mean and standard deviation over the sets of models"
    return draw_curves(panels, title, methods) if panels else None


def _points(
    means_by_place: Iterator[tuple[str, list[float]]] | Sequence[tuple[str, list[float]]],
) -> list[Point]:
    points = []
    for place, means in means_by_place:
        mean, spread = fmean(means), stdev(means) if len(means) > 1 else 0.0
        points.append(Point(place, mean, mean - spread, mean + spread))
    return points


def _by_examples(outcomes: Sequence[ColumnResult]) -> list[dict[str, ColumnResult]]:
    groups: dict[str, dict[str, ColumnResult]] = {}
    for outcome in outcomes:
        groups.setdefault(outcome.column.examples, {})[outcome.column.method] = outcome
    return list(groups.values())


def _machines(outcomes: Sequence[ColumnResult]) -> list[str]:
    """Say where the Fishers were computed, if in several places.

    Their seconds are hardly comparable then.
    """
    places = {
        (record.made.by, record.made.device)
        for outcome in outcomes
        for record in outcome.fishers.values()
    }
    devices = sorted({device for _, device in places})
    if len(places) < 2:
        return [f"On {device}." for device in devices]
    named = ", ".join(f"{device} of {by}" for by, device in sorted(places))
    return [f"Not all on one machine, so seconds are hardly comparable: {named}."]


def _number(value: float | None, *, sign: bool = False, digits: int = 2) -> str:
    return "" if value is None else f"{value:{'+' if sign else ''}.{digits}f}"
