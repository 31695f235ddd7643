"""What measuring gives: scores, how sure they are, and both as a record keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmn import evaluation
from fmn.errors import CheckpointError, DataError
from fmn.evaluation import Interval, Predicted, Predictions, Scores, Task
from fmn.steps.context import Context
from fmn.store import Draft, Gone, Store


@dataclass(frozen=True)
class Uncertainty:
    """How sure the scores of a model on a task are.

    Attributes:
        predicted: for each example, and the headline on each resample.
        intervals: by metric; without those that refuse a resample.
        chance: by metric, the best score of a constant prediction.
    """

    predicted: Predicted
    intervals: dict[str, Interval]
    chance: dict[str, float]


@dataclass(frozen=True)
class Selection:
    """What a model scored on the rows by which merges are chosen.

    Attributes:
        metrics: value by name, as of the other rows.
        examples: rows over all splits.
    """

    metrics: dict[str, float]
    examples: int


@dataclass(frozen=True)
class TaskScores:
    """What a model scored on a task.

    Attributes:
        task: name.
        metrics: value by name, in the task's order; those of further splits are named with them
            (``accuracy_mismatched``).
        examples: rows over all splits.
        seconds: of prediction and scoring.
        name: what the model is called, if that is not the task's name.
        uncertainty: of what was predicted for each example; None where nobody knows that.
        selection: the same of the rows by which merges are chosen, which no other attribute counts;
            None where merges are chosen by all.
    """

    task: str
    metrics: dict[str, float]
    examples: int
    seconds: float
    name: str = ""
    uncertainty: Uncertainty | None = None
    selection: Selection | None = None

    @property
    def label(self) -> str:
        """What to call it among others: two models of one merge may have one task."""
        return self.name or self.task

    @property
    def headline(self) -> float:
        """The value that the task is quoted by."""
        return next(iter(self.metrics.values()))

    @property
    def intervals(self) -> Mapping[str, Interval]:
        """By metric, as far as they are known."""
        return self.uncertainty.intervals if self.uncertainty else {}

    @property
    def chance(self) -> Mapping[str, float]:
        """By metric, as far as it is known."""
        return self.uncertainty.chance if self.uncertainty else {}

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            **self.metrics,
            "examples": self.examples,
            "seconds": round(self.seconds, 3),
            "intervals": {name: list(ends) for name, ends in self.intervals.items()},
            "chance": dict(self.chance),
        }


def task_scores(task: Task, scores: Mapping[str, Scores], share: float | None) -> TaskScores:
    """Return what a model scored on a task's splits, as it is reported.

    Args:
        task: the task.
        scores: by the suffix of their metrics, the headline's first.
        share: of the rows, by which merges are chosen; None if that is all of them.

    Raises:
        DataError: a metric does not fit a part of the rows.
    """
    splits = {suffix: s.predictions for suffix, s in scores.items() if s.predictions is not None}
    seconds = sum(s.seconds for s in scores.values())
    if share is not None:
        return parted(task, splits, share, seconds)
    return TaskScores(
        task.name,
        {name: value for suffix, s in scores.items() for name, value in s.named(suffix).items()},
        sum(s.examples for s in scores.values()),
        seconds,
        uncertainty=_uncertainty(task, splits, splits),
    )


def parted(
    task: Task, splits: Mapping[str, Predictions], share: float, seconds: float = 0.0
) -> TaskScores:
    """Return what was scored on the rows that are reported, and on those that choose.

    Args:
        task: the task.
        splits: what was predicted for all rows, by the suffix of the metrics.
        share: of the rows, by which merges are chosen.
        seconds: of prediction.

    Raises:
        DataError: a metric does not fit a part of the rows.
    """
    which = {suffix: evaluation.chosen_by(len(split), share) for suffix, split in splits.items()}
    choosing = {suffix: split.take(which[suffix]) for suffix, split in splits.items()}
    reported = {suffix: split.take(~which[suffix]) for suffix, split in splits.items()}
    return TaskScores(
        task.name,
        _metrics(task, reported),
        sum(map(len, reported.values())),
        seconds,
        uncertainty=_uncertainty(task, splits, reported),
        selection=Selection(_metrics(task, choosing), sum(map(len, choosing.values()))),
    )


def _metrics(task: Task, splits: Mapping[str, Predictions]) -> dict[str, float]:
    return {
        _named(metric, suffix): value
        for suffix, split in splits.items()
        for metric, value in evaluation.score_predictions(task, split).items()
    }


def _named(metric: str, suffix: str) -> str:
    return f"{metric}_{suffix}" if suffix else metric


def _uncertainty(
    task: Task, splits: Mapping[str, Predictions], reported: Mapping[str, Predictions]
) -> Uncertainty | None:
    """Return the intervals of a task's scores, and what chance would score.

    Args:
        task: the task.
        splits: what was predicted for all rows, by the suffix of the metrics, the headline's first.
        reported: the same for the rows that scores are of.
    """
    if not splits:
        return None
    intervals: dict[str, Interval] = {}
    chances: dict[str, float] = {}
    headline = None
    for suffix, split in reported.items():
        drawn = evaluation.resampled(task.metrics, split.predicted, split.references, split.lengths)
        headline = headline if suffix else drawn[task.headline]
        for metric, values in drawn.items():
            name = _named(metric, suffix)
            if values is not None:
                intervals[name] = evaluation.interval(values)
            best = evaluation.chance(metric, split.references, of_tokens=split.lengths is not None)
            if best is not None:
                chances[name] = best
    return Uncertainty(Predicted(splits, headline), intervals, chances)


def as_draft(scores: Mapping[str, TaskScores], context: Context, folder: Path) -> Draft:
    """Return scores as a record keeps them, with what was predicted as a file in the folder."""
    value: dict[str, Any] = {
        "scores": {n: s.metrics for n, s in scores.items()},
        "examples": {n: s.examples for n, s in scores.items()},
    }
    if chosen := {n: s.selection for n, s in scores.items() if s.selection is not None}:
        value["selection"] = {
            "scores": {n: s.metrics for n, s in chosen.items()},
            "examples": {n: s.examples for n, s in chosen.items()},
        }
    sure = {n: s.uncertainty for n, s in scores.items() if s.uncertainty is not None}
    if not sure:
        return Draft(value=value, device=context.torch_device())
    value["intervals"] = {n: {m: list(i) for m, i in s.intervals.items()} for n, s in sure.items()}
    value["chance"] = {n: s.chance for n, s in sure.items()}
    file = folder / "predictions.safetensors"
    evaluation.write_predictions(file, {n: s.predicted for n, s in sure.items()})
    return Draft(value=value, files={"predictions": file}, device=context.torch_device())


def predicted(store: Store, key: str, read: Mapping[str, Any]) -> dict[str, Predicted]:
    """Return what an evaluation predicted, by name of the model; nothing if the store lacks it.

    Args:
        store: where results are.
        key: of the evaluation.
        read: of what content it has to be made.

    Raises:
        StoreError: the server failed.
    """
    record = store.get("evaluate", key)
    if record is None or record.read != read or "predictions" not in record.outputs:
        return {}
    try:
        return evaluation.read_predictions(store.path(record.outputs["predictions"]))
    except (Gone, CheckpointError, DataError):
        return {}
