"""What merges kept, as tables and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev

from fmn.report.charts.chart import Spec
from fmn.report.charts.whiskers import Panel, Point
from fmn.report.documents import Table
from fmn.report.inspect import draw_curves
from fmn.steps.reproduce.quality import LEADERS, Kept

UNIT = "normalised score, %"
MEANING = (
    "Merged / individual score in %, mean over the tasks whose own model is better than chance, "
    "and in brackets the lowest of any task."
)


def documents(kept: Sequence[Kept], models: int) -> list[Table]:
    """Return the tables: all models, pairs, sizes, examples, and every merge.

    Args:
        kept: every merge that was measured.
        models: in the zoo.
    """
    first = _first(kept)
    return [
        _all(kept, models, first),
        _pairs(kept, first),
        _sizes(kept, first),
        _samples(kept, models),
        _quality(kept),
    ]


def _all(kept: Sequence[Kept], models: int, first: int | None) -> Table:
    def cells(merges: Sequence[Kept]) -> tuple[str, str]:
        each = merges[0]
        interval = (
            ""
            if each.interval is None
            else "{:.1f} to {:.1f}".format(*(100 * end for end in each.interval))
        )
        return _with_worst(merges), interval

    rows = _by_method(kept, lambda each: len(each.models) == models, first, cells, 2)
    return Table(
        "all",
        f"All {models} models merged, {_examples(first)}",
        ("method", "needs"),
        ("own heads", "own, 95 %", "refitted heads", "refitted, 95 %"),
        rows,
        (
            MEANING,
            "95 %: the interval of that mean, bootstrap over examples, paired with the models' own "
            "scores.",
        ),
    )


def _pairs(kept: Sequence[Kept], first: int | None) -> Table:
    def cells(merges: Sequence[Kept]) -> tuple[str, str]:
        return _with_worst(merges), _percent(min(each.fair for each in merges))

    rows = _by_method(kept, lambda each: len(each.models) == 2, first, cells, 2)
    return Table(
        "pairs",
        f"Pairs, {_examples(first)}",
        ("method", "needs"),
        ("own heads", "own, lowest pair", "refitted heads", "refitted, lowest pair"),
        rows,
        (MEANING, "Mean over the pairs."),
    )


def _sizes(kept: Sequence[Kept], first: int | None) -> Table:
    chosen = [each for each in _over(kept, first) if each.heads == "refit"]
    methods = _methods(each for each in chosen if each.method in LEADERS)
    rows = []
    for size in sorted({len(each.models) for each in chosen}):
        groups = [
            [each for each in chosen if len(each.models) == size and each.method == method]
            for method in methods
        ]
        sets = max(map(len, groups), default=0)
        if sets:
            rows.append((str(size), str(sets), *map(_with_worst, groups)))
    return Table(
        "sizes",
        f"By the number of merged models, refitted heads, {_examples(first)}",
        ("models", "sets"),
        tuple(methods),
        tuple(rows) if len(rows) > 1 else (),
        (MEANING,),
    )


def _samples(kept: Sequence[Kept], models: int) -> Table:
    chosen = [each for each in kept if len(each.models) == models and each.heads == "refit"]
    numbers = sorted({each.samples for each in chosen if each.samples is not None})
    rows = []
    for method in _methods(chosen):
        groups = [
            [each for each in chosen if each.method == method and each.samples == number]
            for number in numbers
        ]
        rows.append((method, *map(_with_worst, groups)))
    return Table(
        "examples",
        f"All {models} models by the number of examples of a task, refitted heads",
        ("method",),
        tuple(f"{number:,}" for number in numbers),
        tuple(rows) if len(numbers) > 1 else (),
        (MEANING,),
    )


def _quality(kept: Sequence[Kept]) -> Table:
    rows = []
    for each in kept:
        low, high = each.interval or (None, None)
        rows.append(
            (
                " + ".join(each.models),
                each.method,
                each.heads,
                " + ".join(each.needs),
                "" if each.samples is None else str(each.samples),
                *(
                    "" if value is None else f"{100 * value:.3f}"
                    for value in (each.mean, each.mean_above_chance, each.worst, low, high)
                ),
                f"{each.seconds:.2f}",
                str(each.bytes),
            )
        )
    return Table(
        "quality",
        "Every merge",
        ("models", "method", "heads", "needs"),
        ("samples", "mean", "mean_above_chance", "worst", "low", "high", "seconds", "bytes"),
        tuple(rows),
        is_long=True,
    )


def picture(kept: Sequence[Kept], models: int) -> Spec | None:
    """Draw what refitted merges keep by number of models, and of all models by examples."""
    first = _first(kept)
    refitted = [each for each in kept if each.heads == "refit" and each.method in LEADERS]
    methods, panels = _methods(refitted), []

    def curves(chosen: Sequence[Kept], place: Callable[[Kept], int]) -> dict[str, list[Point]]:
        drawn: dict[str, list[Point]] = {}
        for method in methods:
            groups: dict[int, list[float]] = {}
            for each in chosen:
                if each.method == method:
                    groups.setdefault(place(each), []).append(100 * each.fair)
            drawn[method] = [_point(f"{at:,}", groups[at]) for at in sorted(groups)]
        return drawn

    by_size = _over(refitted, first)
    sizes = sorted({len(each.models) for each in by_size})
    if len(sizes) > 1:
        places = tuple(map(str, sizes))
        drawn = curves(by_size, lambda each: len(each.models))
        title = f"Refitted heads, {_examples(first)}"
        panels.append(Panel(title, "models merged at a time", UNIT, places, drawn))
    of_all = [each for each in refitted if len(each.models) == models and each.samples]
    numbers = sorted({each.samples for each in of_all if each.samples is not None})
    if len(numbers) > 1:
        places = tuple(f"{number:,}" for number in numbers)
        drawn = curves(of_all, lambda each: each.samples or 0)
        title = f"Refitted heads, all {models} models"
        panels.append(Panel(title, "examples of a task", UNIT, places, drawn))
    title = "What merges keep of their models: mean and standard deviation over sets"
    return draw_curves(panels, title, {method: method for method in methods}) if panels else None


def _by_method(
    kept: Sequence[Kept],
    of: Callable[[Kept], bool],
    first: int | None,
    cells: Callable[[Sequence[Kept]], tuple[str, ...]],
    width: int,
) -> tuple[tuple[str, ...], ...]:
    """Return a row a method: its name, what it needs, and cells of own and of refitted heads."""
    chosen = [each for each in _over(kept, first) if of(each)]
    rows = []
    for method in _methods(chosen):
        row = [method, ""]
        for heads in ("own", "refit"):
            merges = [each for each in chosen if (each.method, each.heads) == (method, heads)]
            if merges and heads == "own":
                row[1] = " + ".join(merges[0].needs) or "nothing"
            row += cells(merges) if merges else [""] * width
        rows.append(tuple(row))
    return tuple(rows)


def _over(kept: Sequence[Kept], samples: int | None) -> list[Kept]:
    """Return the merges over so many examples, and those that took none."""
    return [each for each in kept if each.samples in (None, samples)]


def _first(kept: Sequence[Kept]) -> int | None:
    """Return over how many examples most sets of models were merged."""
    sets: dict[int, set[tuple[str, ...]]] = {}
    for each in kept:
        if each.samples is not None:
            sets.setdefault(each.samples, set()).add(each.models)
    return max(sets, key=lambda samples: len(sets[samples]), default=None)


def _methods(kept: Iterable[Kept]) -> list[str]:
    return list(dict.fromkeys(each.method for each in kept))


def _examples(samples: int | None) -> str:
    return "no examples" if samples is None else f"{samples:,} examples of a task"


def _with_worst(merges: Sequence[Kept]) -> str:
    if not merges:
        return ""
    mean, worst = fmean(each.fair for each in merges), min(each.worst for each in merges)
    return f"{_percent(mean)} [{100 * worst:.0f}]"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _point(at: str, values: Sequence[float]) -> Point:
    mean, spread = fmean(values), stdev(values) if len(values) > 1 else 0.0
    return Point(at, mean, mean - spread, mean + spread)
