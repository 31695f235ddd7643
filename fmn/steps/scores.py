"""What measuring gives: scores, how sure they are, and both as a record keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmn import evaluation
from fmn.evaluation import Interval, Predicted, Scores, Task
from fmn.steps.context import Context
from fmn.store import Draft


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
class TaskScores:
    """What a model scored on a task.

    Attributes:
        task: name.
        metrics: value by name, in the task's order; those of further splits are named with them
            (``accuracy_mismatched``).
        examples: rows over all splits.
        seconds: of prediction and scoring.
        name: what the model is called, if that is not the task's name.
        uncertainty: of what was predicted for each example; None for a language task.
    """

    task: str
    metrics: dict[str, float]
    examples: int
    seconds: float
    name: str = ""
    uncertainty: Uncertainty | None = None

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
        """By metric; nothing of a language task."""
        return self.uncertainty.intervals if self.uncertainty else {}

    @property
    def chance(self) -> Mapping[str, float]:
        """By metric; nothing of a language task."""
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


def uncertainty(task: Task, scores: Mapping[str, Scores]) -> Uncertainty | None:
    """Return the intervals of a task's scores, and what chance would score.

    Args:
        task: the task.
        scores: by the suffix of their metrics, the headline's first.
    """
    splits = {suffix: s.predictions for suffix, s in scores.items() if s.predictions is not None}
    if not splits:
        return None
    intervals: dict[str, Interval] = {}
    chances: dict[str, float] = {}
    headline = None
    for suffix, split in splits.items():
        drawn = evaluation.resampled(task.metrics, split.predicted, split.references)
        headline = headline if suffix else drawn[task.headline]
        for metric, values in drawn.items():
            name = f"{metric}_{suffix}" if suffix else metric
            if values is not None:
                intervals[name] = evaluation.interval(values)
            if (best := evaluation.chance(metric, split.references)) is not None:
                chances[name] = best
    return Uncertainty(Predicted(splits, headline), intervals, chances)


def as_draft(scores: Mapping[str, TaskScores], context: Context, folder: Path) -> Draft:
    """Return scores as a record keeps them, with what was predicted as a file in the folder."""
    value: dict[str, Any] = {
        "scores": {n: s.metrics for n, s in scores.items()},
        "examples": {n: s.examples for n, s in scores.items()},
    }
    sure = {n: s.uncertainty for n, s in scores.items() if s.uncertainty is not None}
    if not sure:
        return Draft(value=value, device=context.torch_device())
    value["intervals"] = {n: {m: list(i) for m, i in s.intervals.items()} for n, s in sure.items()}
    value["chance"] = {n: s.chance for n, s in sure.items()}
    file = folder / "predictions.safetensors"
    evaluation.write_predictions(file, {n: s.predicted for n, s in sure.items()})
    return Draft(value=value, files={"predictions": file}, device=context.torch_device())
