"""Rules that are weighted means: plain ones, or weighted by what a Fisher says of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from fmn.merging.rules import Needs, Parameter, Rule, by_importance, by_weight, register_rule
from fmn.recipe import Association, Normalize

ASSOCIATION = Parameter(
    "association", "paper", "which parameters a mask node governs", get_args(Association)
)
NORMALIZE = Parameter(
    "normalize", "none", "how Fishers of different models get one scale", get_args(Normalize)
)

TEMPER = Parameter(
    "temper",
    1.0,
    "power that Fishers are taken to, so that less decides where they are far apart; 0 is the mean",
    minimum=0,
    silent=True,
)
DISTANCE = Parameter(
    "distance",
    1.0,
    "how far from the parent, as a multiple of the mean's distance; all but 1 needs the parent",
    minimum=0,
    above=True,
    silent=True,
)


def _parent_to_go_from(settings: Mapping[str, Any]) -> Needs:
    return Needs(parent=settings["distance"] != 1)


def _nodes_and_parent(settings: Mapping[str, Any]) -> Needs:
    reading = (("association", settings["association"]),)
    return replace(_parent_to_go_from(settings), reading=reading)


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
        parameters=(NORMALIZE, TEMPER, DISTANCE),
        needs=_parent_to_go_from,
    ),
    Rule(
        "mask-fisher",
        "each attention head and feed-forward neuron weighted by the Fisher information of its "
        "mask node",
        "Thennal D K et al. 2024, https://arxiv.org/abs/2403.09891",
        by_importance,
        ("mask-fisher",),
        parameters=(ASSOCIATION, NORMALIZE, TEMPER, DISTANCE),
        needs=_nodes_and_parent,
    ),
):
    register_rule(_rule)
