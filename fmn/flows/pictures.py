"""What a run shows while it goes on and at its end: a bar, and artifacts in Prefect's UI."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from fmn.catalog import ELSEWHERE
from fmn.console.progress import progress_bars
from fmn.console.tables import in_percent, in_words
from fmn.steps.zoo.leaderboard import ZooReport
from fmn.steps.zoo.run import Tally
from fmn.steps.zoo.standing import Standings

EVERY = 2.0
"""Seconds between two looks of the UI at the progress."""


class Shown:
    """Progress in steps, in the terminal and as an artifact."""

    def __init__(self, bars: Any, total: int) -> None:
        self._bars, self._total, self._done, self._last = bars, max(total, 1), 0, time.monotonic()
        self._bar = bars.add_task("merging the zoo", total=total)
        self._artifact: Any = create_progress_artifact(
            progress=0.0, key="merge-zoo-progress", description=f"{total} steps"
        )

    def advance(self, steps: int) -> None:
        """Note that steps are done."""
        self._done += steps
        self._bars.advance(self._bar, steps)
        if time.monotonic() - self._last > EVERY or self._done >= self._total:
            self._last = time.monotonic()
            update_progress_artifact(self._artifact, progress=100 * self._done / self._total)


@contextmanager
def shown(total: int) -> Iterator[Shown]:
    """Show progress while the context lasts."""
    with progress_bars() as bars:
        yield Shown(bars, total)


def failures(tally: Tally) -> list[tuple[str, str]]:
    """Return what failed, by reason: a broken model may fail thousands of merges for one."""
    steps: dict[str, list[str]] = {}
    for failure in tally.failed:
        steps.setdefault(failure["error"], []).append(failure["step"])
    return [
        (first + (f" and {len(more)} more" if more else ""), error)
        for error, (first, *more) in steps.items()
    ]


def leaderboard(report: ZooReport, places: Standings) -> list[dict[str, Any]]:
    """Return the rows of a table: every merge, the best first, with how sure its scores are."""
    by_choice = sorted(
        zip(report.rows, places.rows, strict=True),
        key=lambda pair: report.choice(pair[0]),
        reverse=True,
    )
    rows = []
    for row, place in by_choice:
        interval, from_best = in_words(place)
        cells: dict[str, Any] = {
            "models": " + ".join(row.scores),
            "method": row.method,
            "normalised": round(100 * report.mean(row), 2),
            "interval": interval,
            "from the best": from_best,
        }
        for name, score in row.scores.items():
            cells[name] = round(100 * score, 2)
            cells[f"{name}, interval"] = in_percent(row.intervals.get(name))
        rows.append(cells)
    return rows


def methods(report: ZooReport, places: Standings) -> list[str]:
    """Return the lines of a table in Markdown: the mean of every method."""
    lines = [
        "| method | mean normalised score, % | interval | from the best |",
        "|---|---|---|---|",
    ]
    for method in report.methods():
        cells = (f"{100 * report.mean_of(method):.2f}", *in_words(places.methods[method]))
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def publish(
    report: ZooReport, places: Standings, tally: Tally, store: str, page: str | None
) -> None:
    """Show leaderboard, what the run did, and where results and report are in Prefect's UI."""
    elsewhere = f"; {ELSEWHERE}" if report.is_chosen_elsewhere else ""
    at_chance = f"; no better than chance alone: {', '.join(report.at_chance)}"
    notes = elsewhere + (at_chance if report.at_chance else "")
    create_table_artifact(
        leaderboard(report, places),
        key="merge-zoo-leaderboard",
        description=f"Scores, %; merges by mean normalised score{notes}",
    )
    lines = [f"# {tally.in_words()}", "", *methods(report, places)]
    lines += ["", f"Scores, %{notes}"] if notes else []
    lines += ["", *(f"- **{steps}** failed: {error}" for steps, error in failures(tally))]
    create_markdown_artifact("\n".join(lines), key="merge-zoo-summary")
    links = {"merge-zoo-store": (store, "The store: every record and object of this run")}
    if page:
        links["merge-zoo-report"] = (
            page,
            "The report: leaderboard, charts, and each merge's lineage",
        )
    for key, (place, description) in links.items():
        link = place if "://" in place else f"file://{place}"
        create_link_artifact(link, key=key, link_text=place, description=description)
