"""Rules that keep some values of each task vector by their size: DELLA, breadcrumbs, consensus.

τ_i = θ_i - θ_0 is taken tensor by tensor. λ_i scales τ_i and is absolute, as in
:mod:`fmn.merging.task_vectors`, whose arithmetic these rules share.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fmn.merging.rules import Array, Parameter, Part, Rule, register_rule, wide
from fmn.merging.task_vectors import (
    KEPT,
    SCALED,
    SCALED_ONCE,
    SEED,
    elected,
    moved,
    uniform,
    vectors_of,
    weights_of,
)


def della(part: Part) -> Array:
    """Return θ_0 + s · what TIES elects and averages of λ_i τ̂_i (Deep et al. 2024).

    τ̂_i is τ_i / q where a random mask is 1, with probability q, and 0 elsewhere (MagPrune). With r
    the rank of a value in its row, 0 for the largest absolute value of n, q is ``density`` +
    ``epsilon`` (1/2 - r/n): large values are dropped more seldom. q is cut at 0 and 1. A row is
    what one output of a linear map is made of; elsewhere it lies along the last axis. Values that
    are equal rank in their order. Masks are seeded as those of DARE.
    """
    import torch

    vectors = vectors_of(part)
    for number, model in enumerate(part.models):
        vector = vectors[number].numpy()
        kept = _probability(part, vector)
        # what is not finite stays, for the engine to find it
        mask = (uniform(part, model, vector.shape) < kept) | ~np.isfinite(vector)
        dropped = np.divide(vector, kept, out=np.zeros_like(vector), where=mask)
        vectors[number] = torch.from_numpy(dropped)
    return moved(part, elected(vectors, weights_of(part, vectors)))


def _probability(part: Part, vector: Array) -> Array:
    """Return with which probability each value is kept, in the vector's dtype."""
    axis = -1 if part.inputs is None else part.inputs
    rows = np.moveaxis(np.atleast_1d(vector), axis, -1)
    count = rows.shape[-1]
    shares = np.empty(rows.shape, vector.dtype)
    steps = 0.5 - np.arange(count) / count
    # row by row, for ranks take twice the place of values
    for row, share in zip(rows.reshape(-1, count), shares.reshape(-1, count), strict=True):
        share[np.argsort(-np.abs(row), kind="stable")] = steps
    kept = part.parameters["density"] + part.parameters["epsilon"] * shares
    return np.asarray(np.moveaxis(np.clip(kept, 0, 1), -1, axis).reshape(vector.shape))


def breadcrumbs(part: Part) -> Array:
    """Return θ_0 + s Σ_i λ_i τ̂_i (Davari and Belilovsky 2023).

    τ̂_i is τ_i without its largest and its smallest absolute values: of each tensor the share
    ``outliers`` with the largest ones is left out, then the share ``density`` is kept, both rounded
    down. Values that are equal to the last one that is kept are kept as well.
    """
    from peft.utils import merge_utils as peft

    vectors = vectors_of(part)
    for vector in vectors:
        values = vector.numpy()
        kept = _is_between(values, part.parameters["outliers"], part.parameters["density"])
        np.copyto(values, 0, where=~kept)
    return moved(part, peft.task_arithmetic(vectors, weights_of(part, vectors)))


def _is_between(values: Array, outliers: float, density: float) -> Array:
    """Tell which values are neither among the largest nor among the smallest ones."""
    sizes = np.abs(values)
    largest = int(outliers * sizes.size)
    kept = min(int(density * sizes.size), sizes.size - largest)
    broken = ~np.isfinite(sizes)
    if not kept or broken.any():
        return broken  # which stay, for the engine to find them
    high, low = sizes.size - 1 - largest, sizes.size - largest - kept
    ordered = np.partition(sizes.reshape(-1), (low, high))
    return np.asarray((sizes >= ordered[low]) & (sizes <= ordered[high]))


def consensus(part: Part) -> Array:
    """Return θ_0 + s · τ where ``agreement`` models need it, θ_0 elsewhere (Wang et al. 2024).

    τ = Σ_i λ_i τ_i. Model i needs a value where |λ_i τ_i| ≥ ``threshold`` · |τ - λ_i τ_i|: its TALL
    mask (eq. 5). What a single model needs, and what none does, goes back to the parent. Of fewer
    models than ``agreement`` all must need it.
    """
    assert part.parent is not None
    origin = part.parent.astype(np.float64)
    vectors = [
        weight * (tensor.astype(np.float64) - origin)
        for tensor, weight in zip(part.tensors, part.weights, strict=True)
    ]
    total = sum(vectors[1:], start=vectors[0])
    threshold = part.parameters["threshold"]
    needing = sum(np.abs(vector) >= threshold * np.abs(total - vector) for vector in vectors)
    is_common = needing >= min(part.parameters["agreement"], len(vectors))
    step = np.where(is_common | ~np.isfinite(total), part.parameters["scale"] * total, 0)
    dtype = wide((*part.tensors, part.parent))
    return np.asarray(np.where(step == 0, origin, origin + step), dtype)


for _rule in (
    Rule(
        "della",
        "differences from the parent, small ones dropped at random more often than large ones, "
        "where they agree in sign",
        "Deep et al. 2024, https://arxiv.org/abs/2406.11617",
        della,
        parent=True,
        whole=True,
        parameters=(
            SCALED_ONCE,
            replace(KEPT, default=0.5),
            Parameter(
                "epsilon",
                0.1,
                "by how much a row's largest value is kept more probably than its smallest one",
                minimum=0,
                maximum=1,
            ),
            SEED,
        ),
    ),
    Rule(
        "breadcrumbs",
        "the sum of the differences from the parent without their largest and smallest values",
        "Davari and Belilovsky 2023, https://arxiv.org/abs/2312.06795",
        breadcrumbs,
        parent=True,
        whole=True,
        parameters=(
            SCALED,
            # density and outliers as in the recipes of mergekit's pages
            replace(KEPT, default=0.9),
            Parameter(
                "outliers",
                0.01,
                "share of each task vector, of the largest values, that is left out",
                minimum=0,
                maximum=1,
            ),
        ),
    ),
    Rule(
        "consensus-ta",
        "the sum of the differences from the parent where several models need it",
        "Wang et al. 2024, https://arxiv.org/abs/2405.07813",
        consensus,
        parent=True,
        parameters=(
            SCALED,
            Parameter(
                "threshold",
                0.4,
                "times what the other models add to a value is what a model that needs it has at "
                "least",
                minimum=0,
            ),
            Parameter("agreement", 2, "how many models must need a value", minimum=1),
        ),
    ),
):
    register_rule(_rule)
