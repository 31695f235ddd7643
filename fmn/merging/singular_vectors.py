"""Rules on the singular vectors of task matrices: task singular vectors, isotropic merging.

A task matrix is the task vector τ_i = θ_i - θ_0 of the matrix of a linear map. It is the same merge
whichever way round the matrix is stored. A fused matrix (query, key and value in one) is one linear
map, and taken as one. What is no linear map's matrix (biases, norms, embeddings, poolers) moves by
the mean of λ_i τ_i.

λ_i scales τ_i, and so its singular values, and is absolute, as in all rules on task vectors.

Linear algebra is in float64; each product and decomposition is in one thread, so that bytes do not
depend on their number. Another kind of processor may have another last bit.

Singular vectors of singular value 0 are any that LAPACK picks, and are left out. So a task vector
that is 0 adds nothing, and a matrix of low rank no more than it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from fmn.merging.blas import at_once, in_one_thread
from fmn.merging.rules import (
    ONE,
    Array,
    Needs,
    Parameter,
    Part,
    Rule,
    by_weight,
    register_rule,
    wide,
)
from fmn.merging.task_vectors import SCALED_ONCE

METRICS = {
    "none": (),
    "mask-fisher": ("mask-fisher",),
    "inputs": ("second-moments",),
    "both": ("mask-fisher", "second-moments"),
}
"""What each metric of :func:`tsv_m` is made of."""

POWERS = {"mask-fisher": 1 / 4, "second-moments": 1 / 2}
"""Of statistics, by which they scale a task matrix: the metric has their squares."""

FLOOR = 1e-4
"""Of a statistic, as a share of its mean: what is divided out again is nowhere 0."""


def tsv_m(part: Part) -> Array:
    """Return θ_0 + s · U Σ Vᵀ of the models' top singular vectors (Gargiulo et al. 2025, TSV-M).

    Of each of M task matrices the ⌊min(rows, columns) / M⌋ largest singular triples are kept, one
    at least, and put beside each other: U [rows, triples], Σ, V [columns, triples]. U and V are
    then replaced by their polar factors, the nearest matrices with orthonormal columns, so that
    models do not interfere. Singular vectors are eigenvectors of the smaller of τ τᵀ and τᵀ τ,
    which are as good for the largest ones and take a third of the time (``benchmarks/singular.py``
    measures both); 0 is what float64 cannot tell from it there, below some 1e-6 of the largest.

    A matrix with fewer singular values than models has more columns than fit: its polar factors
    have orthonormal rows. What several models have in common is counted once, not as often as they
    are: the polar factor of columns that depend on each other is a partial isometry.

    Of singular values that are equal where the list is cut, LAPACK chooses.

    A ``metric`` says which errors matter: all τ are scaled before, and what comes out is divided by
    the same after. Rows of heads and neurons are scaled by the fourth root of their mask Fisher,
    columns by the square root of their inputs' second moment, each relative to its mean in the
    matrix; models are averaged, so that singular vectors of all are orthogonal in one space.
    """
    metric = _metric(part)
    return _on_matrices(
        part,
        _of_singular_vectors
        if metric is ONE
        else lambda vectors: _of_singular_vectors([vec * metric for vec in vectors]) / metric,
    )


def _metric(part: Part) -> Array:
    """Return what a task matrix is multiplied with, broadcastable to it."""
    metric = ONE
    for name, power in POWERS.items():
        measured = part.statistics.get(name, ())
        if part.inputs is None or any(each is None or not np.ndim(each) for each in measured):
            continue
        scales = [_tempered(each, power) for each in measured]
        metric = metric * (sum(scales) / len(scales)) if scales else metric
    return metric


def _tempered(values: Array, power: float) -> Array:
    mean = values.mean(dtype=np.float64)
    return np.asarray((values / mean + FLOOR) ** power if mean > 0 else np.ones(values.shape))


def _of_metric(settings: Mapping[str, Any]) -> Needs:
    # a fused matrix has rows of queries, keys and values
    return Needs(METRICS[settings["metric"]], reading=(("association", "value"),))


def iso_c(part: Part) -> Array:
    """Return θ_0 + s · σ̄ U Vᵀ with U Σ Vᵀ = Σ_i λ_i τ_i and σ̄ the mean of Σ (Marczak et al. 2025).

    The mean is over the singular values that are not 0, so that the sum of them stays.
    """
    return _on_matrices(part, _isotropic)


def _on_matrices(part: Part, change: Callable[[Sequence[Array]], Array]) -> Array:
    """Return θ_0 + s · change of the λ_i τ_i of a linear map's matrix, or of the mean of others."""
    scale = part.parameters["scale"]
    if part.inputs is None and scale == 1 and set(part.weights) == {1.0}:
        return by_weight(part)  # keeps what is equal in all models bit by bit
    return np.asarray(in_one_thread(lambda: _moved(part, change, scale)), wide(part.tensors))


