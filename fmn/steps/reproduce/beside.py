"""The paper's figures beside a zoo's, with the differences, and what differs in the set-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from fmn.report.documents import Table
from fmn.steps.reproduce.paper import (
    EXAMPLES,
    STATED_SPEED_UPS,
    ByModel,
    Paper,
    read_paper,
    speed_ups,
)
from fmn.steps.reproduce.protocol import METHODS, PUBLISHED, TITLES
from fmn.steps.reproduce.results import ColumnResult, Results, gaps

HELD = {"mask-fisher": ("mask-fisher", PUBLISHED)}
"""Our methods that are held against one of the paper, where that is not the one of its name."""

FEWER = "Here a task that has fewer examples gives all that it has."
FORMULAS_OR_CODE = (
    "The paper's mask Fisher stands beside ours by its formulas and, as the published code, beside "
    "ours by that code's settings."
)


class Line(NamedTuple):
    """A figure of ours beside the paper's.

    Attributes:
        labels: what it is of.
        here: ours, if it was measured.
        paper: the paper's, by its models, if it has any.
    """

    labels: tuple[str, ...]
    here: float | None
    paper: ByModel


def beside(results: Results) -> list[Table]:
    """Return the tables: scores, gains, seconds, speed-ups, and what differs in the set-up.

    Tables of which nothing was measured have no rows.
    """
    paper = read_paper()
    tables = [make(results, paper) for make in (_scores, _gains, _seconds, _speed_ups)]
    setup = Table(
        "paper-setup",
        "What differs in the set-up",
        ("what", "the paper", "here"),
        (),
        results.setup if any(table.rows for table in tables) else (),
    )
    return [*tables, setup]


def _scores(results: Results, paper: Paper) -> Table:
    def here(outcome: ColumnResult) -> float | None:
        means = outcome.means(2)
        return fmean(means) if means else None

    lines = [
        Line(labels, here(outcome) if outcome else None, paper.normalised[row])
        for labels, outcome, row in _merged(results, paper)
    ]
    title = "Beside table 1 of the paper: normalised score, aggregated over all pairs, %"
    return _table("paper-scores", title, ("method", "examples"), lines, 1, _remarks(results))


def _gains(results: Results, paper: Paper) -> Table:
    def here(outcome: ColumnResult) -> float | None:
        gains = results.gains(outcome).values()
        return fmean(gains) if gains else None

    lines = [
        Line(labels, here(outcome) if outcome else None, paper.gains(*row))
        for labels, outcome, row in _merged(results, paper)
        if row != ("average", None)
    ]
    title = "Beside table 1 of the paper: points of that score above averaging"
    names = ("method", "examples")
    return _table("paper-gains", title, names, lines, 1, _remarks(results), sign=True)


def _merged(
    results: Results, paper: Paper
) -> list[tuple[tuple[str, str], ColumnResult | None, tuple[str, int | None]]]:
    """Return table 1's rows: labels, our column, the paper's row; in the order of our columns."""
    merged = []
    rows = sorted(paper.normalised, key=lambda row: (row[1] or 0, METHODS.index(row[0])))
    for method, examples in rows:
        for ours in _held(results, method):
            labels = TITLES[ours], f"{examples:,}" if examples else ""
            merged.append((labels, results.over(ours, examples), (method, examples)))
    return merged


def _held(results: Results, method: str) -> list[str]:
    """Return our methods beside one of the paper's; the published code's, if it was asked for."""
    asked = {outcome.column.method for outcome in results.outcomes}
    return [ours for ours in HELD.get(method, (method,)) if ours in asked or ours == method]


def _remarks(results: Results) -> tuple[str, ...]:
    twice = [FORMULAS_OR_CODE] if PUBLISHED in _held(results, "mask-fisher") else []
    return " ".join([FEWER, *twice]), *gaps(results.outcomes, 2)


def _seconds(results: Results, paper: Paper) -> Table:
    lines = []
    for method, by_task in paper.seconds.items():
        for ours in _held(results, method):
            seconds = _timed(results, ours)
            lines += _by_task(TITLES[ours], seconds, by_task, paper.means[method], results)
    title = f"Beside tables 2 and 3 of the paper: seconds of a Fisher over {EXAMPLES} examples"
    notes = (f"{FEWER} The paper's means are those that it prints.", *_other_tasks(results, paper))
    return _table("paper-seconds", title, ("method", "task"), lines, 3, notes)


def _speed_ups(results: Results, paper: Paper) -> Table:
    by_task = paper.speed_ups()
    means = {m: fmean(of[m] for of in by_task.values()) for m in paper.models}
    full = _timed(results, "fisher")
    lines = []
    for ours in _held(results, "mask-fisher"):
        ratios = speed_ups(full, _timed(results, ours))
        lines += _by_task(TITLES[ours], ratios, by_task, means, results)
    lowest, highest = STATED_SPEED_UPS
    return _table(
        "paper-speed-up",
        "Beside tables 2 and 3 of the paper: speed-up, seconds of the full Fisher / this one's",
        ("method", "task"),
        lines,
        1,
        (
            f"{FEWER} The mean over tasks is that of the tasks' speed-ups, and not the ratio of "
            f"mean seconds; the paper states {lowest}x to {highest}x.",
            *_other_tasks(results, paper),
        ),
    )


def _timed(results: Results, method: str) -> Mapping[str, float]:
    """Return the seconds of each model's Fisher over as many examples as the paper's, by name."""
    outcome = results.over(method, EXAMPLES)
    return outcome.seconds if outcome else {}


def _by_task(
    title: str,
    here: Mapping[str, float],
    by_task: Mapping[str, ByModel],
    means: ByModel,
    results: Results,
) -> list[Line]:
    """Return a line for each task of the paper, for each other model of ours, and for the means."""
    names: dict[str, list[str]] = {task: [] for task in by_task}
    for name in results.names:
        names.setdefault(results.tasks[name], []).append(name)
    lines = [
        Line((title, name), here.get(name), by_task.get(task, {}))
        for task, of_task in names.items()
        for name in of_task or [task]
    ]
    whole = fmean(here.values()) if here and here.keys() >= set(results.names) else None
    return [*lines, Line((title, "mean"), whole, means)]


def _other_tasks(results: Results, paper: Paper) -> list[str]:
    """Say over what means are, if not over the paper's tasks alone."""
    ours = sorted(results.tasks.values())
    if ours == sorted(paper.tasks):
        return []
    return [f"Means: here over {', '.join(ours)}; the paper's over {', '.join(paper.tasks)}."]


def _table(
    name: str,
    title: str,
    names: tuple[str, ...],
    lines: Sequence[Line],
    digits: int,
    notes: tuple[str, ...],
    *,
    sign: bool = False,
) -> Table:
    """Return lines as a table, with here - paper; without rows, if nothing was measured.

    Args:
        name: of its files.
        title: above.
        names: headings of the lines' labels.
        lines: ours and the paper's.
        digits: that the paper prints; ours and differences have two at least.
        notes: below.
        sign: figures have one.
    """
    models = read_paper().models
    plus, finer = "+" if sign else "", max(digits, 2)

    def row(line: Line) -> tuple[str, ...]:
        papers = [f"{line.paper[m]:{plus}.{digits}f}" if m in line.paper else "" for m in models]
        ours, off = "", [""] * len(models)
        if (here := line.here) is not None:
            ours = f"{here:{plus}.{finer}f}"
            off = [f"{here - line.paper[m]:+.{finer}f}" if m in line.paper else "" for m in models]
        return (*line.labels, ours, *papers, *off)

    measured = any(line.here is not None for line in lines)
    return Table(
        name,
        title,
        names,
        ("here", *models, *(f"here - {model}" for model in models)),
        tuple(map(row, lines)) if measured else (),
        notes,
    )
