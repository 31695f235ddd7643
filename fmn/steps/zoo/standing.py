"""Which merges of a leaderboard are worse than the best of their models, and which only may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fmn.catalog import Difference, Paired, read_resampled
from fmn.evaluation import Interval, interval
from fmn.steps.zoo.leaderboard import Row, ZooReport
from fmn.store import Store

MOST = 1_000
"""Merges whose predictions are read for a leaderboard: a file each, of six tasks in about 1 ms."""


@dataclass(frozen=True)
class Standing:
    """Of one merge.

    Attributes:
        mean: the interval of its mean normalised score; None if it is not known.
        from_best: its mean less that of the best merge of the same models; None of that itself, or
            where one of both is not known.
    """

    mean: Interval | None = None
    from_best: Difference | None = None

    @property
    def is_inside(self) -> bool:
        """Whether it may be as good as the best of the same models."""
        return self.from_best is not None and self.from_best.is_inside


def standings(report: ZooReport, store: Store) -> list[Standing]:
    """Return where each row of a report stands; nothing of more than a thousand.

    All of it is paired: merges of the same models are compared on the same resamples.

    Raises:
        StoreError: the server failed.
    """
    if len(report.rows) > MOST:
        return [Standing() for _ in report.rows]
    own = {
        name: values
        for name, output in report.predictions.items()
        for values in read_resampled(store, output).values()
    }

    def mean(row: Row) -> Any:
        return Paired(read_resampled(store, row.predictions), own).mean(list(row.scores))

    means = [mean(row) for row in report.rows]
    best = {frozenset(row.scores): row for row in report.best()}
    of_best = {
        names: values
        for row, values in zip(report.rows, means, strict=True)
        if best[names := frozenset(row.scores)] is row
    }
    standings = []
    for row, values in zip(report.rows, means, strict=True):
        first, highest = best[frozenset(row.scores)], of_best[frozenset(row.scores)]
        if values is None:
            standings.append(Standing())
        elif row is first or highest is None:
            standings.append(Standing(interval(values)))
        else:
            apart = report.mean(row) - report.mean(first)
            difference = Difference(apart, interval(values - highest))
            standings.append(Standing(interval(values), difference))
    return standings
