"""The catalog as tables: for eyes (rich) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table as Drawn

from fmn.cli.scores import Cell, means, percent, shown, table_of_scores
from fmn.console.output import echo
from fmn.console.screen import Console
from fmn.console.tables import WIDE, plain_table
from fmn.errors import ParamsError, unknown
from fmn.statistics import title_of

if TYPE_CHECKING:
    from fmn.catalog import Catalog, Entry
    from fmn.store import Record

Table = tuple[list[str], list[list[Cell]]]
"""Headings and rows."""

COLUMNS: Mapping[str, Callable[[Catalog, Entry], Cell]] = {
    "id": lambda catalog, entry: catalog.short(entry),
    "models": lambda catalog, entry: " + ".join(entry.parts),
    "method": lambda catalog, entry: entry.method,
    "heads": lambda catalog, entry: entry.heads,
    "mean": lambda catalog, entry: percent(entry.mean()),
    "worst": lambda catalog, entry: percent(entry.worst()),
    "size": lambda catalog, entry: len(entry.parts),
    "tags": lambda catalog, entry: " ".join(entry.tags),
    "at": lambda catalog, entry: entry.record.made.at,
    "by": lambda catalog, entry: entry.record.made.by,
    "examples": lambda catalog, entry: entry.evaluations[0].examples if entry.evaluations else None,
    "parameters": lambda catalog, entry: ", ".join(
        f"{name} {value}" for name, value in entry.parameters.items()
    ),
    "weights": lambda catalog, entry: " ".join(
        f"{name} {part.weight:g}" for name, part in entry.parts.items()
    ),
    "seconds": lambda catalog, entry: round(sum(entry.seconds.values()), 3),
    "kept": lambda catalog, entry: "yes" if entry.kept else "",
    "fmn": lambda catalog, entry: entry.record.made.versions.get("fmn"),
}
"""What a column shows; beside these, every task names a column, for the merge's score."""

USUAL = ("id", "models", "method", "heads", "mean", "worst", "*", "tags", "at")
"""The columns that are shown unsaid; ``*`` stands for every task."""


def listed(catalog: Catalog, entries: Sequence[Entry], columns: Sequence[str]) -> Table:
    """Return the chosen columns of merges.

    Raises:
        ParamsError: no such column.
    """
    from fmn.catalog import task_score

    tasks = sorted({task for entry in entries for task in entry.tasks})
    chosen = [
        name for column in columns or USUAL for name in (tasks if column == "*" else [column])
    ]
    for name in chosen:
        if name not in COLUMNS and name not in tasks:
            raise ParamsError(
                unknown(
                    "column", name, [*COLUMNS, *tasks], "a task's name is its score, * every task's"
                )
            )
    rows: list[list[Cell]] = [
        [
            COLUMNS[name](catalog, entry) if name in COLUMNS else percent(task_score(entry, name))
            for name in chosen
        ]
        for entry in entries
    ]
    return chosen, rows


def as_csv(table: Table) -> str:
    """Return a table as CSV, with a line of headings."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([table[0], *table[1]])
    return text.getvalue()


def print_listing(table: Table, catalog: Catalog, entries: Sequence[Entry]) -> None:
    """Print merges as a table, and what must be known to compare them."""
    if not entries:
        echo(
            "no such merge"
            if catalog.entries
            else "no merge has been made yet; a run of a zoo, or 'fmn run', makes some"
        )
        return
    headings, rows = table
    drawn = Drawn(box=box.SIMPLE_HEAD)
    for name in headings:
        drawn.add_column(name, no_wrap=True, justify="left" if _is_text(name) else "right")
    for row in rows:
        drawn.add_row(*(escape(shown(cell)) for cell in row))
    Console(width=WIDE).print(drawn)
    measured = {
        frozenset(e.evaluations[0].record.inputs["measures"].items())
        for e in entries
        if e.evaluations
    }
    by_name: dict[str, set[str]] = {}
    for name, measure in (pair for measures in measured for pair in measures):
        by_name.setdefault(name, set()).add(measure)
    unlike = sorted(name for name, measures in by_name.items() if len(measures) > 1)
    note = (
        f"; {', '.join(unlike)} were not always measured alike: compare with 'fmn catalog compare'"
        if unlike
        else ""
    )
    if any(entry.is_chosen_elsewhere for entry in entries):
        from fmn.catalog import ELSEWHERE

        note += f"; {ELSEWHERE}"
    echo(
        f"{len(entries):,} of {len(catalog.entries):,} merges; scores in %, mean and worst of "
        f"merged / individual{note}"
    )


def print_entry(catalog: Catalog, entry: Entry) -> None:
    """Print all that is known of a merge."""
    console = Console(width=WIDE, highlight=False)
    made = entry.record.made
    lines = {
        "id": entry.id,
        "tags": ", ".join(entry.tags) or "none",
        "made": f"{made.at} by {made.by}, in {made.seconds:.1f} s",
        "with": ", ".join(f"{name} {version}" for name, version in made.versions.items()),
        "parameters": ", ".join(f"{name} {value}" for name, value in entry.parameters.items()),
        "heads": entry.heads,
        "backbone": (
            f"sha256 {entry.record.value['backbone']}, {entry.record.value['bytes'] / 1e6:,.1f} MB"
        ),
        "kept": "as a directory of models, in the store"
        if entry.kept
        else "as its record; its weights are derived from it",
    }
    console.print(f"[bold]{escape(entry.title)}[/]")
    for name, value in lines.items():
        console.print(f"{name:10}  {escape(value)}")
    models = plain_table("Models", ["name", "task", "model", "weights", "statistics"], ["λ"])
    for part in entry.parts.values():
        place = f"{part.model}@{part.revision}" if part.revision else part.model
        keys = ", ".join(key[:12] for key in part.statistics)
        models.add_row(
            *map(
                escape,
                (part.name, part.task_name, place, part.weights[:12], keys),
            ),
            f"{part.weight:g}",
        )
    console.print(models)
    for number, evaluation in enumerate(entry.evaluations):
        of = evaluation.record.made
        console.print(
            table_of_scores(
                f"Scores, % ({of.at}, {of.seconds:.1f} s on {of.device})", evaluation.scores
            )
        )
        if number == 0:
            for line in means(catalog, entry):
                console.print(line, markup=False)
    if not entry.evaluations:
        console.print("\nnot measured yet")
    if statistics := catalog.statistics(entry):
        console.print(_lineage(statistics))


def _lineage(statistics: Mapping[str, Mapping[str, Record]]) -> Drawn:
    """Return a table of the records of statistics, by name of the model and of the statistic."""
    headings = ["of", "statistic", "key", "data", "settings", "by", "at"]
    table = plain_table("Statistics", headings, ["seconds"])
    for name, each in statistics.items():
        for statistic, record in each.items():
            settings = ", ".join(
                f"{key} {value}" for key, value in record.inputs["settings"].items()
            )
            cells = (
                name,
                title_of(statistic),
                record.key[:12],
                record.names["data"],
                settings,
                record.made.by,
                record.made.at,
            )
            table.add_row(*map(escape, cells), f"{record.made.seconds:.1f}")
    return table


def _is_text(name: str) -> bool:
    return name in COLUMNS and name not in ("mean", "worst", "size", "examples", "seconds")
