"""Where a zoo's merges stand: every score beside that of the model itself, read from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmn.steps.kind import Reference
from fmn.steps.zoo.graph import Graph
from fmn.store import Output, Record, Store


@dataclass(frozen=True)
class Row:
    """One merge, measured.

    Attributes:
        method: the label of the merge rule with its parameters.
        scores: from each merged model's name to the merge's headline score on its task.
        predictions: the file of what it predicted; None if its record is of an earlier version.
        intervals: low and high of each of the scores, as far as they are known.
        choice: its mean normalised score on the rows by which merges are chosen; None where scores
            are of the same.
    """

    method: str
    scores: Mapping[str, float]
    predictions: Output | None = None
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    choice: float | None = None


@dataclass(frozen=True)
class ZooReport:
    """What a run of a zoo found.

    Attributes:
        individual: from each model's name to its own headline score.
        rows: every merge.
        seconds: of computing by part, whenever it was done.
        predictions: the file of what each model itself predicted, by its name.
        at_chance: the models that are no better than chance themselves, as far as that is known.
    """

    individual: Mapping[str, float]
    rows: Sequence[Row]
    seconds: Mapping[str, float]
    predictions: Mapping[str, Output] = field(default_factory=dict)
    at_chance: Sequence[str] = ()

    @property
    def is_chosen_elsewhere(self) -> bool:
        """Whether merges are chosen by other rows than their scores are of."""
        return any(row.choice is not None for row in self.rows)

    def normalized(self, row: Row) -> dict[str, float]:
        """Return merged / individual score by model; 1 is as good as the model itself."""
        return _normalized(row.scores, self.individual)

    def mean(self, row: Row) -> float:
        """Return the mean normalised score of a merge."""
        return _mean(self.normalized(row))

    def choice(self, row: Row) -> float:
        """Return the mean normalised score by which a merge is chosen."""
        return self.mean(row) if row.choice is None else row.choice

    def mean_of(self, method: str, size: int | None = None) -> float:
        """Return the mean of a method's merges (of so many models) in mean normalised score."""
        means = [
            self.mean(row)
            for row in self.rows
            if row.method == method and size in (None, len(row.scores))
        ]
        return sum(means) / len(means)

    def choice_of(self, method: str) -> float:
        """Return the mean of a method's merges in the score by which they are chosen."""
        choices = [self.choice(row) for row in self.rows if row.method == method]
        return sum(choices) / len(choices)

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
            {
                "method": row.method,
                "scores": dict(row.scores),
                "normalized": self.normalized(row),
                "normalized_mean": self.mean(row),
                **({} if row.choice is None else {"choice": row.choice}),
            }
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
        """Return the merge with the highest mean normalised score of each set of models.

        Where some rows of the validation data choose, that is their score.
        """
        best: dict[frozenset[str], Row] = {}
        for row in self.rows:
            names = frozenset(row.scores)
            if names not in best or self.choice(row) > self.choice(best[names]):
                best[names] = row
        return list(best.values())


def zoo_report(graph: Graph, store: Store) -> ZooReport:
    """Read every score of a zoo that is in the store; merges that lack one are left out.

    Raises:
        StoreError: the store failed.
    """
    zoo = graph.zoo
    merges = {graph.step(reference).key: reference for reference in graph.of("evaluate")}
    own = {step.key: name for name, step in zoo.measures.items()}
    records = store.find("evaluate", [*own, *merges])
    measured = store.find("fisher", [graph.step(reference).key for reference in graph.of("fisher")])
    headline = {name: step.task.headline for name, step in zoo.measures.items()}
    individual = {
        name: _score(records[key], name, headline) for key, name in own.items() if key in records
    }
    chosen = {
        name: score
        for key, name in own.items()
        if key in records
        for score in _chosen(records[key], [name], headline).values()
    }
    rows = [
        Row(
            each.variant,
            {name: _score(records[key], name, headline) for name in each.models},
            records[key].outputs.get("predictions"),
            _intervals(records[key], each.models, headline),
            _choice(_chosen(records[key], each.models, headline), chosen),
        )
        for key, each in merges.items()
        if key in records and individual.keys() >= set(each.models)
    ]
    seconds: dict[str, float] = {}
    for record in measured.values():
        _add(seconds, record.inputs["of"], record)
    for key, record in records.items():
        _add(seconds, "individual evaluation" if key in own else "evaluation of merges", record)
    alone = {name: records[key] for key, name in own.items() if key in records}
    predictions = {
        name: record.outputs["predictions"]
        for name, record in alone.items()
        if "predictions" in record.outputs
    }
    at_chance = [name for name, each in alone.items() if _is_at_chance(each, name, headline[name])]
    return ZooReport(individual, rows, seconds, predictions, at_chance)


