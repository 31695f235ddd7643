"""Rules that are weighted means: plain ones, or weighted by what a Fisher says of parameters."""

from __future__ import annotations

from typing import get_args

from fmn.merging.rules import Parameter, Rule, by_importance, by_weight, register_rule
from fmn.recipe import Association, Normalize

ASSOCIATION = Parameter(
    "association", "paper", "which parameters a mask node governs", get_args(Association)
)
NORMALIZE = Parameter(
    "normalize", "none", "how Fishers of different models get one scale", get_args(Normalize)
)

for _rule in (
    Rule(
        "average",
        "the plain mean of the parameters",
        "Wortsman et al. 2022, https://arxiv.org/abs/2203.05482",
        by_weight,
    ),
    Rule(
        "fisher",
        "each parameter weighted by its diagonal Fisher information",
        "Matena and Raffel 2022, https://arxiv.org/abs/2111.09832",
        by_importance,
        ("diagonal-fisher",),
        parameters=(NORMALIZE,),
    ),
    Rule(
        "mask-fisher",
        "each attention head and feed-forward neuron weighted by the Fisher information of its "
        "mask node",
        "Thennal D K et al. 2024, https://arxiv.org/abs/2403.09891",
        by_importance,
        ("mask-fisher",),
        parameters=(ASSOCIATION, NORMALIZE),
    ),
):
    register_rule(_rule)
