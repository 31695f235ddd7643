"""The merges that a zoo makes of each set of models: rules, each with every value of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from fmn.errors import ParamsError
from fmn.keys import canonical_json
from fmn.merging.rules import Rule, check_parameters, get_rule
from fmn.recipe import Heads
from fmn.statistics import HEAD_STATES

MOST = 1_000
"""Variants of one rule; every one is compared with every other."""


@dataclass(frozen=True)
class Variant:
    """A rule with the values of its parameters.

    Attributes:
        label: the rule's name, with the parameters in which several variants of it differ; no two
            variants of a zoo have the same.
        rule: the merge rule, with what it needs for these parameters.
        parameters: the value of each that merges are told apart by.
        heads: what becomes of them.
    """

    label: str
    rule: Rule
    parameters: Mapping[str, Any]
    heads: Heads = "merged"

    @property
    def statistics(self) -> tuple[str, ...]:
        """The names of what its merges need of every model."""
        states = [HEAD_STATES] * (self.heads == "refit")
        return tuple(dict.fromkeys((*self.rule.statistics, *states)))


def variants(
    methods: Sequence[tuple[str, Mapping[str, Any]]],
    defaults: Mapping[str, Any],
    heads: Sequence[Heads] = ("merged",),
) -> tuple[Variant, ...]:
    """Multiply lists of values out; return each variant once, in the order of the methods.

    Args:
        methods: names of rules, with what is said to each.
        defaults: what is said to every rule that has such a parameter.
        heads: what becomes of them; every rule makes a merge with each.

    Raises:
        ParamsError: an unknown rule, a parameter that a rule does not have, an impossible value, a
            list without values.
    """
    rules = [get_rule(name) for name, _ in methods]
    check_parameters(rules, defaults)
    settings: dict[bytes, tuple[Rule, dict[str, Any]]] = {}
    for rule, (_, own) in zip(rules, methods, strict=True):
        check_parameters([rule], own)
        names = [parameter.name for parameter in rule.parameters]
        choices = {
            name: _values(name, {**defaults, **own}[name])
            for name in names
            if name in {**defaults, **own}
        }
        count = prod(map(len, choices.values()))
        if count > MOST:
            raise ParamsError(
                f"parameters: {count:,} variants of {rule.name}; expected at most {MOST:,}: give "
                "fewer values"
            )
        for values in product(*choices.values()):
            chosen = rule.settings(dict(zip(choices, values, strict=True)))
            settings.setdefault(canonical_json([rule.name, chosen]), (rule.given(chosen), chosen))
    distinct = list(settings.values())
    each = list(dict.fromkeys(heads))
    return tuple(
        Variant(
            ", ".join([_label(rule, chosen, distinct), *([f"heads {kind}"] * (len(each) > 1))]),
            rule,
            rule.said(chosen),
            kind,
        )
        for rule, chosen in distinct
        for kind in each
    )


def _values(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple):
        return [value]
    if not value:
        raise ParamsError(f"parameters: {name}: an empty list; expected at least one value")
    return list(value)


def _label(
    rule: Rule, chosen: Mapping[str, Any], every: Sequence[tuple[Rule, dict[str, Any]]]
) -> str:
    others = [settings for other, settings in every if other.name == rule.name]
    differing = [name for name in chosen if any(one[name] != chosen[name] for one in others)]
    return ", ".join([rule.name, *(f"{name} {_written(chosen[name])}" for name in differing)])


def _written(value: Any) -> str:
    if isinstance(value, Mapping):  # a method with parameters
        said = [f"{name} {_written(each)}" for name, each in value["parameters"].items()]
        return f"{value['method']} ({', '.join(said)})"
    if not isinstance(value, float):
        return str(value)
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
