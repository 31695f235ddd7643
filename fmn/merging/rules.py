"""Merge rules: pure functions of tensors, each with a name and a paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from fmn.registry import Registry, one_or_several

Array = np.ndarray[Any, np.dtype[Any]]

Combine = Callable[[Sequence[Array], Sequence[Array], Sequence[float]], Array]
"""From one parameter of every model, its importance in every model (broadcastable) and the models' weights to the merged one."""


@dataclass(frozen=True)
class Rule:
    """A merge rule.

    Attributes:
        name: in recipes.
        paper: where it comes from.
        fisher: which Fisher it needs of every model: ``mask-fisher``, ``diagonal-fisher`` or None.
        combine: the rule itself; called with pieces of parameters, so it must work elementwise.
    """

    name: str
    paper: str
    fisher: Literal["mask-fisher", "diagonal-fisher"] | None
    combine: Combine


def weighted_mean(tensors: Sequence[Array], importances: Sequence[Array], weights: Sequence[float]) -> Array:
    """Return Σ_i λ_i F_i θ_i / Σ_i λ_i F_i, and the λ-weighted mean where the denominator is 0.

    Computed as θ_1 + Σ_i s_i (θ_i - θ_1) with the shares s_i in float64: what is equal in all models stays as it is, bit by
    bit, and one model alone is returned unchanged.

    Args:
        tensors: θ_i, of one shape and any floating-point dtype.
        importances: F_i ≥ 0, broadcastable to θ_i.
        weights: λ_i ≥ 0, not all 0.

    Returns:
        float32, or float64 where the tensors are.
    """
    wide = np.result_type(np.float32, *(np.float32 if tensor.dtype.itemsize < 4 else tensor.dtype for tensor in tensors))
    precisions = [weight * np.asarray(importance, np.float64) for weight, importance in zip(weights, importances, strict=True)]
    total = np.asarray(sum(precisions))
    first = tensors[0].astype(wide, copy=False)
    merged = first.copy()
    for tensor, precision, weight in zip(tensors[1:], precisions[1:], weights[1:], strict=True):
        share = np.full(total.shape, weight / sum(weights))
        np.divide(precision, total, out=share, where=total > 0)
        difference = tensor.astype(wide, copy=False) - first
        difference *= share.astype(wide)
        merged += difference
    return merged


_RULES: Registry[Rule] = Registry(
    "merge method",
    "fmn.rules",
    one_or_several(Rule, lambda rule: rule.name),
    "add one with fmn.merging.register_rule(Rule(...)) or an entry point in the group 'fmn.rules'",
)


def register_rule(rule: Rule) -> None:
    """Add a merge rule under its name.

    Raises:
        ParamsError: the name is bad, or taken.
    """
    _RULES.register(rule.name, rule)


def get_rule(name: str) -> Rule:
    """Return the merge rule of that name.

    Raises:
        ParamsError: no such rule; the message names the nearest and all known ones.
    """
    return _RULES.get(name)


def rule_names() -> tuple[str, ...]:
    """Return the names of all merge rules, in alphabetical order."""
    return _RULES.names()


for _rule in (
    Rule("average", "Wortsman et al. 2022, https://arxiv.org/abs/2203.05482", None, weighted_mean),
    Rule("fisher", "Matena and Raffel 2022, https://arxiv.org/abs/2111.09832", "diagonal-fisher", weighted_mean),
    Rule("mask-fisher", "Thennal D K et al. 2024, https://arxiv.org/abs/2403.09891", "mask-fisher", weighted_mean),
):
    register_rule(_rule)