def _moved(part: Part, change: Callable[[Sequence[Array]], Array], scale: float) -> Array:
    assert part.parent is not None
    origin = part.parent.astype(np.float64)
    vectors = [
        weight * (tensor.astype(np.float64) - origin)
        for tensor, weight in zip(part.tensors, part.weights, strict=True)
    ]
    if part.inputs is None:
        step = sum(vectors) / len(vectors)
    elif not all(np.isfinite(vector).all() for vector in vectors):
        step = sum(vectors)  # the engine says whose NaN it is
    else:
        step = change(vectors)
    return np.where(step == 0, origin, origin + scale * step)


def _of_singular_vectors(vectors: Sequence[Array]) -> Array:
    """Return U Σ Vᵀ of the largest singular triples, U and V made orthonormal."""
    count = max(1, min(vectors[0].shape) // len(vectors))
    triples = at_once(partial(_largest, count=count), [vec for vec in vectors if vec.any()])
    if not triples:
        return np.zeros(vectors[0].shape)
    left, values, right = (np.concatenate(each, axis=-1) for each in zip(*triples, strict=True))
    # U (UᵀU)^(-1/2) Σ (VᵀV)^(-1/2) Vᵀ, with the products of small matrices first
    roots = at_once(_inverse_root, [left, right])
    return np.asarray((left @ (roots[0] * values @ roots[1])) @ right.T)


def _largest(matrix: Array, count: int) -> tuple[Array, Array, Array]:
    """Return the ``count`` largest singular triples: [rows, count], [count], [columns, count].

    Fewer, where fewer are not 0.
    """
    if matrix.shape[0] > matrix.shape[1]:
        right, values, left = _largest(matrix.T, count)
        return left, values, right
    left, _ = _eigenvectors(matrix @ matrix.T, count)
    right = matrix.T @ left
    values = np.linalg.norm(right, axis=0)
    return left, values, right / values


def _inverse_root(matrix: Array) -> Array:
    """Return (XᵀX)^(-1/2), with which X becomes its polar factor; singular directions give 0."""
    vectors, values = _eigenvectors(matrix.T @ matrix, matrix.shape[1])
    return np.asarray((vectors / np.sqrt(values)) @ vectors.T)


def _eigenvectors(gram: Array, count: int) -> tuple[Array, Array]:
    """Return the eigenvectors of the ``count`` largest eigenvalues, and these, 0 left out."""
    from scipy.linalg import eigh

    size = len(gram)
    whole = count == size
    values, vectors = eigh(
        gram,
        driver="evd" if whole else "evr",  # the faster one
        subset_by_index=None if whole else (size - count, size - 1),
        overwrite_a=True,
        check_finite=False,
    )
    alive = values > np.finfo(values.dtype).eps * size * max(values[-1], 0)
    return vectors[:, alive], values[alive]


def _isotropic(vectors: Sequence[Array]) -> Array:
    """Return σ̄ U Vᵀ of the sum's singular value decomposition U Σ Vᵀ.

    All directions count the same in it, so the small ones have to be exact.
    """
    from scipy.linalg import svd

    total = sum(vectors[1:], start=vectors[0])
    left, values, right = svd(total, full_matrices=False, overwrite_a=True, check_finite=False)
    alive = values > np.finfo(values.dtype).eps * max(total.shape) * values[0]
    if not alive.any():
        return np.zeros(total.shape)
    return np.asarray(values[alive].mean() * (left[:, alive] @ right[alive]))


for _rule in (
    Rule(
        "tsv-m",
        "the largest singular vectors of each difference from the parent, made orthogonal to those "
        "of the other models; the mean of what is no linear map's matrix",
        "Gargiulo et al. 2025, https://arxiv.org/abs/2412.00081",
        tsv_m,
        parent=True,
        whole=True,
        parameters=(
            SCALED_ONCE,
            Parameter(
                "metric",
                "none",
                "which errors of a matrix matter more: those in rows of heads and neurons with a "
                "large mask Fisher, in columns with large inputs, or both",
                tuple(METRICS),
                silent=True,
            ),
        ),
        needs=_of_metric,
    ),
    Rule(
        "iso-c",
        "the sum of the differences from the parent with all singular values alike; the mean of "
        "what is no linear map's matrix",
        "Marczak et al. 2025, https://arxiv.org/abs/2502.04959",
        iso_c,
        parent=True,
        whole=True,
        parameters=(SCALED_ONCE,),
    ),
):
    register_rule(_rule)
