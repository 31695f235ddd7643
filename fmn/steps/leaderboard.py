"""Where a zoo's merges stand: every score beside that of the model itself, read from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fmn.steps.merge import PublishStep
from fmn.steps.zoo import Reference, Zoo
from fmn.store import Record, Store


@dataclass(frozen=True)
class Row:
    """One merge, measured.

    Attributes:
        method: the merge rule.
        scores: from each merged model's name to the merge's headline score on its task.
    """

    method: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class ZooReport:
    """What a run of a zoo found.

    Attributes:
        individual: from each model's name to its own headline score.
        rows: every merge.
        seconds: of computing by part, whenever it was done.
    """

    individual: Mapping[str, float]
    rows: Sequence[Row]
    seconds: Mapping[str, float]

    def normalized(self, row: Row) -> dict[str, float]:
        """Return merged / individual score by model; 1 is as good as the model itself."""
        return {
            name: score / self.individual[name] if self.individual[name] else 0.0
            for name, score in row.scores.items()
        }

    def mean(self, row: Row) -> float:
        """Return the mean normalised score of a merge."""
        scores = self.normalized(row)
        return sum(scores.values()) / len(scores)

    def mean_of(self, method: str, size: int | None = None) -> float:
        """Return the mean of a method's merges (of so many models) in mean normalised score."""
        means = [
            self.mean(row)
            for row in self.rows
            if row.method == method and size in (None, len(row.scores))
        ]
        return sum(means) / len(means)

    def sizes(self, method: str | None = None) -> list[int]:
        """Return how many models the merges (of a method) have.

        Where some failed, other methods may have other sizes.
        """
        return sorted({len(row.scores) for row in self.rows if method in (None, row.method)})

    def methods(self) -> list[str]:
        """Return the methods in the order in which they were run."""
        return list(dict.fromkeys(row.method for row in self.rows))

    def as_json(self) -> dict[str, Any]:
        """Return plain data for a file."""
        rows = [
            asdict(row) | {"normalized": self.normalized(row), "normalized_mean": self.mean(row)}
            for row in self.rows
        ]
        means = {method: self.mean_of(method) for method in self.methods()}
        return {
            "individual": self.individual,
            "merges": rows,
            "mean_normalized": means,
            "seconds": self.seconds,
        }

    def best(self) -> list[Row]:
        """Return the merge with the highest mean normalised score of each set of models."""
        best: dict[frozenset[str], Row] = {}
        for row in self.rows:
            names = frozenset(row.scores)
            if names not in best or self.mean(row) > self.mean(best[names]):
                best[names] = row
        return list(best.values())


def zoo_report(zoo: Zoo, store: Store) -> ZooReport:
    """Read every score of a zoo that is in the store.

    Merges of which a score is missing are left out.

    Raises:
        StoreError: the store failed.
    """
    merges = [(names, method, zoo.merge(names, method)) for names, method in zoo.merges()]
    keys = {zoo.evaluation(merge).key: (names, method) for names, method, merge in merges}
    own = {step.key: name for name, step in zoo.measures.items()}
    records = store.find("evaluate", [*own, *keys])
    fishers = store.find("fisher", [zoo.step(reference).key for reference in zoo.fishers()])
    headline = {name: step.task.headline for name, step in zoo.measures.items()}
    individual = {
        name: _score(records[key], name, headline) for key, name in own.items() if key in records
    }
    rows = [
        Row(method, {name: _score(records[key], name, headline) for name in names})
        for key, (names, method) in keys.items()
        if key in records and individual.keys() >= set(names)
    ]
    seconds: dict[str, float] = {}
    for record in fishers.values():
        _add(seconds, record.inputs["of"], record)
    for key, record in records.items():
        _add(seconds, "individual evaluation" if key in own else "evaluation of merges", record)
    return ZooReport(individual, rows, seconds)


def to_keep(zoo: Zoo, report: ZooReport) -> list[Reference]:
    """Return the merges that the store is to keep as models."""
    keep = zoo.params.merge.keep
    rows = {"none": [], "best": report.best(), "all": report.rows}[keep]
    return [("publish", *row.scores, row.method) for row in rows]


def drop_surpassed(zoo: Zoo, keep: Sequence[Reference], store: Store) -> int:
    """With ``keep: best``, remove the records of models no longer the best; return how many.

    Only models that were kept before are meant.
    """
    if zoo.params.merge.keep != "best" or not (there := store.keys("publish")):
        return 0
    kept = {zoo.step(reference).key for reference in keep}
    sets = {frozenset(reference[1:-1]) for reference in keep}
    surpassed = [
        step.key
        for names, method in zoo.merges()
        if frozenset(names) in sets
        and (step := PublishStep(zoo.merge(names, method))).key in there
        and step.key not in kept
    ]
    for record in store.find("publish", surpassed).values():
        store.drop(record)
    return len(surpassed)


def _score(record: Record, name: str, headline: Mapping[str, str]) -> float:
    """Return the score that a task is quoted by.

    A record's file has its metrics in alphabetical order.
    """
    return float(record.value["scores"][name][headline[name]])


def _add(seconds: dict[str, float], part: str, record: Record) -> None:
    seconds[part] = seconds.get(part, 0.0) + record.made.seconds
