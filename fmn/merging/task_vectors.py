"""Rules on task vectors τ_i = θ_i - θ_0: task arithmetic, TIES, DARE.

The arithmetic is that of peft's merge utilities.

peft and torch are imported when the first parameter is merged: the other rules need neither.

Conventions of peft, where papers and programs differ. All of it goes by single tensors: TIES trims
each tensor on its own, not the model as a whole. Signs are elected by the sum of the trimmed τ_i,
before λ_i is applied (``total``), and a sum of 0 is positive; λ_i scales the values that are then
averaged, and the mean is over the number of models that agree, not over their λ. λ is therefore
absolute here: doubling all of them doubles the step away from the parent.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from fmn.merging.rules import Array, Parameter, Part, Rule, register_rule, wide

SCALE = 0.4
"""Of a sum of task vectors where nothing is said: what Yadav et al. take for task arithmetic
without a validation set.
"""


def task_arithmetic(part: Part) -> Array:
    """Return θ_0 + s Σ_i λ_i τ_i."""
    from peft.utils import merge_utils as peft

    vectors = vectors_of(part)
    return moved(part, peft.task_arithmetic(vectors, weights_of(part, vectors)))


def ties(part: Part) -> Array:
    """Return θ_0 + s · mean of λ_i τ̂_i over the models whose sign is the elected one.

    τ̂_i keeps the ``density`` share of τ_i with the largest absolute values, rounded down, and is 0
    elsewhere. Of values that are equal to the smallest one that is kept, torch's ``topk`` chooses.
    """
    from peft.utils import merge_utils as peft

    density = part.parameters["density"]
    vectors = vectors_of(part)
    if density < 1:  # peft warns of 1, and warnings are no matter of threads
        vectors = [peft.prune(vector, density, method="magnitude") for vector in vectors]
    return moved(part, elected(vectors, weights_of(part, vectors)))


def dare(part: Part, *, elect: bool) -> Array:
    """Return θ_0 + s Σ_i λ_i τ̂_i, or with ``elect`` what :func:`ties` makes of the τ̂_i.

    τ̂_i is τ_i / density where a random mask is 1, with that probability, and 0 elsewhere. peft
    draws masks from torch's global generator, which every thread of the process draws from; here
    each has a generator of its own, seeded by ``seed``, the digest of the model's weights and the
    parameter's name: the bytes depend on nothing else.
    """
    from peft.utils import merge_utils as peft

    vectors = [
        vector * _mask(part, model, vector.shape) / part.parameters["density"]
        for vector, model in zip(vectors_of(part), part.models, strict=True)
    ]
    weights = weights_of(part, vectors)
    return moved(
        part, elected(vectors, weights) if elect else peft.task_arithmetic(vectors, weights)
    )


def elected(vectors: list[Any], weights: Any) -> Any:
    """Return the mean of λ_i τ̂_i over the models whose sign is that of Σ τ̂_i."""
    import torch
    from peft.utils import merge_utils as peft

    stacked = torch.stack(vectors)
    signs = peft.calculate_majority_sign_mask(stacked, method="total")
    return peft.disjoint_merge(stacked * peft.reshape_weight_task_tensors(stacked, weights), signs)


def vectors_of(part: Part) -> list[Any]:
    """Return τ_i as torch's tensors, of float32 or wider."""
    import torch

    assert part.parent is not None
    dtype = wide((*part.tensors, part.parent))
    origin = part.parent.astype(dtype)
    return [torch.from_numpy(np.asarray(tensor.astype(dtype) - origin)) for tensor in part.tensors]


def weights_of(part: Part, vectors: list[Any]) -> Any:
    """Return λ_i as torch's tensor."""
    import torch

    return torch.tensor(part.weights, dtype=vectors[0].dtype)


def _mask(part: Part, model: str, shape: tuple[int, ...]) -> Any:
    import torch

    return torch.from_numpy(np.asarray(uniform(part, model, shape) < part.parameters["density"]))


def uniform(part: Part, model: str, shape: tuple[int, ...]) -> Array:
    """Return random numbers from 0 to 1 that depend on seed, model and parameter alone."""
    seed = hashlib.sha256(f"{part.parameters['seed']} {model} {part.name}".encode()).digest()
    return np.asarray(np.random.default_rng(int.from_bytes(seed, "little")).random(shape))


def moved(part: Part, step: Any) -> Array:
    """Return θ_0 + s · step; where the step is 0, θ_0 bit by bit, even if it is -0."""
    assert part.parent is not None
    scaled = step.numpy() * part.parameters["scale"]
    origin = part.parent.astype(scaled.dtype)
    return np.asarray(np.where(scaled == 0, origin, origin + scaled))


SCALED = Parameter(
    "scale",
    SCALE,
    "of the merged task vector; 1 goes as far from the parent as the method says",
    minimum=0,
    above=True,
)
SCALED_ONCE = replace(SCALED, default=1.0)
KEPT = Parameter(
    "density",
    0.2,
    "share of each task vector that is kept; 1 keeps everything",
    minimum=0,
    maximum=1,
    above=True,
)
SEED = Parameter("seed", 0, "of which values are dropped at random", minimum=0)
_DROPPED = (
    # nine values of ten are dropped: what Yu et al. say can be done without
    replace(KEPT, default=0.1),
    SEED,
)
_YU = "Yu et al. 2024, https://arxiv.org/abs/2311.03099"

for _rule in (
    Rule(
        "task-arithmetic",
        "the sum of the differences from the parent",
        "Ilharco et al. 2023, https://arxiv.org/abs/2212.04089",
        task_arithmetic,
        parent=True,
        parameters=(SCALED,),
    ),
    Rule(
        "ties",
        "trimmed differences from the parent that agree in sign",
        "Yadav et al. 2023, https://arxiv.org/abs/2306.01708",
        ties,
        parent=True,
        whole=True,
        parameters=(SCALED_ONCE, KEPT),
    ),
    Rule(
        "dare-linear",
        "the sum of randomly dropped and rescaled differences from the parent",
        _YU,
        partial(dare, elect=False),
        parent=True,
        whole=True,
        parameters=(SCALED, *_DROPPED),
    ),
    Rule(
        "dare-ties",
        "randomly dropped and rescaled differences from the parent, where they agree in sign",
        _YU,
        partial(dare, elect=True),
        parent=True,
        whole=True,
        parameters=(SCALED_ONCE, *_DROPPED),
    ),
):
    register_rule(_rule)
