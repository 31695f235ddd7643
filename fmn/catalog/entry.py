"""What the catalog knows of a merge: the records about it, joined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmn.catalog.score import Evaluation, Score, of_model
from fmn.keys import digest
from fmn.recipe import MERGE_INPUTS, task_name
from fmn.store import Record

SHORT = 8
"""Digits of an ID that are shown where that many tell all records apart."""


@dataclass(frozen=True)
class MergedModel:
    """One model of a merge.

    Attributes:
        name: what the model is called in the merge.
        task: its task, by name or as a ``.yaml`` file.
        model: where it was: a path or a hub id.
        is_hub: it is a hub id.
        revision: of a hub id.
        weights: digest of its weights.
        identity: digest of all that it is: weights, configuration, tokenizer.
        weight: λ.
        statistics: keys of the records of those that the method needs, in its order; ``given …``
            and a digest for one that was a file.
        labels: from the model's label names to the task's, where somebody said so.
        head_states: key of the record of the examples that its head, or the layers of the merge,
            were fitted to; None where neither was.
    """

    name: str
    task: str
    model: str
    is_hub: bool
    revision: str | None
    weights: str
    identity: str
    weight: float
    statistics: tuple[str, ...] = ()
    labels: dict[str | int | bool, str] | None = None
    head_states: str | None = None

    @property
    def task_name(self) -> str:
        """The task's name."""
        return task_name(self.task)

    @property
    def fisher(self) -> str | None:
        """The first of the statistics; None where the method needs none."""
        return next(iter(self.statistics), None)

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**vars(self), "statistics": list(self.statistics), "fisher": self.fisher}


@dataclass(frozen=True)
class Entry:
    """A merge.

    Attributes:
        record: of the merge.
        parts: its models, by name in alphabetical order.
        evaluations: the one with the most examples first, whether they choose or are reported;
            then those of which some choose, then the newest.
        kept: the record of the directory that the store keeps of it; None if its weights are
            derived when they are asked for.
        tags: names that people gave it.
    """

    record: Record
    parts: Mapping[str, MergedModel]
    evaluations: tuple[Evaluation, ...] = ()
    kept: Record | None = None
    tags: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The key of the record."""
        return self.record.key

    @property
    def method(self) -> str:
        """The merge rule."""
        return str(self.record.inputs["method"])

    @property
    def parameters(self) -> dict[str, Any]:
        """The value of every parameter of the rule, and the dtype."""
        inputs = self.record.inputs
        own = {name: value for name, value in inputs.items() if name not in MERGE_INPUTS}
        return {**own, "dtype": inputs["dtype"]}

    @property
    def heads(self) -> str:
        """What became of the heads: ``merged``, ``own`` or ``refit``."""
        heads = self.record.inputs.get("heads", "merged")
        return heads if isinstance(heads, str) else "refit"

    @property
    def parent(self) -> Mapping[str, Any] | None:
        """The models' parent as a recipe has it, with its weights' digest; None if not needed."""
        parent: Mapping[str, Any] | None = self.record.names.get("parent")
        return parent

    @property
    def tasks(self) -> list[str]:
        """The tasks, in alphabetical order, each once."""
        return sorted({part.task_name for part in self.parts.values()})

    @property
    def title(self) -> str:
        """Such as ``rte + sst2 by average``."""
        return f"{' + '.join(self.parts)} by {self.method}"

    @property
    def scores(self) -> Mapping[str, Score]:
        """The scores of the evaluation with the most examples, if any, by name of the model."""
        return self.evaluations[0].scores if self.evaluations else {}

    @property
    def is_chosen_elsewhere(self) -> bool:
        """Whether it is chosen by other rows than its scores are of."""
        return bool(self.evaluations and self.evaluations[0].selected)

    def normalized(
        self, tasks: Iterable[str] | None = None, *, choice: bool = False
    ) -> list[float] | None:
        """Return merged / individual of some tasks' models, or all; None if one is not known.

        Args:
            tasks: which.
            choice: on the rows by which merges are chosen.
        """
        if not self.evaluations:
            return None
        wanted = None if tasks is None else set(tasks)
        names = [
            name
            for name, part in self.parts.items()
            if wanted is None or part.task_name in wanted or name in wanted
        ]
        return self.evaluations[0].normalized(names, choice=choice)

    def mean(self, tasks: Iterable[str] | None = None, *, choice: bool = False) -> float | None:
        """Return the mean normalised score; 1 is as good as the models themselves.

        See :meth:`normalized` for the arguments.
        """
        scores = self.normalized(tasks, choice=choice)
        return sum(scores) / len(scores) if scores else None

    def worst(self, tasks: Iterable[str] | None = None, *, choice: bool = False) -> float | None:
        """Return the lowest normalised score; see :meth:`normalized` for the arguments."""
        return min(self.normalized(tasks, choice=choice) or [], default=None)

    def at_chance(self) -> list[str] | None:
        """Return the models that are no better than chance themselves; None if one is not known."""
        beats = {name: score.own_beats_chance for name, score in self.scores.items()}
        if not beats or None in beats.values():
            return None
        return [name for name, better in beats.items() if not better]

    def mean_above_chance(self) -> float | None:
        """Return the mean normalised score without :meth:`at_chance`; None if not known, or none.

        A model at chance divides by noise.
        """
        left_out = self.at_chance()
        if left_out is None or len(left_out) == len(self.scores):
            return None
        scores = self.evaluations[0].normalized(self.scores.keys() - set(left_out))
        return sum(scores) / len(scores) if scores else None

    @property
    def seconds(self) -> dict[str, float]:
        """What merging and measuring took."""
        measured = {"evaluate": self.evaluations[0].record.made.seconds} if self.evaluations else {}
        return {"merge": self.record.made.seconds, **measured}

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        made = self.record.made
        return {
            "id": self.id,
            "method": self.method,
            "parameters": self.parameters,
            "heads": self.heads,
            "models": {name: part.as_json() for name, part in self.parts.items()},
            **({"parent": self.parent} if self.parent else {}),
            "scores": {name: score.as_json() for name, score in self.scores.items()},
            "individual": {name: dict(score.individual) for name, score in self.scores.items()},
            "mean": self.mean(),
            "mean_above_chance": self.mean_above_chance(),
            "at_chance": self.at_chance(),
            "worst": self.worst(),
            "selection": self._selection(),
            "tags": list(self.tags),
            "kept": self.kept is not None,
            "by": made.by,
            "at": made.at,
            "seconds": self.seconds,
            "versions": made.versions,
        }

    def _selection(self) -> dict[str, Any] | None:
        """Return by what it is chosen; None where that is what its scores are of."""
        if not self.is_chosen_elsewhere:
            return None
        return {
            "examples": self.evaluations[0].selected,
            "mean": self.mean(choice=True),
            "worst": self.worst(choice=True),
        }


def together(settings: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Return the settings of several statistics as a recipe has them, which says each once.

    A statistic's record has those that it reads. None where two differ in one.
    """
    merged: dict[str, Any] = {}
    for each in settings:
        for name, value in each.items():
            if merged.setdefault(name, value) != value:
                return None
    return merged


