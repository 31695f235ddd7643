"""What the protocol came to, read from the store's records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fmn.steps.reproduce.protocol import Column, Reproduction
from fmn.steps.reproduce.setup import describe
from fmn.steps.zoo.leaderboard import Row, ZooReport, zoo_report
from fmn.store import Record, Store


@dataclass(frozen=True)
class ColumnResult:
    """What a column came to.

    Attributes:
        column: a method, with Fishers over so many examples.
        report: the scores that are in the store.
        fishers: the record of each model's Fisher that is in the store, by name.
    """

    column: Column
    report: ZooReport
    fishers: Mapping[str, Record]

    @property
    def seconds(self) -> dict[str, float]:
        """What each model's Fisher took."""
        return {name: record.made.seconds for name, record in self.fishers.items()}

    def rows(self, size: int) -> list[Row]:
        """Return the merges of so many models."""
        return [row for row in self.report.rows if len(row.scores) == size]

    def means(self, size: int) -> list[float]:
        """Return the mean normalised scores of the merges of so many models, in %."""
        return [100 * self.report.mean(row) for row in self.rows(size)]

    def missing(self, size: int | None = None) -> int:
        """Return how many merges (of so many models) have no scores yet."""
        sets = self.column.graph.zoo.combinations()
        wanted = sum(1 for names in sets if size in (None, len(names)))
        return wanted - len(self.report.rows if size is None else self.rows(size))


@dataclass(frozen=True)
class Results:
    """What the protocol came to.

    Attributes:
        names: of the models, in the order of the params file.
        sizes: of the sets of models.
        outcomes: of every column that has anything in the store.
        tasks: of the models, by name.
        setup: in what this differs from the paper: (what, of the paper, here).
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    outcomes: tuple[ColumnResult, ...]
    tasks: Mapping[str, str]
    setup: tuple[tuple[str, str, str], ...] = ()

    @property
    def individual(self) -> Mapping[str, float]:
        """Each model's own score on its task."""
        return self.outcomes[0].report.individual if self.outcomes else {}

    def averaging(self) -> ColumnResult | None:
        """Return what averaging came to, which the other methods are held against."""
        return next(
            (outcome for outcome in self.outcomes if outcome.column.method == "average"), None
        )

    def fewest(self) -> list[ColumnResult]:
        """Return what came of the columns by which sets of every size are merged."""
        return [outcome for outcome in self.outcomes if outcome.column.of_all_sizes]

    def over(self, method: str, examples: int | None) -> ColumnResult | None:
        """Return what came of a method's Fishers over so many examples, or all if there are fewer.

        Args:
            method: as the protocol calls it.
            examples: null of a method that needs nothing computed of the models.
        """
        columns = (o for o in self.outcomes if o.column.method == method)
        return next((o for o in columns if o.column.is_over(examples)), None)

    def gains(self, outcome: ColumnResult) -> dict[tuple[str, ...], float]:
        """Return, for every pair, the points by which its score is above averaging's.

        The score is the mean normalised one.
        """
        base = self.averaging()
        if base is None or outcome is base:
            return {}
        averaged = {tuple(row.scores): base.report.mean(row) for row in base.rows(2)}
        pairs = {tuple(row.scores): outcome.report.mean(row) for row in outcome.rows(2)}
        return {
            pair: 100 * (mean - averaged[pair]) for pair, mean in pairs.items() if pair in averaged
        }


def read_results(opened: Reproduction, store: Store) -> Results:
    """Read every score and Fisher's record that is in the store.

    Raises:
        StoreError: the store failed.
    """
    outcomes = []
    for column in opened.columns:
        keys = {step.key: name for name, step in column.fishers.items()}
        fishers = {keys[key]: record for key, record in store.find("fisher", keys).items()}
        report = zoo_report(column.graph, store)
        if report.rows or fishers:
            ordered = {name: fishers[name] for name in column.graph.zoo.members if name in fishers}
            outcomes.append(ColumnResult(column, report, ordered))
    zoo = opened.graph.zoo
    tasks = {name: step.task.name for name, step in zoo.measures.items()}
    made = [record.made for outcome in outcomes for record in outcome.fishers.values()]
    setup = describe(opened, made)
    return Results(tuple(zoo.members), opened.sizes, tuple(outcomes), tasks, setup)


def gaps(outcomes: Sequence[ColumnResult], size: int | None = None) -> tuple[str, ...]:
    """Say how many merges (of so many models) have no scores yet; nothing, if all have."""
    missing = sum(outcome.missing(size) for outcome in outcomes)
    remark = f"Merges that are not measured yet: {missing}; means are over the others."
    return (remark,) if missing else ()
