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
    """Return the fraction of predictions that are right, in [0, 1].

    Raises:
        ValueError: They are real numbers, and no labels.
    """
    _labels(predictions, references)
    return float((predictions == references).mean())


def f1(predictions: Array, references: Array) -> float:
    """Return the F1 of label 1 in a binary task, in [0, 1]; 0 where there is no positive at all.

    Raises:
        ValueError: There are labels other than 0 and 1.
    """
    labels = _labels(predictions, references)
    if not {0, 1} >= {*labels.tolist()}:
        shown = ", ".join(f"{label:g}" for label in labels[:10])
        raise ValueError(f"it is for the labels 0 and 1, and there are {shown}")
    positive = int((predictions == 1).sum() + (references == 1).sum())
    return 2 * int(((predictions == 1) & (references == 1)).sum()) / positive if positive else 0.0


def matthews(predictions: Array, references: Array) -> float:
    """Return Matthews' correlation, in [-1, 1]; 0 where either side is constant.

    For any number of labels: R_K of Gorodkin 2004,
    https://doi.org/10.1016/j.compbiolchem.2004.09.006.

    Raises:
        ValueError: They are real numbers, and no labels.
    """
    labels = _labels(predictions, references)
    if _either_constant(predictions, references):
        return 0.0
    predicted, true = (
        np.bincount(np.searchsorted(labels, side), minlength=len(labels)).astype(np.float64)
        for side in (predictions, references)
    )
    n, right = float(len(references)), float((predictions == references).sum())
    covariance = right * n - predicted @ true
    return float(covariance / np.sqrt((n**2 - predicted @ predicted) * (n**2 - true @ true)))


def pearson(predictions: Array, references: Array) -> float:
    """Return Pearson's correlation, in [-1, 1]; 0 where either side is constant."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, predictions, references)


def spearman(predictions: Array, references: Array) -> float:
    """Return Spearman's rank correlation, in [-1, 1]; 0 where either side is constant."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, predictions, references)


def _labels(*sides: Array) -> Array:
    """Return the labels that there are, sorted."""
    labels = np.unique(np.concatenate(sides))
    if (labels != np.floor(labels)).any():
        raise ValueError("it is for labels, and these are real numbers")
    return labels


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
