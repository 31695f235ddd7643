"""Whether a model can be the parent of others, by its distances from them and theirs.

Theirs are the distances between the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import sqrt
from typing import Any

import numpy as np

from fmn.checkpoint import Tensors

Array = np.ndarray[Any, np.dtype[Any]]

ROWS, VALUES = 8, 4096
"""Of every tensor so many rows are looked at, spread over it, and of each row so many values."""

FAR = 4.0
"""How many times as far from the parent as from each other models may be, before somebody is told.

Measured on the pairs of six fine-tunes of a 6-layer BERT: 0.7 for their parent, 0.9 to 1.2 for
another fine-tune in its place; 39 to 49 for fresh weights of the same shape, 25 for the parent with
its neurons in another order.
"""


def doubt(name: str, parent: Tensors, models: Sequence[Tensors]) -> str:
    """Say with figures why a model cannot well be the parent of the others; nothing if it can.

    Fine-tunes that went different ways from their parent are farther from each other than from it;
    with the angle φ between their ways they are 2 sin(φ/2) times as far. Only a small sample of
    rows of every tensor is read.

    Args:
        name: of the parent.
        parent: its backbone.
        models: the backbones of two models or more; of one alone nothing can be said.
    """
    shared = sorted(name for name in parent if all(name in model for model in models))
    samples = [np.concatenate([_sample(model[name]) for name in shared]) for model in models]
    origin = np.concatenate([_sample(parent[name]) for name in shared])
    away = _mean([_distance(sample, origin) for sample in samples])
    apart = _mean([_distance(one, other) for one, other in combinations(samples, 2)])
    if not apart or not away > FAR * apart:
        return ""
    return (
        f"parent {name}: the models differ from it by {away:.2g} (root mean square over "
        f"{origin.size:,} weights) and from each other by {apart:.2g}, {away / apart:.0f} times "
        "less; is it the model that they are fine-tunes of?"
    )


def is_unchanged(parent: Tensors, model: Tensors) -> bool:
    """Tell whether a model is its parent in all that they share.

    The sample tells it of those that are not; only if it is equal, all is read.
    """
    shared = sorted(name for name in parent if name in model)
    return all(
        np.array_equal(part(parent[name]), part(model[name]))
        for part in (_sample, np.asarray)
        for name in shared
    )


def _sample(tensor: Array) -> Array:
    rows = tensor.reshape(1, -1) if tensor.ndim < 2 else tensor
    chosen = sorted({int(row) for row in np.linspace(0, len(rows) - 1, ROWS)})
    return np.concatenate([rows[row].reshape(-1)[:VALUES].astype(np.float64) for row in chosen])


def _distance(one: Array, other: Array) -> float:
    return sqrt(np.square(one - other).mean())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
