"""Scores of merges for eyes: beside those of the models, with how sure they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table as Drawn

from fmn.console.screen import Console
from fmn.console.tables import WIDE, in_percent, plain_table

if TYPE_CHECKING:
    from fmn.catalog import Catalog, Difference, Entry, Score

Cell = str | int | float | None


def means(catalog: Catalog, entry: Entry) -> Iterator[str]:
    """Say how sure the mean is, which models it would better leave out, and what is no loss."""
    from fmn.catalog import ELSEWHERE, against_own, mean_interval, read_paired

    if (mean := entry.mean()) is None:
        return
    if entry.is_chosen_elsewhere:
        yield ELSEWHERE
    paired = read_paired(catalog.store, entry)
    yield f"mean normalised {100 * mean:.2f}, {in_percent(mean_interval(entry, paired))}"
    if left_out := entry.at_chance():
        better = entry.mean_above_chance()
        rest = "" if better is None else f"; mean without: {100 * better:.2f}"
        yield f"no better than chance alone: {', '.join(left_out)}{rest}"
    inside = [name for name, each in against_own(entry, paired).items() if each.is_inside]
    if inside:
        yield f"merged - alone is inside the interval: {', '.join(inside)}"


def print_comparison(
    catalog: Catalog, entries: Sequence[Entry], apart: Mapping[str, Mapping[str, Difference]]
) -> None:
    """Print what differs between merges, their scores, and how sure their differences are.

    Args:
        catalog: that has them.
        entries: the merges.
        apart: by ID of all but the first, the differences from the first.
    """
    from fmn.catalog import differences

    ids = [catalog.short(entry) for entry in entries]
    console = Console(width=WIDE, highlight=False)
    rows = differences(entries)
    table = plain_table("What differs", ["", *ids], [])
    for name, values in rows.items():
        table.add_row(*map(escape, (name, *values)))
    console.print(table) if rows else console.print("their recipes are the same")
    scores = plain_table("Scores, % (merged / individual, %)", ["model"], ids)
    for name in sorted({name for entry in entries for name in entry.scores}):
        scores.add_row(escape(name), *(_cell(entry.scores.get(name)) for entry in entries))
    scores.add_row("mean normalised", *(shown(percent(entry.mean())) for entry in entries))
    scores.add_row("worst normalised", *(shown(percent(entry.worst())) for entry in entries))
    console.print(scores)
    names = list(dict.fromkeys(name for each in apart.values() for name in each))
    if not names:
        console.print("no interval: these have no predictions of the same examples in the store")
        return
    table = plain_table(f"Differences from {ids[0]}, %", ["model"], ids[1:])
    for name in names:
        cells = (_difference(apart[entry.id].get(name)) for entry in entries[1:])
        table.add_row(*map(escape, (name, *cells)))
    console.print(table)


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return "no interval"
    text = f"{100 * difference.value:+.2f} {in_percent(difference.interval)}"
    return f"{text}, inside the interval" if difference.is_inside else text


def table_of_scores(title: str, scores: Mapping[str, Score]) -> Drawn:
    """Return a table of every metric."""
    numbers = [
        "merged",
        "interval",
        "chance",
        "alone",
        "its interval",
        "merged / alone",
        "examples",
    ]
    table = plain_table(title, ["model", "metric"], numbers)
    for name, score in scores.items():
        for metric, value in score.metrics.items():
            own, chance = score.individual.get(metric), score.chance.get(metric)
            alone = (
                ("", "", "")
                if own is None
                else (
                    f"{100 * own:.2f}",
                    in_percent(score.own_intervals.get(metric)),
                    f"{100 * value / own:.1f}" if own else "",
                )
            )
            cells = (
                name,
                metric,
                f"{100 * value:.2f}",
                in_percent(score.intervals.get(metric)),
                "" if chance is None else f"{100 * chance:.2f}",
                *alone,
                f"{score.examples:,}",
            )
            table.add_row(*map(escape, cells))
    return table


def _cell(score: Score | None) -> str:
    if score is None:
        return ""
    share = score.normalized
    return f"{100 * score.value:.2f}" + ("" if share is None else f" ({100 * share:.0f})")


def percent(value: float | None) -> float | None:
    """Return a fraction in %, as it is shown."""
    return None if value is None else round(100 * value, 2)


def shown(value: Cell) -> str:
    """Return what a cell shows."""
    return "" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
