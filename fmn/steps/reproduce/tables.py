"""The protocol's results as tables and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, stdev

from fmn.report.charts.chart import Spec
from fmn.report.charts.whiskers import Panel, Point
from fmn.report.documents import Table
from fmn.report.inspect import draw_curves
from fmn.steps.reproduce.paper import GAIN, SPEED_UP, Claim
from fmn.steps.reproduce.protocol import PUBLISHED
from fmn.steps.reproduce.results import ColumnResult, Results

SIZE = "models merged at a time"
MASKED = ("mask-fisher", PUBLISHED)
"""The paper's own methods."""


def documents(results: Results) -> list[Table]:
    """Return the tables: pairs, aggregate, times, paper, sizes, and every single score.

    Those without rows too.
    """
    return [make(results) for make in (_pairs, _aggregate, _times, _paper, _sizes, _scores)]


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
            *_gaps(outcomes, 2),
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
            *_gaps(results.outcomes, 2),
        ),
    )


def _times(results: Results) -> Table:
    timed = [outcome for outcome in results.outcomes if outcome.fishers]
    methods = {outcome.column.method: outcome.column.title for outcome in timed}
    full = methods.get("fisher")
    others = [method for method in methods if full and method != "fisher"]
    rows = []
    for of in _by_examples(timed):
        names = [
            name
            for name in results.names
            if any(name in outcome.fishers for outcome in of.values())
        ]
        for name in names:
            counts = {
                outcome.fishers[name].inputs["settings"]["samples"]
                for outcome in of.values()
                if name in outcome.fishers
            }
            seconds = {
                m: outcome.fishers[name].made.seconds
                for m, outcome in of.items()
                if name in outcome.fishers
            }
            rows.append(
                (name, f"{max(counts):,}", *_seconds(methods, seconds), *_ratios(others, seconds))
            )
        whole = {
            m: outcome for m, outcome in of.items() if len(outcome.fishers) == len(results.names)
        }
        sums = {
            m: sum(record.made.seconds for record in outcome.fishers.values())
            for m, outcome in whole.items()
        }
        examples = next(iter(of.values())).column.examples
        rows.append(
            (
                f"all {len(results.names)}",
                examples,
                *_seconds(methods, sums),
                *_ratios(others, sums),
            )
        )
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
            "models loaded before, unless the Fisher is of a run of the zoo.",
            *_machines(timed),
        ),
    )


def _paper(results: Results) -> Table:
    masked = [outcome for outcome in results.outcomes if outcome.column.method in MASKED]
    gains = {
        outcome.column.label: of_pairs for outcome in masked if (of_pairs := results.gains(outcome))
    }
    rows = []
    if gains:
        means = {label: fmean(of_pairs.values()) for label, of_pairs in gains.items()}
        pairs = {
            (label, pair): gain
            for label, of_pairs in gains.items()
            for pair, gain in of_pairs.items()
        }
        best, single = (
            max(means, key=lambda label: means[label]),
            max(pairs, key=lambda pair: pairs[pair]),
        )
        here = (
            f"{_number(means[best], sign=True)} on average ({best}), "
            f"{_number(pairs[single], sign=True)} at most "
        )
        rows.append((*_claimed(GAIN), here + f"({' + '.join(single[1])}, {single[0]})"))
    if ratios := [*_speed_ups(results)]:
        same = [ratio for ratio, is_same in ratios if is_same]
        here = f"{min(same):.1f}x to {max(same):.1f}x over as many examples" if same else ""
        most = max(ratio for ratio, _ in ratios)
        rows.append(
            (
                *_claimed(SPEED_UP),
                f"{here}; {most:.1f}x at most, the fewest examples against the most".lstrip("; "),
            )
        )
    return Table(
        "paper",
        "Beside the paper",
        ("what", "models of the paper", "the paper", "where", "here"),
        (),
        tuple(rows),
        ("Other models, data and machines: agreement is not to be expected to the digit.",),
    )


def _claimed(claim: Claim) -> tuple[str, ...]:
    return claim.what, claim.models, claim.value, claim.source


def _speed_ups(results: Results) -> Iterator[tuple[float, bool]]:
    """Iterate over the ratios of all tasks' seconds, and whether both are over as many examples."""
    totals: dict[str, list[tuple[str, float]]] = {}
    for outcome in results.outcomes:
        if outcome.fishers and len(outcome.fishers) == len(results.names):
            seconds = sum(record.made.seconds for record in outcome.fishers.values())
            totals.setdefault(outcome.column.method, []).append((outcome.column.examples, seconds))
    for examples, full in totals.get("fisher", ()):
        for method in MASKED:
            for others, mask in totals.get(method, ()):
                yield full / mask, examples == others


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
        _gaps(outcomes),
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


def _seconds(methods: Sequence[str] | dict[str, str], seconds: dict[str, float]) -> list[str]:
    return [f"{seconds[method]:.2f}" if method in seconds else "" for method in methods]


def _ratios(others: Sequence[str], seconds: dict[str, float]) -> list[str]:
    full = seconds.get("fisher")
    return [
        f"{full / seconds[method]:.1f}" if full and seconds.get(method) else "" for method in others
    ]


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


def _gaps(outcomes: Sequence[ColumnResult], size: int | None = None) -> tuple[str, ...]:
    missing = sum(outcome.missing(size) for outcome in outcomes)
    return (
        (f"Merges that are not measured yet: {missing}; means are over the others.",)
        if missing
        else ()
    )


def _number(value: float | None, *, sign: bool = False) -> str:
    return "" if value is None else f"{value:+.2f}" if sign else f"{value:.2f}"
