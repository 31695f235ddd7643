"""RegMean: linear layers' weights by regression on their inputs, all else by the mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fmn.merging.blas import in_one_thread
from fmn.merging.rules import Array, Parameter, Part, Rule, by_weight, register_rule, wide
from fmn.statistics import Gram

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
    grams: tuple[Gram | None, ...] = part.statistics["gram"]
    known = [gram for gram in grams if gram is not None]
    if len(known) < len(grams) or not np.isfinite(mean).all():
        return mean
    solved = in_one_thread(lambda: _solved(part, known, mean))
    return np.asarray(mean + (solved if known[0].axis else solved.T), wide(part.tensors))


def _solved(part: Part, grams: Sequence[Gram], mean: Array) -> Array:
    """Return ``(Σ_i λ_i (W_i - W̄) G̃_i) (Σ_i λ_i G̃_i)⁻¹``, [outputs, inputs]."""
    change, total = np.zeros(()), np.zeros(())
    for tensor, gram, weight in zip(part.tensors, grams, part.weights, strict=True):
        reduced = gram.matrix.astype(np.float64) * part.parameters["alpha"]
        np.fill_diagonal(reduced, gram.matrix.diagonal())
        reduced *= weight
        difference = tensor.astype(np.float64) - mean
        change = change + (difference if gram.axis else difference.T) @ reduced
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
    # the reciprocal condition times the norm is at most the smallest eigenvalue
    if not failed and lapack.dpocon(factor, norm, uplo="L")[0] * norm > least:
        solution = lapack.dpotrs(factor, right.T, lower=True)[0].T
    else:
        values, vectors = eigh(scaled)
        inverse = np.divide(1, values, out=np.zeros_like(values), where=values > least)
        solution = (right @ vectors) * inverse @ vectors.T
    result = np.zeros(change.shape)
    result[:, alive] = solution * scale
    return result


register_rule(
    Rule(
        "regmean",
        "linear layers by regression on what goes into them, all else by the mean",
        "Jin et al. 2023, https://arxiv.org/abs/2212.09849",
        regmean,
        ("gram",),
        whole=True,
        parameters=(
            Parameter(
                "alpha",
                0.9,
                "factor on the Gram matrices' entries off the diagonal; 0: only the diagonal",
                minimum=0,
                maximum=1,
            ),
        ),
    )
)
