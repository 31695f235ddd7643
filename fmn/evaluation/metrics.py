"""Metrics: from predictions and references to one number, as GLUE computes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

from fmn.errors import ParamsError
from fmn.registry import Registry

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Metric: TypeAlias = Callable[[Array, Array], float]


def register_metric(name: str, metric: Metric) -> None:
    """Add a metric: a function of predictions [N] and references [N], higher being better.

    For a classification both hold the data's label numbers, for a regression real numbers.

    Raises:
        ParamsError: The name is bad, or taken.
    """
    _METRICS.register(name, metric)


def get_metric(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        ParamsError: No such metric.
    """
    return _METRICS.get(name)


def metric_names() -> tuple[str, ...]:
    """Return the names of all registered metrics, sorted."""
    return _METRICS.names()


def accuracy(predictions: Array, references: Array) -> float:
    """Return the fraction of predictions that are right, in [0, 1]."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def f1(predictions: Array, references: Array) -> float:
    """Return the F1 of label 1 in a binary task, in [0, 1]; 0 where there is no positive at all."""
    from sklearn.metrics import f1_score

    return float(f1_score(references, predictions, pos_label=1, zero_division=0.0))


def matthews(predictions: Array, references: Array) -> float:
    """Return Matthews' correlation, in [-1, 1]; 0 where either side is constant."""
    from sklearn.metrics import matthews_corrcoef

    return (
        0.0
        if _either_constant(predictions, references)
        else float(matthews_corrcoef(references, predictions))
    )


def pearson(predictions: Array, references: Array) -> float:
    """Return Pearson's correlation, in [-1, 1]; 0 where either side is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predictions, references)


def spearman(predictions: Array, references: Array) -> float:
    """Return Spearman's rank correlation, in [-1, 1]; 0 where either side is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predictions, references)


def _correlation(correlate: Callable[..., Any], predictions: Array, references: Array) -> float:
    if _either_constant(predictions, references):
        return 0.0
    return float(correlate(predictions.astype(np.float64), references.astype(np.float64)).statistic)


def _either_constant(*sides: Array) -> bool:
    # A correlation with a constant is 0/0: scipy says nan and warns, GLUE reports 0.
    return any(np.ptp(side) == 0 for side in sides)


def _unfold(name: str, item: object) -> Iterator[tuple[str, Metric]]:
    if not callable(item):
        raise ParamsError(
            f"expected a function of predictions and references, got {type(item).__name__}"
        )
    yield name, item


_METRICS: Registry[Metric] = Registry(
    "metric",
    "fmn.metrics",
    _unfold,
    "add your own with register_metric or an entry point in the group 'fmn.metrics'",
)

for _metric in (accuracy, f1, matthews, pearson, spearman):
    register_metric(_metric.__name__, _metric)
