"""Scores of a model on a task, and what a score below chance may mean."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmn.errors import DataError
from fmn.evaluation.labels import best_permutation, chance_deviation, recipe_line
from fmn.evaluation.metrics import accuracy, get_metric
from fmn.evaluation.predict import predict, tokens_of_each
from fmn.evaluation.predictions import Predictions

if TYPE_CHECKING:
    import torch

    from fmn.evaluation.encoding import Encoded
    from fmn.evaluation.tasks import Task


@dataclass(frozen=True)
class Scores:
    """What a model scored on one split.

    Attributes:
        task: The task's name.
        split: The split's name.
        metrics: Value by metric, in the task's order; accuracies and F1 are fractions in [0, 1].
        examples: How many examples were scored.
        seconds: How long prediction and scoring took.
        accuracy: Fraction of examples whose label is right, whatever the metrics; None where there
            are no labels.
        predictions: One for each example, of a language task one for each token.
    """

    task: str
    split: str
    metrics: dict[str, float]
    examples: int
    seconds: float
    accuracy: float | None = None
    predictions: Predictions | None = None

    @property
    def headline(self) -> float:
        """The value of the task's first metric."""
        return next(iter(self.metrics.values()))

    def named(self, suffix: str) -> dict[str, float]:
        """Return the metrics, named for a further split (``accuracy_mismatched``) by its suffix."""
        return {
            f"{name}_{suffix}" if suffix else name: value for name, value in self.metrics.items()
        }


def score(
    task: Task,
    logits: np.ndarray[Any, Any],
    references: np.ndarray[Any, Any],
    label_order: Sequence[int],
) -> dict[str, float]:
    """Return the task's metrics, in its order.

    Args:
        task: The task.
        logits: [N, C]; C is 1 for a regression.
        references: [N], the data's label numbers, or targets.
        label_order: For each output, the data's label number.

    Raises:
        DataError: A logit is not finite, C does not fit the task, or a metric does not.
        ParamsError: A metric is unknown.
    """
    return _measured(task, _predicted(task, logits, label_order), references)


def score_predictions(task: Task, predictions: Predictions) -> dict[str, float]:
    """Return the task's metrics of what was predicted, in its order.

    Raises:
        DataError: A metric does not fit.
        ParamsError: A metric is unknown.
    """
    sides = (predictions.predicted, predictions.references)
    # files have small integers, in which a metric's products would overflow
    wide = (side.astype(np.int64) if side.dtype.kind == "i" else side for side in sides)
    return _measured(task, *wide)


def _predicted(
    task: Task, logits: np.ndarray[Any, Any], label_order: Sequence[int]
) -> np.ndarray[Any, Any]:
    """Return what logits say of each example, [N]: the data's label number, or a target."""
    classes = max(len(task.labels), 1)
    if logits.shape[1:] != (classes,):
        raise DataError(
            f"task {task.name} needs {classes} outputs, but the logits have shape {logits.shape}"
        )
    if broken := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise DataError(
            f"the model gives NaN or infinite logits for {broken} of {len(logits)} examples of "
            f"task {task.name}; its "
            "weights are damaged or overflow: check the checkpoint and the merge's coefficients"
        )
    if task.is_regression:
        target: np.ndarray[Any, Any] = logits[:, 0]
        return target
    labels: np.ndarray[Any, Any] = np.asarray(label_order)[logits.argmax(axis=1)]
    return labels


def _measured(
    task: Task, predictions: np.ndarray[Any, Any], references: np.ndarray[Any, Any]
) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name in task.metrics:
        try:
            metrics[name] = get_metric(name)(predictions, references)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise DataError(f"metric {name} does not fit task {task.name}: {reason}") from error
    return metrics


def evaluate(
    model: torch.nn.Module,
    encoded: Encoded,
    task: Task,
    *,
    label_order: Sequence[int],
    batch_size: int = 32,
    device: torch.device | str | None = None,
    progress: Callable[[int], object] | None = None,
) -> Scores:
    """Predict and score; see `predict` and `score` for the arguments and what they raise.

    The predictions and references of a language task's metrics are tokens (see `predict_tokens`).
    """
    for name in task.metrics:  # an unknown metric must not cost a pass over the data first
        get_metric(name)
    start = time.perf_counter()
    if task.is_language:
        pairs = tokens_of_each(
            model, encoded, batch_size=batch_size, device=device, progress=progress
        )
        likeliest, true = (np.concatenate(side) for side in zip(*pairs, strict=True))
        return Scores(
            encoded.task,
            encoded.split,
            _measured(task, likeliest, true),
            len(encoded),
            time.perf_counter() - start,
            predictions=Predictions.of(likeliest, true, np.array([len(each) for each, _ in pairs])),
        )
    logits = predict(model, encoded, batch_size=batch_size, device=device, progress=progress)
    predicted = _predicted(task, logits, label_order)
    return Scores(
        encoded.task,
        encoded.split,
        _measured(task, predicted, encoded.labels),
        len(encoded),
        time.perf_counter() - start,
        None if task.is_regression else accuracy(predicted, encoded.labels),
        Predictions.of(predicted, encoded.labels),
    )


def explain_below_chance(
    model: torch.nn.Module,
    train_encoded: Encoded,
    task: Task,
    label_order: Sequence[int],
    *,
    batch_size: int = 32,
    device: torch.device | str | None = None,
) -> str | None:
    """Say which permutation of labels would explain an accuracy below chance; None if none would.

    It is measured on training examples, so that the validation split stays unseen.

    Args:
        model: See `predict`.
        train_encoded: A sample of the training split.
        task: The task.
        label_order: The label order in use: for each output, the data's label number.
        batch_size: See `predict`.
        device: See `predict`.
    """
    if not task.labels:
        return None
    logits = predict(model, train_encoded, batch_size=batch_size, device=device)
    best = best_permutation(logits, train_encoded.labels, label_order)
    rows, classes = len(train_encoded), len(task.labels)
    if best.order == tuple(label_order) or best.accuracy < 1 / classes + 3 * chance_deviation(
        rows, classes
    ):
        return None
    config: Any = model.config
    names = [str(config.id2label[output]) for output in range(classes)]
    return (
        f"{task.name}: accuracy is below chance; the model's labels look permuted: on {rows} "
        f"training examples it is {best.given:.1%} with the labels as read, and "
        f"{best.accuracy:.1%} with "
        f"`{recipe_line(names, [task.labels[number] for number in best.order])}`; if that is "
        "right, write it in the recipe"
    )
