"""Merge rules: pure functions of one parameter in all models.

Each has a name, a paper, and what it needs said as data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from fmn.errors import ParamsError, unknown
from fmn.recipe import Parameters
from fmn.registry import Registry, one_or_several

Array = np.ndarray[Any, np.dtype[Any]]

Statistic = Literal["mask-fisher", "diagonal-fisher", "gram"]
"""What is computed of a model from examples, once, and kept in a file."""

ONE = np.ones(())
FISHERS = ("association", "normalize")
"""What is told to rules that weight by a Fisher; the other parameters are told to the rules that
name them.
"""


@dataclass(frozen=True)
class Part:
    """One parameter, or a piece of it, in all models; the models are in canonical order.

    Attributes:
        name: of the parameter, relative to the backbone.
        tensors: θ_i, of one shape and any floating-point dtype.
        weights: λ_i > 0.
        importances: F_i ≥ 0, each broadcastable to θ_i; 1 where the rule asks for no Fisher.
        parent: θ_0, where the rule asks for it.
        grams: G_i, the Gram matrices of what the parameter is multiplied with; empty where it has
            none.
        inputs: the axis of θ_i that is summed over in that product.
        models: digests of the models' weights.
        told: the rule's parameters, each with its value.
    """

    name: str
    tensors: tuple[Array, ...]
    weights: tuple[float, ...]
    importances: tuple[Array, ...] = ()
    parent: Array | None = None
    grams: tuple[Array, ...] = ()
    inputs: int = 1
    models: tuple[str, ...] = ()
    told: Mapping[str, float] = field(default_factory=dict)


Combine = Callable[[Part], Array]
"""From one parameter of all models to the merged one, in float32 or wider."""


@dataclass(frozen=True)
class Rule:
    """A merge rule.

    Attributes:
        name: in recipes.
        paper: where it comes from.
        statistic: what it needs of every model: ``mask-fisher``, ``diagonal-fisher``, ``gram`` or
            None.
        combine: the rule itself; unless it is ``whole`` it is called with pieces of parameters, so
            it must work elementwise.
        parent: it needs the models' parent.
        whole: it must see parameters as wholes.
        models: how many it merges; None for any number.
        weighted: the models may have different λ.
        parameters: what it is told of ``scale``, ``density``, ``seed``, ``alpha``, each with the
            value where nothing is said.
    """

    name: str
    paper: str
    statistic: Statistic | None
    combine: Combine
    parent: bool = False
    whole: bool = False
    models: int | None = None
    weighted: bool = True
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse parameters that no recipe can give."""
        known = [name for name in Parameters.model_fields if name not in FISHERS]
        if strange := [name for name in self.parameters if name not in known]:
            raise ParamsError(
                unknown(f"parameter of merge method '{self.name}'", strange[0], known)
            )

    @property
    def importance(self) -> str | None:
        """The kind of Fisher that it weights by, if it does.

        What has to be computed first is the ``statistic``.
        """
        return self.statistic if self.statistic != "gram" else None

    def settings(self, parameters: Parameters) -> dict[str, Any]:
        """Return all that it is told, and nothing else.

        Each setting is what the recipe says, or what holds where the recipe says nothing.
        """
        used = (
            FISHERS
            if self.importance == "mask-fisher"
            else ("normalize",)
            if self.importance
            else ()
        )
        given = {name: getattr(parameters, name) for name in (*used, *self.parameters)}
        return {
            name: self.parameters[name] if value is None else value for name, value in given.items()
        }


def check_parameters(rules: Sequence[Rule], parameters: Parameters) -> None:
    """Refuse what is said in vain.

    Raises:
        ParamsError: a parameter that none of the rules is told.
    """
    for name, about in Parameters.model_fields.items():
        is_used = any(name in rule.settings(parameters) for rule in rules)
        if getattr(parameters, name) != about.default and not is_used:
            using = [
                other for other in rule_names() if name in get_rule(other).settings(parameters)
            ]
            methods = ", ".join(rule.name for rule in rules)
            raise ParamsError(
                f"parameters: {methods} is not told {name}; leave it out, or use one of "
                f"{', '.join(using)}"
            )


def misuse(rule: Rule, weights: Sequence[float], *, has_parent: bool) -> Iterator[str]:
    """Iterate over reasons why a rule cannot merge models of these λ, one line each.

    No model has to be open for that.
    """
    if rule.parent and not has_parent:
        yield (
            f"method {rule.name} needs the parent of the models; name it with 'parent: "
            "DIRECTORY-OR-HUB-ID', or --parent"
        )
    positive = [weight for weight in weights if weight > 0]
    if rule.models and len(positive) != rule.models:
        yield (
            f"method {rule.name} merges {rule.models} models, here are {len(positive)}; leave "
            "out some, or take another method"
        )
    if not rule.weighted and len(set(positive)) > 1:
        yield (
            f"method {rule.name} knows no weights, here are "
            f"{', '.join(f'{w:g}' for w in positive)}; give all models the same"
        )


def wide(tensors: Sequence[Array]) -> np.dtype[Any]:
    """Return float32, or float64 where a tensor is."""
    return np.result_type(
        np.float32,
        *(np.float32 if tensor.dtype.itemsize < 4 else tensor.dtype for tensor in tensors),
    )


def weighted_mean(
    tensors: Sequence[Array], importances: Sequence[Array], weights: Sequence[float]
) -> Array:
    """Return Σ_i λ_i F_i θ_i / Σ_i λ_i F_i, and the λ-weighted mean where the denominator is 0.

    Computed as θ_1 + Σ_i s_i (θ_i - θ_1) with the shares s_i in float64: what is equal in all
    models stays as it is, bit by bit, and one model alone is returned unchanged.

    Args:
        tensors: θ_i, of one shape and any floating-point dtype.
        importances: F_i ≥ 0, broadcastable to θ_i.
        weights: λ_i ≥ 0, not all 0.

    Returns:
        float32, or float64 where the tensors are.
    """
    dtype = wide(tensors)
    precisions = [
        weight * np.asarray(importance, np.float64)
        for weight, importance in zip(weights, importances, strict=True)
    ]
    total = np.asarray(sum(precisions))
    first = tensors[0].astype(dtype, copy=False)
    merged = first.copy()
    for tensor, precision, weight in zip(tensors[1:], precisions[1:], weights[1:], strict=True):
        share = np.full(total.shape, weight / sum(weights))
        np.divide(precision, total, out=share, where=total > 0)
        difference = tensor.astype(dtype, copy=False) - first
        difference *= share.astype(dtype)
        merged += difference
    return merged


def by_importance(part: Part) -> Array:
    """Merge by :func:`weighted_mean`."""
    return weighted_mean(part.tensors, part.importances, part.weights)


def by_weight(part: Part) -> Array:
    """Return the λ-weighted mean."""
    return weighted_mean(part.tensors, [ONE] * len(part.tensors), part.weights)


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
    Rule("average", "Wortsman et al. 2022, https://arxiv.org/abs/2203.05482", None, by_importance),
    Rule(
        "fisher",
        "Matena and Raffel 2022, https://arxiv.org/abs/2111.09832",
        "diagonal-fisher",
        by_importance,
    ),
    Rule(
        "mask-fisher",
        "Thennal D K et al. 2024, https://arxiv.org/abs/2403.09891",
        "mask-fisher",
        by_importance,
    ),
):
    register_rule(_rule)
