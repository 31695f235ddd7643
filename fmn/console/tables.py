"""Results as tables: for eyes (rich) and for documents (Markdown)."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from fmn.catalog import ELSEWHERE, MOST
from fmn.console.output import echo
from fmn.console.screen import Console
from fmn.report.documents import Table as Document
from fmn.steps.scores import TaskScores
from fmn.steps.zoo.leaderboard import Row, ZooReport
from fmn.steps.zoo.plan import ZooPlan
from fmn.steps.zoo.standing import Standing, Standings

WIDE = 1000
"""Columns that a table may take: off a terminal, or on a narrow one, numbers are not to be cut off.
"""

REASONS = 8
"""Lines per kind of step; a plan says the commonest first."""


def print_scores(scores: Sequence[TaskScores]) -> None:
    """Print one line per task and metric."""
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("task", "metric"):
        table.add_column(heading)
    for heading in ("score", "interval", "chance", "examples", "seconds"):
        table.add_column(heading, justify="right")
    for task in scores:
        for number, (metric, value) in enumerate(task.metrics.items()):
            rest = (str(task.examples), f"{task.seconds:.1f}") if number == 0 else ("", "")
            chance = task.chance.get(metric)
            cells = (
                f"{100 * value:.2f}",
                in_percent(task.intervals.get(metric)),
                "" if chance is None else f"{100 * chance:.2f}",
                *rest,
            )
            table.add_row(task.label if number == 0 else "", metric, *map(escape, cells))
    Console(width=WIDE).print(table)


def print_zoo(report: ZooReport, standings: Standings, *, markdown: bool = False) -> None:
    """Print merges' scores beside the models' own, means by method, and where the time went.

    Args:
        report: of the zoo.
        standings: of it: how sure the means are.
        markdown: for documents.
    """
    if not report.rows:
        echo("no merge has been measured yet")
        return
    of_rows = standings.rows
    merges, methods = _merges(report, of_rows, markdown), _means(report, standings, markdown)
    tables = [merges, methods, _seconds(report, markdown)]
    if markdown:
        echo("\n\n".join(_as_markdown(table) for table in tables))
    else:
        console = Console(width=WIDE)
        for table in tables:
            console.print(table)
    if report.is_chosen_elsewhere:
        echo(f"\n{ELSEWHERE}")
    if not all(standing.mean for standing in of_rows):
        many = f": more than {MOST:,} merges" if len(of_rows) > MOST else ""
        echo(f"\nsome means have no interval{many}; see 'fmn catalog show'")
    if report.at_chance:
        echo(f"\nno better than chance alone: {', '.join(report.at_chance)}")


def print_plan(plan: ZooPlan) -> None:
    """Print what is cached, what would be computed, and why."""
    console = Console(width=WIDE)
    table = _table("Plan", False, ["step"], ["in the store", "to compute"])
    reasons = _table("Why", False, ["step", "because"], ["steps"])
    for name, part in plan.parts().items():
        table.add_row(name, f"{len(part.hits):,}", f"{len(part.misses):,}")
        for number, (reason, count) in enumerate(list(part.reasons.items())[:REASONS]):
            reasons.add_row(name if number == 0 else "", reason, f"{count:,}")
        if len(part.reasons) > REASONS:
            reasons.add_row("", f"and {len(part.reasons) - REASONS} other reasons", "")
    console.print(table)
    if not plan.is_done:
        console.print(reasons)
    console.print(
        f"Fishers in the store: {plan.cached_bytes / 1e6:,.1f} MB; to be stored: "
        f"{plan.new_bytes / 1e6:,.1f} MB"
    )
    for name, why in plan.broken.items():
        console.print(f"{name} cannot take part: {why}", style="red", highlight=False)


def print_table(table: Document) -> None:
    """Print a table that goes into documents as well."""
    console = Console(width=WIDE)
    plain = _table(table.title, False, table.names, table.numbers)
    for row in table.rows:
        plain.add_row(*map(escape, row))
    console.print(plain)
    for note in table.notes:
        console.print(note, markup=False, highlight=False)


def in_percent(interval: Sequence[float] | None) -> str:
    """Return an interval in %."""
    return f"[{100 * interval[0]:.2f}, {100 * interval[1]:.2f}]" if interval else "no interval"


def plain_table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    """Return a table for eyes: columns of text, then of numbers."""
    return _table(title, False, names, numbers)


def _table(title: str, markdown: bool, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(
        title=title or None, title_justify="left", box=box.MARKDOWN if markdown else box.SIMPLE_HEAD
    )
    for name in names:
        table.add_column(name, no_wrap=True)
    for number in numbers:
        table.add_column(number, justify="right", no_wrap=True)
    return table


def _merges(report: ZooReport, of_rows: Sequence[Standing], markdown: bool) -> Table:
    tasks = list(report.individual)
    table = _table(
        "Scores: merged (merged / individual, %)",
        markdown,
        ["models", "method"],
        [*tasks, "mean", "interval", "from the best"],
    )
    table.add_row(
        "each alone",
        "",
        *(f"{100 * report.individual[task]:.2f}" for task in tasks),
        *("", "", ""),
        end_section=not markdown,
    )
    previous: tuple[str, ...] = ()
    for row, standing in zip(report.rows, of_rows, strict=True):
        names = tuple(row.scores)
        table.add_row(
            "" if names == previous and not markdown else _named(names, tasks),
            row.method,
            *(_cell(report, row, task) for task in tasks),
            f"{100 * report.mean(row):.2f}",
            *map(escape, in_words(standing)),
            end_section=row.method == report.rows[-1].method and not markdown,
        )
        previous = names
    return table


def in_words(standing: Standing) -> tuple[str, str]:
    """Say how sure a mean is, and how sure it is below the best of the same models."""
    shown, apart = in_percent(standing.mean), standing.from_best
    if apart is None:
        return shown, "best" if standing.is_best else ""
    return shown, f"{100 * apart.value:+.2f}" + ", inside the interval" * apart.is_inside


def _named(names: Sequence[str], tasks: Sequence[str]) -> str:
    return f"all {len(tasks)}" if len(names) == len(tasks) and len(tasks) > 3 else " + ".join(names)


def _cell(report: ZooReport, row: Row, task: str) -> str:
    if task not in row.scores:
        return ""
    return f"{100 * row.scores[task]:.2f} ({100 * report.normalized(row)[task]:.0f})"


def _means(report: ZooReport, standings: Standings, markdown: bool) -> Table:
    sizes = report.sizes()
    table = _table(
        "Mean normalised score, %",
        markdown,
        ["method"],
        [*(f"{size} models" for size in sizes), "all merges", "interval", "from the best"],
    )
    for method in report.methods():
        measured = report.sizes(method)
        cells = (
            f"{100 * report.mean_of(method, size):.2f}" if size in measured else ""
            for size in sizes
        )
        every = f"{100 * report.mean_of(method):.2f}"
        table.add_row(method, *cells, every, *map(escape, in_words(standings.methods[method])))
    return table


def _seconds(report: ZooReport, markdown: bool) -> Table:
    table = _table("Seconds", markdown, ["part"], ["of computing"])
    for part, seconds in report.seconds.items():
        table.add_row(part, f"{seconds:.1f}")
    return table


def _as_markdown(table: Table) -> str:
    title, table.title = table.title, None
    text = io.StringIO()
    Console(width=WIDE, file=text).print(table)
    lines = (line.rstrip() for line in text.getvalue().splitlines())
    return f"{title}:\n\n" + "\n".join(line for line in lines if line)
