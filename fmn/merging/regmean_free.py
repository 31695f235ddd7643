"""RegMean without data: what goes into a linear map is guessed from its task vector."""

from __future__ import annotations

import numpy as np

from fmn.merging.blas import at_once, in_one_thread
from fmn.merging.rules import Array, Parameter, Part, Rule, by_weight, register_rule, wide

BLOCK = 1024
"""Rows that are worked on at once; fixed, so that bytes do not depend on the number of threads."""


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

    Linear algebra is in float64, each piece in one thread. Another kind of processor may have
    another last bit.
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
    vectors, differences = [], []
    for tensor, weight in zip(part.tensors, part.weights, strict=True):
        vector = tensor.astype(np.float64) - origin
        norm = np.linalg.norm(vector)
        if not np.isfinite(norm):
            return vector  # the engine says whose NaN it is
        if norm > 0:
            # v with vᵀ v = λ G
            vectors.append(_turned(np.sqrt(weight) / norm * vector, part))
            differences.append(_turned(tensor.astype(np.float64) - mean, part))
    if not vectors:
        return None
    diagonals = [np.einsum("ij,ij->j", vector, vector) for vector in vectors]

    def asked(model: int) -> Array:
        """Return λ (W - W̄) G̃, with the matrices multiplied in the cheaper order."""
        vector, difference = vectors[model], differences[model]
        product = np.linalg.multi_dot([difference, vector.T, vector])
        product *= reduction
        product += (1 - reduction) * diagonals[model] * difference
        return np.asarray(product)

    change = sum(at_once(asked, range(len(vectors))))
    differences.clear()
    total, diagonal = _lower_gram(np.concatenate(vectors)), sum(diagonals)
    total *= reduction
    np.fill_diagonal(total, diagonal + part.parameters["ridge"] * np.mean(diagonal))
    solved = _times_inverse(np.asarray(change), total, is_regular=part.parameters["ridge"] > 0)
    return _turned(solved, part)


def _turned(matrix: Array, part: Part) -> Array:
    """Return a matrix as [outputs, inputs], or such a one as it is stored."""
    return matrix if part.inputs else matrix.T


def _lower_gram(rows: Array) -> Array:
    """Return RᵀR, [inputs, inputs], of which only the lower triangle means something."""
    size = rows.shape[1]
    gram = np.zeros((size, size))

    def fill(start: int) -> None:
        stop = min(start + BLOCK, size)
        np.matmul(rows[:, start:stop].T, rows[:, :stop], out=gram[start:stop, :stop])

    at_once(fill, range(0, size, BLOCK))
    return gram


def _times_inverse(change: Array, total: Array, *, is_regular: bool) -> Array:
    """Return ``change @ total⁺`` for a symmetric ``total`` without negative eigenvalues.

    Args:
        change: [outputs, inputs].
        total: its lower triangle; it is overwritten.
        is_regular: none of the eigenvalues is 0.
    """
    from scipy.linalg import cho_factor, cho_solve, eigh

    # for LAPACK, which stores by columns, rows are the transposed matrix: no copy
    if not is_regular:
        values, vectors = eigh(total.T, lower=False, overwrite_a=True, check_finite=False)
        alive = values > np.finfo(values.dtype).eps * len(values) * values[-1]
        vectors = vectors[:, alive]
        return np.asarray((change @ vectors / values[alive]) @ vectors.T)
    factor = cho_factor(total.T, lower=False, overwrite_a=True, check_finite=False)

    def solved(start: int) -> Array:
        part = change[start : start + BLOCK]
        return np.asarray(cho_solve(factor, part.T, check_finite=False).T)

    return np.concatenate(at_once(solved, range(0, len(change), BLOCK)))


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
