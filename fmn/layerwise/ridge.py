"""Ridge regression towards a start, from sums over two halves of the examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

RIDGES = tuple(float(f"{mantissa}e{power}") for power in range(-5, 2) for mantissa in (1, 3))
"""Relative to the mean diagonal of XᵀX, the ridges that are tried: 1e-5, 3e-5, … 10, 30."""

ROUNDING = 1e-10
"""What betters the squared error by a smaller share of what is said betters nothing."""


@dataclass(frozen=True)
class Sums:
    """Of weighted rows x, y: all that least squares needs of them.

    Attributes:
        gram: Σ w x xᵀ, [inputs, inputs].
        cross: Σ w x yᵀ, [inputs, outputs].
    """

    gram: Array
    cross: Array

    def __add__(self, other: Sums) -> Sums:
        """Add up."""
        return Sums(self.gram + other.gram, self.cross + other.cross)

    def times(self, factor: float) -> Sums:
        """Weight all rows."""
        return Sums(factor * self.gram, factor * self.cross)

    def left_by(self, start: Array) -> Sums:
        """Return the sums of what a map [inputs, outputs] leaves over."""
        return Sums(self.gram, self.cross - self.gram @ start)

    def change(self, step: Array) -> float:
        """Return by how much a step from 0 [inputs, outputs] changes the squared error."""
        return float(np.sum(step * (self.gram @ step)) - 2 * np.sum(step * self.cross))


def fit(
    halves: Sequence[Sums], start: Array, ridge: float | None, *, free: bool
) -> tuple[Array, float | None]:
    """Return W = argmin Σ w ‖xᵀW - y‖² + r·‖W - W_start‖², and r relative to XᵀX's mean diagonal.

    Args:
        halves: the sums of two halves of the examples.
        start: W_start, [inputs, outputs].
        ridge: relative to the mean diagonal; None takes the one of ``RIDGES`` with the least error
            of each half by what was fitted to the other, and the start itself if that is better
            than all of them; then the ridge that is returned is None.
        free: the last input is 1, and its row (the bias) is not penalised.
    """
    left = [half.left_by(start) for half in halves]
    if ridge is None:
        one, other = left
        changes = _Solved(one, free=free).changes(other) + _Solved(other, free=free).changes(one)
        said = sum(float(np.sum(start * (half.gram @ start))) for half in halves)
        ridge = _least(changes, said)
    if ridge is None:
        return start, None
    whole = _Solved(left[0] + left[1], free=free)
    return start + whole.step(ridge), ridge


def _least(changes: Array, said: float) -> float | None:
    """Return the ridge of ``RIDGES`` that betters the error most; None if none does."""
    best = int(np.argmin(changes))
    return RIDGES[best] if changes[best] < -ROUNDING * said else None


class _Solved:
    """All ridges at once, by the eigenvectors of the Gram matrix."""

    def __init__(self, sums: Sums, *, free: bool) -> None:
        gram, cross = sums.gram, sums.cross
        self._mean: Array | None = None
        self._shift: Array | None = None
        inputs = len(gram) - free
        self._scale = float(np.trace(gram[:inputs, :inputs])) / inputs
        if free:  # as if inputs and outputs were centred
            count = gram[-1, -1]
            self._mean, self._shift = gram[-1, :-1] / count, cross[-1] / count
            gram = gram[:-1, :-1] - count * np.outer(self._mean, self._mean)
            cross = cross[:-1] - np.outer(self._mean, cross[-1])
        values, self._vectors = np.linalg.eigh(gram)
        self._values = np.maximum(values, 0)
        self._inside = self._vectors.T @ cross

    def _slopes(self, ridge: float) -> Array:
        # of inputs that are all 0 nothing is learnt
        below = self._values + ridge * self._scale
        slopes: Array = np.divide(1.0, below, out=np.zeros_like(below), where=below > 0)
        return slopes

    def step(self, ridge: float) -> Array:
        """Return W - W_start."""
        step: Array = self._vectors @ (self._slopes(ridge)[:, None] * self._inside)
        if self._mean is None or self._shift is None:
            return step
        return np.vstack([step, self._shift - self._mean @ step])

    def changes(self, other: Sums) -> Array:
        """Return by how much the step of each ridge changes the squared error on other rows.

        A step is basis·diag(slopes)·inside + shift, so that products of matrices are needed once.
        """
        basis, constant = self._vectors, 0.0
        if self._mean is not None:
            basis = np.vstack([basis, -(self._mean @ basis)[None]])
        linear = -2 * np.sum(self._inside * (basis.T @ other.cross), axis=1)
        if self._shift is not None:
            last = other.gram[:, -1]
            linear += 2 * (basis.T @ last) * (self._inside @ self._shift)
            constant = float(self._shift @ (self._shift * last[-1] - 2 * other.cross[-1]))
        square = (basis.T @ other.gram @ basis) * (self._inside @ self._inside.T)
        slopes = np.stack([self._slopes(ridge) for ridge in RIDGES])
        quadratic = np.sum(slopes @ square * slopes, axis=1)
        return np.asarray(quadratic + slopes @ linear + constant)


@dataclass(frozen=True)
class Affine:
    """Sums of rows x, y a channel, of which y = a x + c is fitted: all of shape [channels].

    Attributes:
        count: of rows.
        x: Σ x.
        xx: Σ x².
        y: Σ y.
        xy: Σ x y.
    """

    count: float
    x: Array
    xx: Array
    y: Array
    xy: Array

    @classmethod
    def of(cls, x: Array, y: Array) -> Affine:
        """Return the sums of rows [rows, channels]."""
        return cls(len(x), x.sum(0), (x * x).sum(0), y.sum(0), (x * y).sum(0))

    def __add__(self, other: Affine) -> Affine:
        """Add up."""
        return Affine(*(one + two for one, two in zip(self._sums, other._sums, strict=True)))

    def times(self, factor: float) -> Affine:
        """Weight all rows."""
        return Affine(*(factor * each for each in self._sums))

    @property
    def _sums(self) -> tuple[Any, ...]:
        return self.count, self.x, self.xx, self.y, self.xy

    def fit(self, ridge: float, *, shifted: bool) -> tuple[Array, Array]:
        """Return a and c of a ridge that is relative to the channels' mean Σ x²."""
        mean, shift = (self.x / self.count, self.y / self.count) if shifted else (0.0, 0.0)
        below = self.xx - mean * self.x + ridge * self.xx.mean()
        above = self.xy - mean * self.y
        slope = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        return slope, shift - mean * slope

    def change(self, slope: Array, shift: Array) -> float:
        """Return by how much a x + c instead of 0 changes the squared error."""
        square = slope * slope * self.xx + 2 * slope * shift * self.x + shift * shift * self.count
        return float(np.sum(square - 2 * (slope * self.xy + shift * self.y)))


def fit_affine(
    halves: Sequence[Affine], start: Array, ridge: float | None, *, shifted: bool
) -> tuple[tuple[Array, Array], float | None]:
    """Return what to add to a scale and a shift, [channels] each, and the ridge; see :func:`fit`.

    Args:
        halves: the sums of two halves of the examples, of what is left over.
        start: the scale, [channels].
        ridge: relative to the channels' mean Σ x².
        shifted: there is a shift; it is not penalised.
    """
    one, other = halves
    whole = one + other
    if ridge is None:
        changes = [
            other.change(*one.fit(each, shifted=shifted))
            + one.change(*other.fit(each, shifted=shifted))
            for each in RIDGES
        ]
        ridge = _least(np.asarray(changes), float(np.sum(start**2 * whole.xx)))
    if ridge is None:
        return (np.zeros_like(whole.x), np.zeros_like(whole.x)), None
    return whole.fit(ridge, shifted=shifted), ridge
