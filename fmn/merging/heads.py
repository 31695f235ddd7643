"""Task heads refitted in closed form: a merge changes what they read, not what they should say.

A head's first linear map W, b is fitted so that it says of the merged backbone's states what the
model said of its own: ridge regression towards the model's own map, without labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fmn.errors import MergeError

Array = np.ndarray[Any, np.dtype[Any]]

RIDGES = tuple(float(f"{mantissa}e{power}") for power in range(-4, 3) for mantissa in (1, 3))
"""Relative to the mean diagonal of XᵀX, the ridges that are tried: 1e-4, 3e-4, … 100, 300."""


@dataclass(frozen=True)
class Refit:
    """A head's first linear map after a merge.

    Attributes:
        weight: [outputs, inputs], float64.
        bias: [outputs]; None where the map has none.
        ridge: that was chosen, relative to the mean diagonal of XᵀX; None where the model's own map
            stays.
        error: leave-one-out mean squared error of what it says, over examples and outputs.
        own_error: mean squared error of the model's own map on the merged backbone.
    """

    weight: Array
    bias: Array | None
    ridge: float | None
    error: float
    own_error: float


def refit(
    inputs: Array,
    outputs: Array,
    weight: Array,
    bias: Array | None,
    ridges: tuple[float, ...] = RIDGES,
) -> Refit:
    """Return the candidate with the least leave-one-out error, the own map if none is better.

    Args, Raises: see :func:`candidates`.
    """
    return min(candidates(inputs, outputs, weight, bias, ridges), key=lambda fit: fit.error)


def candidates(
    inputs: Array,
    outputs: Array,
    weight: Array,
    bias: Array | None,
    ridges: tuple[float, ...] = RIDGES,
) -> Iterator[Refit]:
    """Iterate over the own map and W = argmin ‖XWᵀ + b - Y‖² + r·‖W - W_own‖² for each ridge r.

    The bias is free. All ridges come from one singular value decomposition of the centred inputs:
    with D = W - W_own and R what the own map leaves over, D_r = V·diag(s/(s² + r))·Uᵀ·R, and the
    residual of an example left out is its residual over 1 - h, h its diagonal entry of the hat
    matrix (Allen 1974, PRESS). Of fewer than three examples none can be left out: the own map is
    the only one.

    Args:
        inputs: X, what the merged backbone gives, [examples, inputs].
        outputs: Y, what the model's own map says of its own backbone, [examples, outputs].
        weight: W_own, [outputs, inputs].
        bias: b_own, [outputs], or None.
        ridges: relative to the mean diagonal of XᵀX.

    Raises:
        MergeError: shapes that do not fit, NaN or infinite states.
    """
    x, y, own = (np.asarray(each, np.float64) for each in (inputs, outputs, weight))
    if x.ndim != 2 or y.shape != (len(x), own.shape[0]) or x.shape[1] != own.shape[1]:
        raise MergeError(
            [
                f"states of shape {list(x.shape)} and {list(y.shape)} do not fit a head of shape "
                f"{list(own.shape)}; compute the head states again"
            ]
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise MergeError(["head states hold NaN or infinite values; is the merge sound?"])
    own_bias = np.zeros(len(own)) if bias is None else np.asarray(bias, np.float64)
    left = y - x @ own.T - own_bias
    own_error = float(np.mean(left**2))
    yield Refit(own, None if bias is None else own_bias, None, own_error, own_error)
    if len(x) < 3:
        return
    free = bias is not None
    centre, shift = x.mean(0) * free, left.mean(0) * free
    u, s, vt = np.linalg.svd(x - centre, full_matrices=False)
    inside = u.T @ (left - shift)
    mean_diagonal = float(np.mean(np.einsum("ij,ij->j", x, x)))
    for ridge in ridges:
        slope = np.divide(s, s * s + ridge * mean_diagonal, out=np.zeros_like(s), where=s > 0)
        change = (vt.T * slope) @ inside
        hat = np.einsum("ij,j,ij->i", u, s * slope, u) + free / len(x)
        residual = left - shift - u @ ((s * slope)[:, None] * inside)
        # an example that alone decides its row has no error of its own
        error = float(np.mean((residual / np.maximum(1 - hat, 1e-9)[:, None]) ** 2))
        moved = own_bias + shift - centre @ change if free else None
        yield Refit(own + change.T, moved, ridge, error, own_error)
