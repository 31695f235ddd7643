"""How sure a score is: the bootstrap over examples (Efron 1979, Ann. Statist. 7(1), percentiles).

The resamples of a split depend on its labels alone. So all predictions on one split share them,
which makes differences between models paired, and two tasks have resamples of their own. Of a
language task, examples are drawn with all their tokens: tokens of one text depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np

from fmn.evaluation.metrics import get_metric

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
OfCounts: TypeAlias = Callable[[Array, Array, Array], Array]
"""Of counts [b, N], predictions and references: a metric's values on b resamples."""
Interval: TypeAlias = tuple[float, float]
"""Low and high."""

ALGORITHM = 1
"""Of drawing resamples; it rises when a change makes others."""

RESAMPLES = 1_000
LEVEL = 0.95

CELLS = 2**20
"""Of resamples × examples that are worked on at a time: they fit a processor's cache."""

REMEMBERED = 2**26
"""Bytes of a split's resamples up to which they are kept for the next model: 67,000 examples."""


def resampled(
    metrics: Sequence[str],
    predictions: Array,
    references: Array,
    lengths: Array | None = None,
) -> dict[str, Array | None]:
    """Return each metric's values on the resamples, [B], by its name.

    Args:
        metrics: Names. One that is not fmn's own is called B times; None for one that refuses a
            resample.
        predictions: [N], label numbers or targets; or [T], tokens.
        references: The same of the data.
        lengths: [N], how many tokens each example has, if they are tokens.

    Raises:
        ParamsError: No such metric.
    """
    rows = len(references) if lengths is None else len(lengths)
    values: dict[str, Array | None] = {}
    for name in metrics:
        measure = _of_counts(name, lengths)
        try:
            parts = [
                measure(counts, predictions, references) for counts in _counts(references, rows)
            ]
        except ValueError:  # such as a resample that has one label alone
            values[name] = None
            continue
        joined = np.concatenate(parts)
        values[name] = joined if np.isfinite(joined).all() else None
    return values


def interval(values: Array) -> Interval:
    """Return the percentile interval of values on resamples, [B], that holds 95 % of them."""
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def normalized_mean(pairs: Sequence[tuple[Array, Array]]) -> Array:
    """Return the mean over tasks of merged / individual on each resample, [B].

    Args:
        pairs: For each task, the scores of the merge and of the model itself on the same resamples,
            [B] both; a model that scores 0 counts as in the mean itself, 0.
    """
    shares = [
        np.divide(merged, own, out=np.zeros_like(merged), where=own != 0) for merged, own in pairs
    ]
    mean: Array = np.mean(shares, axis=0)
    return mean


def chance(metric: str, references: Array, *, of_tokens: bool = False) -> float | None:
    """Return the best score of any constant prediction.

    Of accuracy that is the share of the commonest label, of correlations 0. None where the metric
    refuses constants.

    Args:
        metric: Name.
        references: [N], label numbers (integers) or targets, whose mean is what is predicted.
        of_tokens: They are tokens, of which only the commonest is tried.

    Raises:
        ParamsError: No such metric.
    """
    measure = get_metric(metric)
    of_labels = np.issubdtype(references.dtype, np.integer)
    labels, times = np.unique(references, return_counts=True)
    if of_tokens:
        labels = labels[[times.argmax()]]
    constants = labels if of_labels else [references.mean()]
    try:
        best = max(measure(np.full_like(references, each), references) for each in constants)
    except ValueError:
        return None
    return float(best) if np.isfinite(best) else None


def _counts(references: Array, rows: int | None = None) -> Iterator[Array]:
    """Yield how often each example is in each resample, [b, N], float32, b resamples at a time."""
    content, rows = references.astype("<f4").tobytes(), rows or len(references)
    seed = int.from_bytes(sha256(content).digest()[:16], "little")
    draw = _remembered if RESAMPLES * rows <= REMEMBERED else _drawn
    for counts in draw(seed, rows):
        yield counts.astype(np.float32)


