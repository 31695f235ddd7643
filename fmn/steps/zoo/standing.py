"""Which merges and methods of a leaderboard are worse than the best, and which only may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from fmn.catalog import MOST, Difference, Paired, read_resampled
from fmn.evaluation import Interval, interval
from fmn.steps.zoo.leaderboard import ZooReport
from fmn.store import Store

Means: TypeAlias = Sequence["np.ndarray[Any, np.dtype[Any]] | None"]
"""Of each row, its mean normalised score on each resample, [B]; None where that is not known."""


@dataclass(frozen=True)
class Standing:
    """Of one merge, or of the mean over a method's merges.

    Attributes:
        mean: the interval of its mean normalised score; None if it is not known.
        from_best: its mean less that of the best, of the same models; None of that itself, or where
            one of both is not known.
        is_best: it is the best itself.
    """

    mean: Interval | None = None
    from_best: Difference | None = None
    is_best: bool = False

    @property
    def is_inside(self) -> bool:
        """Whether it may be as good as the best of the same models."""
        return self.from_best is not None and self.from_best.is_inside


@dataclass(frozen=True)
class Standings:
    """Of all that a leaderboard shows.

    Attributes:
        rows: of each merge, in the report's order.
        methods: of each method, by its label.
    """

    rows: Sequence[Standing]
    methods: Mapping[str, Standing]


def standings(report: ZooReport, store: Store) -> Standings:
    """Return where merges and methods of a report stand; nothing of more than a thousand merges.

    All of it is paired: merges of the same models are compared on the same resamples.

    Raises:
        StoreError: the server failed.
    """
    means = _means(report, store) if len(report.rows) <= MOST else [None] * len(report.rows)
    methods = {method: _of_method(report, means, method) for method in report.methods()}
    return Standings(_of_rows(report, means), methods)


def _means(report: ZooReport, store: Store) -> Means:
    own = {
        name: values
        for name, output in report.predictions.items()
        for values in read_resampled(store, output).values()
    }
    return [
        Paired(read_resampled(store, row.predictions), own).mean(list(row.scores))
        for row in report.rows
    ]


def _of_rows(report: ZooReport, means: Means) -> list[Standing]:
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
            standings.append(Standing(interval(values), is_best=row is first))
        else:
            apart = report.mean(row) - report.mean(first)
            difference = Difference(apart, interval(values - highest))
            standings.append(Standing(interval(values), difference))
    return standings


def _of_method(report: ZooReport, means: Means, method: str) -> Standing:
    """Return where the mean over a method's merges stands, and how far from the best method's.

    They are compared on the sets of models that both have merged.
    """
    best = max(report.methods(), key=report.choice_of)
    mine, theirs = (_known(report, means, each) for each in (method, best))
    if len(mine) < sum(row.method == method for row in report.rows):
        return Standing()
    of_mean = interval(np.mean([drawn for _, drawn in mine.values()], axis=0))
    both = [(mine[names], theirs[names]) for names in mine if names in theirs]
    if method == best or not both:
        return Standing(of_mean, is_best=method == best)
    value = sum(one - other for (one, _), (other, _) in both) / len(both)
    drawn = np.mean([one - other for (_, one), (_, other) in both], axis=0)
    return Standing(of_mean, Difference(value, interval(drawn)))


def _known(report: ZooReport, means: Means, method: str) -> dict[frozenset[str], tuple[float, Any]]:
    """Return the means of a method's merges by their models, and what they are on each resample."""
    return {
        frozenset(row.scores): (report.mean(row), values)
        for row, values in zip(report.rows, means, strict=True)
        if row.method == method and values is not None
    }