def join(records: Iterable[Record], tags: Mapping[str, str] | None = None) -> dict[str, Entry]:
    """Join merges with their evaluations, those of their models, and what is kept of them, by ID.

    Args:
        records: of every kind.
        tags: ID by name.
    """
    by_kind: dict[str, list[Record]] = {}
    for record in records:
        by_kind.setdefault(record.kind, []).append(record)
    evaluations = by_kind.get("evaluate", [])
    individuals = _individuals(record for record in evaluations if "merge" not in record.inputs)
    measured: dict[str, list[Record]] = {}
    for record in evaluations:
        if merge := record.inputs.get("merge"):
            measured.setdefault(merge, []).append(record)
    kept = {record.inputs["merge"]: record for record in by_kind.get("publish", [])}
    named: dict[str, list[str]] = {}
    for name, key in sorted((tags or {}).items()):
        named.setdefault(key, []).append(name)
    return {
        record.key: _entry(
            record,
            measured.get(record.key, []),
            individuals,
            kept.get(record.key),
            named.get(record.key, ()),
        )
        for record in by_kind.get("merge", [])
    }


Individuals = Mapping[tuple[str, str], Record]
"""From a model's identity and what was measured (digests both) to its measurement."""


def _individuals(records: Iterable[Record]) -> Individuals:
    individuals: dict[tuple[str, str], Record] = {}
    for record in records:
        key = digest("model", record.inputs["model"]), digest("measure", record.inputs["measure"])
        individuals.setdefault(key, record)
    return individuals


def _entry(
    merge: Record,
    measured: Sequence[Record],
    individuals: Individuals,
    kept: Record | None,
    tags: Sequence[str],
) -> Entry:
    parts = {part.name: part for part in _parts(merge)}

    def rank(evaluation: Evaluation) -> tuple[int, bool, str, str]:
        record, selected = evaluation.record, evaluation.selected
        return evaluation.examples + selected, selected > 0, record.made.at, record.key

    evaluations = [
        Evaluation(record, dict(_scores(record, parts, individuals)))
        for record in measured
        if record.value["scores"].keys() <= parts.keys()
    ]
    evaluations.sort(key=rank, reverse=True)
    return Entry(merge, parts, tuple(evaluations), kept, tuple(tags))


def _parts(merge: Record) -> Iterator[MergedModel]:
    heads = merge.inputs.get("heads")
    refitted = heads["refit"] if isinstance(heads, Mapping) else {}
    states = {**merge.inputs.get("layers", {}).get("fitted", {}), **refitted}
    for name, identity, weight, *statistics in sorted(merge.inputs["models"]):
        names = merge.names["models"][name]
        yield MergedModel(
            name=name,
            task=names["task"],
            model=names["model"],
            is_hub=names.get("hub", False),
            revision=names["revision"],
            weights=names["weights"],
            identity=identity,
            weight=weight,
            statistics=tuple(statistics),
            labels=names.get("labels"),
            head_states=states.get(name),
        )


def _scores(
    record: Record, parts: Mapping[str, MergedModel], individuals: Individuals
) -> Iterator[tuple[str, Score]]:
    selection = record.value.get("selection", {"scores": {}, "examples": {}})
    for name, metrics in sorted(record.value["scores"].items()):
        own = individuals.get((parts[name].identity, record.inputs["measures"][name]))
        yield (
            name,
            Score(
                metrics,
                headline=record.names["measures"][name]["task"]["metrics"][0],
                examples=record.value["examples"][name],
                individual=of_model(own, "scores"),
                intervals=record.value.get("intervals", {}).get(name, {}),
                chance=record.value.get("chance", {}).get(name, {}),
                own=own,
                selection=selection["scores"].get(name, {}),
                selected=selection["examples"].get(name, 0),
            ),
        )