def _drawn(seed: int, rows: int) -> Iterator[Array]:
    random, at_once = np.random.Generator(np.random.PCG64(seed)), max(1, CELLS // rows)
    for start in range(0, RESAMPLES, at_once):
        number = min(at_once, RESAMPLES - start)
        places = random.integers(rows, size=(number, rows))
        places += rows * np.arange(number)[:, None]
        counts = np.bincount(places.ravel(), minlength=number * rows).reshape(number, rows)
        yield counts.astype(np.uint8)  # 256 times in one resample: less than 1 in 1e500


@lru_cache(maxsize=8)
def _remembered(seed: int, rows: int) -> tuple[Array, ...]:
    return tuple(_drawn(seed, rows))


def _of_counts(name: str, lengths: Array | None) -> OfCounts:
    """Return a metric as a function of counts [b, N], predictions and references."""
    if lengths is None:
        return _OF_COUNTS.get(name) or _each(get_metric(name))
    if name == "accuracy":
        return partial(_token_accuracy, lengths)
    return _each(get_metric(name), lengths)


def _each(metric: Callable[[Array, Array], float], lengths: Array | None = None) -> OfCounts:
    """Return a metric as a function of counts that calls it for each resample."""

    def measure(counts: Array, predictions: Array, references: Array) -> Array:
        items = np.arange(len(references))
        times = (each.astype(np.intp) for each in counts)
        if lengths is not None:
            times = (np.repeat(each, lengths) for each in times)
        drawn = (np.repeat(items, each) for each in times)
        return np.array([metric(predictions[rows], references[rows]) for rows in drawn])

    return measure


def _sums(counts: Array, *columns: Array) -> Array:
    """Return what columns [N] add up to in each resample, [columns, b]."""
    # whole numbers are exact in float32: a resample has fewer than 2**24 examples
    kind = np.float64 if columns[0].dtype.kind == "f" else np.float32
    sums: Array = counts.astype(kind, copy=False) @ np.stack(columns, axis=1).astype(kind)
    return sums.T.astype(np.float64)


def _accuracy(counts: Array, predictions: Array, references: Array) -> Array:
    accuracy: Array = _sums(counts, predictions == references)[0] / len(references)
    return accuracy


def _token_accuracy(lengths: Array, counts: Array, predictions: Array, references: Array) -> Array:
    example = np.repeat(np.arange(len(lengths)), lengths)
    right = np.bincount(example, weights=predictions == references, minlength=len(lengths))
    return _ratio(*_sums(counts, right, lengths))


def _f1(counts: Array, predictions: Array, references: Array) -> Array:
    predicted, true = predictions == 1, references == 1
    hits, positives = _sums(counts, predicted & true, predicted * 1 + true)
    return _ratio(2 * hits, positives)


def _matthews(counts: Array, predictions: Array, references: Array) -> Array:
    rows, labels = len(references), np.union1d(predictions, references)
    (right,) = _sums(counts, predictions == references)
    predicted = _sums(counts, *(predictions == label for label in labels))
    true = _sums(counts, *(references == label for label in labels))
    variances = (rows**2 - (predicted**2).sum(0)) * (rows**2 - (true**2).sum(0))
    return _ratio(right * rows - (predicted * true).sum(0), np.sqrt(variances))


def _pearson(counts: Array, predictions: Array, references: Array) -> Array:
    x, y = (_standardized(side.astype(np.float64)) for side in (predictions, references))
    mean_x, mean_y, xx, yy, xy = _sums(counts, x, y, x * x, y * y, x * y) / len(references)
    # of a resample that is constant, all but rounding is 0
    x_variance, y_variance = (
        np.where(variance > 1e-12, variance, 0.0) for variance in (xx - mean_x**2, yy - mean_y**2)
    )
    return _ratio(xy - mean_x * mean_y, np.sqrt(x_variance * y_variance))


def _spearman(counts: Array, predictions: Array, references: Array) -> Array:
    x, y = _ranks(counts, predictions), _ranks(counts, references)
    covariance, x_variance, y_variance = (
        np.einsum("bn,bn,bn->b", counts, one, other) for one, other in ((x, y), (x, x), (y, y))
    )
    return _ratio(covariance, np.sqrt(x_variance * y_variance))


def _ranks(counts: Array, values: Array) -> Array:
    """Return the rank of each value in each resample, [b, N], less the mean of all; ties share."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    size = np.add.reduceat(counts[:, order].astype(np.float64), starts, axis=1)
    ranks: Array = (np.cumsum(size, axis=1) - (size - 1) / 2 - (len(values) + 1) / 2)[:, group]
    return ranks


def _standardized(values: Array) -> Array:
    spread = values.std()
    standardized: Array = (values - values.mean()) / (spread or 1.0)
    return standardized


def _ratio(above: Array, below: Array) -> Array:
    """Divide, and say 0 where GLUE's metrics do: for 0/0."""
    ratio: Array = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
    return ratio


_OF_COUNTS: Mapping[str, OfCounts] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
}
