"""Rules by the angles between models: SLERP and model stock. Each parameter is one vector.

Products of vectors are in float64.
"""

from __future__ import annotations

from itertools import combinations
from math import acos, nan, sin, sqrt

import numpy as np

from fmn.merging.rules import Array, Part, Rule, by_weight, register_rule, wide

PARALLEL = 0.9995
"""|cos| above which two parameters count as parallel, so that the arc between them is taken for a
line: mergekit's figure.

There the arc and the line differ by at most 1.3e-4 of a parameter's norm. Fine-tunes of one parent
are often as close as that.
"""

CHUNK = 2**18
"""Elements that are multiplied at once; fixed, so that sums have one order on every machine."""


def slerp(part: Part) -> Array:
    """Return the point on the arc through two models, t the second one's share of λ.

    See Shoemake 1985.

    ``sin((1-t)Ω)/sin Ω · θ_1 + sin(tΩ)/sin Ω · θ_2``, Ω the angle between them; the λ-weighted mean
    where one is 0 or they are nearly parallel.
    """
    one, other = part.tensors
    cosine = _cosine(one, other)
    if not abs(cosine) <= PARALLEL:  # or is not a number
        return by_weight(part)
    share, angle = part.weights[1] / sum(part.weights), acos(cosine)
    dtype = wide(part.tensors)
    merged = one.astype(dtype) * (sin((1 - share) * angle) / sin(angle))
    merged += other.astype(dtype) * (sin(share * angle) / sin(angle))
    return np.asarray(merged, dtype)


def model_stock(part: Part) -> Array:
    """Return t · mean of θ_i + (1 - t) · θ_0 with t = N cos / (1 + (N - 1) cos) (Jang et al. 2024).

    cos is the mean cosine of two task vectors θ_i - θ_0; one that is 0 has the cosine 0 with all
    others. The geometry from which t comes has cos ≥ 0: a mean below 0, which small tensors have by
    chance, gives t = 0, the parent.
    """
    assert part.parent is not None
    dtype = wide((*part.tensors, part.parent))
    origin = part.parent.astype(dtype)
    vectors = [tensor.astype(dtype) - origin for tensor in part.tensors]
    count = len(vectors)
    cosines = [
        cosine if (cosine := _cosine(one, other)) == cosine else 0.0
        for one, other in combinations(vectors, 2)
    ]
    cosine = sum(cosines) / len(cosines) if cosines else 1.0
    t = count * cosine / (1 + (count - 1) * cosine) if cosine > 0 else 0.0
    return np.asarray(origin + dtype.type(t) * (by_weight(part).astype(dtype) - origin), dtype)


def _cosine(one: Array, other: Array) -> float:
    """Return the cosine of the angle between two vectors; NaN where one is 0."""
    norms = sqrt(_dot(one, one)) * sqrt(_dot(other, other))
    return float(np.clip(_dot(one, other) / norms, -1, 1)) if norms != 0 else nan


def _dot(one: Array, other: Array) -> float:
    """Return Σ x y; not by BLAS, which adds in an order of its own for every number of threads."""
    x, y = one.reshape(-1), other.reshape(-1)
    chunks = (slice(start, start + CHUNK) for start in range(0, one.size, CHUNK))
    return sum(float((x[at].astype(np.float64) * y[at].astype(np.float64)).sum()) for at in chunks)


for _rule in (
    Rule(
        "slerp",
        "the point between two models on an arc through both, parameter by parameter",
        "Shoemake 1985, https://doi.org/10.1145/325334.325242",
        slerp,
        whole=True,
        models=2,
    ),
    Rule(
        "model-stock",
        "the mean, drawn to the parent by the angle of the differences",
        "Jang et al. 2024, https://arxiv.org/abs/2403.19522",
        model_stock,
        parent=True,
        whole=True,
        weighted=False,
    ),
):
    register_rule(_rule)
