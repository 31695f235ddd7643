"""RegMean without data: what goes into a linear map is guessed from its task vector."""

from __future__ import annotations

import numpy as np

from fmn.merging.regmean import in_one_thread
from fmn.merging.rules import Array, Parameter, Part, Rule, by_weight, register_rule, wide


def regmean_free(part: Part) -> Array:
    """Return RegMean's W* with τ_iᵀ τ_i / ‖τ_i‖² for the Gram matrix of model i.

    A step of gradient descent adds to a linear map's matrix a combination of what went in, so the
    rows of τ_i = W_i - W_0 lie where the inputs of task i do (Cheng et al. 2025, WUDI, sec. 4).
    ``W* = W̄ + (Σ_i λ_i (W_i - W̄) G̃_i) (Σ_i λ_i G̃_i + r d̄ I)⁻¹`` for W_i [outputs, inputs], W̄
    their λ-weighted mean, G̃_i with the entries off the diagonal times ``reduction`` and d̄ the mean
    of the sum's diagonal. Only shares of λ matter.

    With ``reduction: 1`` and ``ridge: 0`` (then a pseudo-inverse) it is the closed form of WUDI's
    objective, Σ_i ‖(τ - τ_i) τ_iᵀ‖² / ‖τ_i‖²; of its many minima, where the sum is singular, the
    one nearest to the mean. What is no linear map's matrix takes the mean, and so does a matrix
    that no model has changed.

    Linear algebra is in float64, in one thread. Another kind of processor may have another last
    bit.
    """
    mean = by_weight(part)
    if part.inputs is None:
        return mean
    change = in_one_thread(lambda: _change(part, mean))
    return mean if change is None else np.asarray(mean + change, wide(part.tensors))


def _change(part: Part, mean: Array) -> Array | None:
    """Return ``(Σ_i λ_i (W_i - W̄) G̃_i) (Σ_i λ_i G̃_i + r d̄ I)⁻¹``, as the matrix is stored."""
    assert part.parent is not None
    origin, reduction = part.parent.astype(np.float64), part.parameters["reduction"]
    change, total = np.zeros(()), np.zeros(())
    for tensor, weight in zip(part.tensors, part.weights, strict=True):
        vector = tensor.astype(np.float64) - origin
        if not np.isfinite(vector).all():
            return vector  # the engine says whose NaN it is
        if not vector.any():
            continue
        difference = tensor.astype(np.float64) - mean
        if part.inputs == 0:
            vector, difference = vector.T, difference.T
        share = weight / np.square(vector).sum()
        diagonal = np.square(vector).sum(0)
        # (W - W̄) G̃ in the cheaper order of products; G̃ is ρ τᵀτ + (1 - ρ) diag(τᵀτ)
        product = np.linalg.multi_dot([difference, vector.T, vector])
        change = change + share * (reduction * product + (1 - reduction) * difference * diagonal)
        total = total + share * (vector.T @ vector)
    if not total.ndim:
        return None
    diagonal = total.diagonal().copy()
    total *= reduction
    np.fill_diagonal(total, diagonal + part.parameters["ridge"] * diagonal.mean())
    solved = _times_inverse(change, total, is_regular=part.parameters["ridge"] > 0)
    return solved if part.inputs else solved.T


def _times_inverse(change: Array, total: Array, *, is_regular: bool) -> Array:
    """Return ``change @ total⁺`` for a symmetric ``total`` without negative eigenvalues."""
    from scipy.linalg import cho_factor, cho_solve, eigh

    # a transposed symmetric matrix is the same one as LAPACK stores it: no copy
    if is_regular:
        factor = cho_factor(total.T, lower=True, overwrite_a=True, check_finite=False)
        return np.asarray(cho_solve(factor, change.T, check_finite=False).T)
    values, vectors = eigh(total.T, overwrite_a=True, check_finite=False)
    alive = values > np.finfo(values.dtype).eps * len(values) * values[-1]
    vectors = vectors[:, alive]
    return np.asarray((change @ vectors / values[alive]) @ vectors.T)


register_rule(
    Rule(
        "regmean-free",
        "linear maps by regression on inputs that are guessed from the differences from the "
        "parent, all else by the mean",
        "Cheng et al. 2025, https://arxiv.org/abs/2503.08099",
        regmean_free,
        parent=True,
        whole=True,
        parameters=(
            Parameter(
                "reduction",
                0.9,
                "factor on the guessed Gram matrices' entries off the diagonal; 0: only the "
                "diagonal, 1: as they are",
                minimum=0,
                maximum=1,
            ),
            Parameter(
                "ridge",
                1e-3,
                "added to the diagonal of their sum, times its mean; 0: the pseudo-inverse, which "
                "with reduction 1 is WUDI's closed form",
                minimum=0,
            ),
        ),
    )
)
