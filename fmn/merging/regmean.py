"""RegMean: linear layers' weights by regression on their inputs, all else by the mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeVar

import numpy as np

from fmn.checkpoint import Tensors
from fmn.merging.rules import Array, Part, Rule, by_weight, register_rule, wide

T = TypeVar("T")

SINGULAR = 2.0**-22
"""Smallest eigenvalue that counts, of a matrix with a diagonal of ones, per row of it: Gram
matrices are stored in float32.
"""


def regmean(part: Part) -> Array:
    """Return the W* that minimises Σ_i λ_i ‖X_i W* - X_i W_i‖² (Jin et al. 2023).

    ``W* = (Σ_i λ_i W_i G̃_i) (Σ_i λ_i G̃_i)⁻¹`` with ``G̃ = α G + (1 - α) diag(G)``, for W_i
    [outputs, inputs]. It is computed as the λ-weighted mean W̄ plus ``(Σ_i λ_i (W_i - W̄) G̃_i)
    (Σ_i λ_i G̃_i)⁻¹``, so that models that are equal stay so bit by bit.

    Where the sum is singular, there are many minima (an input that is always 0, fewer positions
    than inputs with α = 1). The one nearest to W̄ is taken, each input in units of its own root
    mean square: the inverse is a pseudo-inverse of the sum with its diagonal scaled to ones. What
    never goes in keeps W̄.

    Linear algebra is in float64, in one thread. Another kind of processor may have another last
    bit.
    """
    mean = by_weight(part)
    if not part.grams or not np.isfinite(mean).all():
        return mean
    solved = in_one_thread(lambda: _solved(part, mean))
    return np.asarray(mean + (solved if part.inputs else solved.T), wide(part.tensors))


def _solved(part: Part, mean: Array) -> Array:
    """Return ``(Σ_i λ_i (W_i - W̄) G̃_i) (Σ_i λ_i G̃_i)⁻¹``, [outputs, inputs]."""
    change, total = np.zeros(()), np.zeros(())
    for tensor, gram, weight in zip(part.tensors, part.grams, part.weights, strict=True):
        reduced = gram.astype(np.float64) * part.told["alpha"]
        np.fill_diagonal(reduced, gram.diagonal())
        reduced *= weight
        difference = tensor.astype(np.float64) - mean
        change = change + (difference if part.inputs else difference.T) @ reduced
        total = total + reduced
    return _times_inverse(change, total)


def _times_inverse(change: Array, total: Array) -> Array:
    """Return ``change @ total⁺`` for a symmetric ``total`` without negative eigenvalues."""
    from scipy.linalg import eigh, lapack

    alive = np.flatnonzero(total.diagonal() > 0)
    if not alive.size:
        return np.zeros(change.shape)
    scale = 1 / np.sqrt(total.diagonal()[alive])
    scaled = total[np.ix_(alive, alive)] * scale * scale[:, None]
    right = change[:, alive] * scale
    least = SINGULAR * len(alive)
    factor, failed = lapack.dpotrf(scaled, lower=True)
    norm = np.abs(scaled).sum(0).max()
    if (
        not failed and lapack.dpocon(factor, norm, uplo="L")[0] * norm > least
    ):  # at most the smallest eigenvalue
        solution = lapack.dpotrs(factor, right.T, lower=True)[0].T
    else:
        values, vectors = eigh(scaled)
        inverse = np.divide(1, values, out=np.zeros_like(values), where=values > least)
        solution = (right @ vectors) * inverse @ vectors.T
    result = np.zeros(change.shape)
    result[:, alive] = solution * scale
    return result


_LOCK = Lock()


def in_one_thread(work: Callable[[], T]) -> T:
    """Return what ``work`` returns.

    BLAS adds in one order meanwhile, whatever the number of processors.

    One call at a time, each in a thread of its own: where several threads set and restore
    OpenBLAS's number of threads, one that has set it to 1 may find another.
    """
    from threadpoolctl import threadpool_limits

    def limited() -> T:
        with threadpool_limits(1, "blas"):
            return work()

    with _LOCK, ThreadPoolExecutor(1) as fresh:
        return fresh.submit(limited).result()


@dataclass(frozen=True)
class Grams:
    """Where a file of Gram matrices has that of each parameter.

    See :class:`fmn.fisher.GramMatrices`.

    Attributes:
        tensors: the matrices.
        where: from a parameter's backbone-relative name to its matrix's, and the axis of the
            parameter that the inputs lie along.
    """

    tensors: Tensors = field(default_factory=dict)
    where: Mapping[str, tuple[str, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, tensors: Tensors, metadata: Mapping[str, str]) -> Grams:
        """Read what a file says; nothing where it says nothing that makes sense."""
        try:
            said = json.loads(metadata.get("inputs", "")).items()
            return cls(
                tensors, {str(name): (str(matrix), int(axis)) for name, (matrix, axis) in said}
            )
        except (ValueError, TypeError, AttributeError):
            return cls(tensors)

    def offences(self, shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
        """Say what does not fit parameters of these shapes; no matrix is read."""
        if not self.where:
            yield (
                "its file does not say for which parameters the Gram matrices are; make it with "
                "'fmn fisher --kind gram'"
            )
        for name, (matrix, axis) in self.where.items():
            shape, found = shapes.get(name), self.tensors.get(matrix)
            if (
                shape is None
                or found is None
                or axis not in (0, 1)
                or len(shape) != 2
                or found.shape != (shape[axis],) * 2
            ):
                had = "none" if found is None else f"one of shape {list(found.shape)}"
                yield (
                    f"its Gram matrix for {name} of shape {list(shape or ())} along axis {axis} "
                    f"is {had}; is it of this model?"
                )
                return

    def get(self, name: str) -> tuple[Array, int] | None:
        """Return a parameter's matrix and axis, if it has any."""
        if name not in self.where:
            return None
        matrix, axis = self.where[name]
        return self.tensors[matrix], axis


register_rule(
    Rule(
        "regmean",
        "Jin et al. 2023, https://arxiv.org/abs/2212.09849",
        "gram",
        regmean,
        whole=True,
        parameters={"alpha": 0.9},
    )
)
