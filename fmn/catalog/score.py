"""What a merge scored, beside what its models score themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fmn.store import Record

ELSEWHERE = "the best are chosen by other rows than these scores are of"
"""What is said wherever a best is shown that was chosen so."""


@dataclass(frozen=True)
class Score:
    """What a merge scored on the task of one of its models.

    Attributes:
        metrics: value by name; of the rows that are reported, as all else but the selection.
        headline: name of the metric that the task is quoted by.
        examples: rows.
        individual: the metrics of the model itself, measured in the same way; empty if it was not.
        intervals: low and high of each metric, by name; of an earlier version's record none.
        chance: the best score of a constant prediction, by name of the metric.
        own: the record of the measurement of the model itself; None if there is none.
        selection: the metrics on the rows by which merges are chosen; empty where these are all.
        selected: how many rows those are.
    """

    metrics: Mapping[str, float]
    headline: str
    examples: int
    individual: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)
    own: Record | None = None
    selection: Mapping[str, float] = field(default_factory=dict)
    selected: int = 0

    @property
    def value(self) -> float:
        """The headline."""
        return self.metrics[self.headline]

    @property
    def normalized(self) -> float | None:
        """Merged / individual; None if that model was not measured alike, 0 if it scored 0."""
        own = self.individual.get(self.headline)
        return None if own is None else self.value / own if own else 0.0

    @property
    def choice(self) -> float:
        """The headline by which a merge is chosen."""
        return (self.selection or self.metrics)[self.headline]

    @property
    def normalized_choice(self) -> float | None:
        """As :attr:`normalized`, of the rows by which a merge is chosen."""
        if not self.selection:
            return self.normalized
        own = of_model(self.own, "selection", "scores").get(self.headline)
        return None if own is None else self.choice / own if own else 0.0

    @property
    def own_intervals(self) -> Mapping[str, Sequence[float]]:
        """Those of the model itself, by name of the metric."""
        return of_model(self.own, "intervals")

    @property
    def own_beats_chance(self) -> bool | None:
        """Whether the model itself is better than chance by its interval; None if not known."""
        chance = {**self.chance, **of_model(self.own, "chance")}.get(self.headline)
        interval = self.own_intervals.get(self.headline)
        return None if chance is None or interval is None else interval[0] > chance

    def as_json(self) -> dict[str, Any]:
        """Return plain data; ``interval`` and ``chance`` are those of the headline."""
        interval = self.intervals.get(self.headline)
        return {
            **self.metrics,
            "examples": self.examples,
            "normalized": self.normalized,
            "interval": None if interval is None else list(interval),
            "chance": self.chance.get(self.headline),
        }


@dataclass(frozen=True)
class Evaluation:
    """One measurement of a merge.

    Attributes:
        record: of it.
        scores: by name of the model, in alphabetical order.
    """

    record: Record
    scores: Mapping[str, Score]

    @property
    def examples(self) -> int:
        """Rows over all tasks."""
        return sum(score.examples for score in self.scores.values())

    @property
    def selected(self) -> int:
        """Rows over all tasks by which merges are chosen and which scores are not of."""
        return sum(score.selected for score in self.scores.values())

    def normalized(
        self, names: Iterable[str] | None = None, *, choice: bool = False
    ) -> list[float] | None:
        """Return merged / individual of some models, or all; None if one is not known.

        Args:
            names: of the models.
            choice: on the rows by which merges are chosen.
        """
        scores = [
            score.normalized_choice if choice else score.normalized
            for name, score in self.scores.items()
            if names is None or name in names
        ]
        if not scores or None in scores:
            return None
        return [score for score in scores if score is not None]


def of_model(record: Record | None, *what: str) -> Mapping[str, Any]:
    """Return what the measurement of a model alone says of it: it has one name."""
    of: Mapping[str, Any] = {} if record is None else record.value
    for name in what:
        of = of.get(name, {})
    return next(iter(of.values()), {})
