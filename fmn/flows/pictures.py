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

from fmn.console.progress import progress_bars
from fmn.steps.zoo.leaderboard import ZooReport
from fmn.steps.zoo.run import Tally

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


def publish(report: ZooReport, tally: Tally, store: str, page: str | None) -> None:
    """Show leaderboard, what the run did, and where results and report are in Prefect's UI."""
    rows = [
        {
            "models": " + ".join(row.scores),
            "method": row.method,
            "normalised": round(100 * report.mean(row), 2),
        }
        | {name: round(100 * score, 2) for name, score in row.scores.items()}
        for row in sorted(report.rows, key=report.mean, reverse=True)
    ]
    create_table_artifact(
        rows, key="merge-zoo-leaderboard", description="Scores, %; merges by mean normalised score"
    )
    lines = [f"# {tally.in_words()}", "", "| method | mean normalised score, % |", "|---|---|"]
    lines += [f"| {method} | {100 * report.mean_of(method):.2f} |" for method in report.methods()]
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