def _normalized(scores: Mapping[str, float], individual: Mapping[str, float]) -> dict[str, float]:
    return {
        name: score / individual[name] if individual[name] else 0.0
        for name, score in scores.items()
    }


def _mean(scores: Mapping[str, float]) -> float:
    return sum(scores.values()) / len(scores)


def _chosen(record: Record, names: Sequence[str], headline: Mapping[str, str]) -> dict[str, float]:
    """Return the headlines on the rows by which merges are chosen; empty where these are all."""
    of = record.value.get("selection", {}).get("scores", {})
    return {name: float(of[name][headline[name]]) for name in names if name in of}


def _choice(scores: Mapping[str, float], individual: Mapping[str, float]) -> float | None:
    """Return the mean normalised score by which a merge is chosen; None where no rows do that."""
    return _mean(_normalized(scores, individual)) if scores else None


def _is_at_chance(record: Record, name: str, metric: str) -> bool:
    """Tell whether a model is known to be no better than chance."""
    interval = _intervals(record, [name], {name: metric}).get(name)
    chance = record.value.get("chance", {}).get(name, {}).get(metric)
    return interval is not None and chance is not None and interval[0] <= chance


def _intervals(
    record: Record, names: Sequence[str], headline: Mapping[str, str]
) -> dict[str, Sequence[float]]:
    """Return the intervals of headlines by name of the model, as far as they are known."""
    of = record.value.get("intervals", {})
    return {name: of[name][headline[name]] for name in names if headline[name] in of.get(name, {})}


def unread(graph: Graph, report: ZooReport, store: Store | None = None) -> list[Reference]:
    """Return the evaluations whose scores a report lacks; if all were done, records are damaged.

    With the store, also those whose predictions are lost.
    """
    files = [*report.predictions.values(), *(row.predictions for row in report.rows)]
    lost = store.objects.lost([file for file in files if file]) if store and any(files) else set()
    there = {
        (tuple(row.scores), row.method)
        for row in report.rows
        if row.predictions is None or row.predictions.md5 not in lost
    }
    individuals = [
        each
        for each in graph.of("individual")
        if each.models[0] not in report.individual
        or (each.models[0] in report.predictions and report.predictions[each.models[0]].md5 in lost)
    ]
    merges = [each for each in graph.of("evaluate") if (each.models, each.variant) not in there]
    return [*individuals, *merges]


def to_keep(graph: Graph, report: ZooReport) -> list[Reference]:
    """Return the merges that the store is to keep as models."""
    keep = graph.zoo.params.merge.keep
    rows = {"none": [], "best": report.best(), "all": report.rows}[keep]
    return [Reference("publish", tuple(row.scores), row.method) for row in rows]


def drop_surpassed(graph: Graph, keep: Sequence[Reference], store: Store) -> int:
    """With ``keep: best``, remove the records of kept models that are not the best any more.

    Return how many.
    """
    if graph.zoo.params.merge.keep != "best" or not (there := store.keys("publish")):
        return 0
    kept = {graph.step(reference).key for reference in keep}
    sets = {frozenset(reference.models) for reference in keep}
    steps = [graph.step(each) for each in graph.of("publish") if frozenset(each.models) in sets]
    surpassed = [step.key for step in steps if step.key in there and step.key not in kept]
    for record in store.find("publish", surpassed).values():
        store.drop(record.address)
    return len(surpassed)


def _score(record: Record, name: str, headline: Mapping[str, str]) -> float:
    """Return the score that a task is quoted by.

    A record's file has its metrics in alphabetical order.
    """
    return float(record.value["scores"][name][headline[name]])


def _add(seconds: dict[str, float], part: str, record: Record) -> None:
    seconds[part] = seconds.get(part, 0.0) + record.made.seconds
