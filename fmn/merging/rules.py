"""Merge rules: pure functions of one parameter in all models, with all that people need to know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np

from fmn.errors import ParamsError, unknown
from fmn.recipe import MERGE_INPUTS
from fmn.registry import Registry, check_name, one_or_several
from fmn.statistics import title_of

Array = np.ndarray[Any, np.dtype[Any]]

ONE = np.ones(())


@dataclass(frozen=True)
class Parameter:
    """What people may say to a rule.

    Attributes:
        name: in recipes.
        default: where nothing is said; its type is the parameter's: text, true or false, a whole
            number, a number.
        help: a line of what it is.
        choices: of a text, all that there are.
        minimum: of a number.
        maximum: of a number.
        above: the minimum itself is too little.
        silent: neither keys nor recipes have it where it is the default: merges were made before
            there was such a parameter.
    """

    name: str
    default: str | bool | int | float
    help: str
    choices: tuple[str, ...] = ()
    minimum: float = -inf
    maximum: float = inf
    above: bool = False
    silent: bool = False

    def __post_init__(self) -> None:
        """Refuse a name that records use, and a default that is not among what is possible."""
        check_name("parameter", self.name.replace("_", "-"))
        if self.name in MERGE_INPUTS:
            raise ParamsError(f"a rule's parameter cannot be called '{self.name}'; rename it")
        self.checked(self.default)

    def __str__(self) -> str:
        """Say in a line what it is, its default and what is possible."""
        default = f"{self.default:g}" if isinstance(self.default, float) else self.default
        return f"{self.name} ({default}): {self.help}; {self.expected}."

    @property
    def expected(self) -> str:
        """What is possible, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, str):
            return "a text"
        limits = []
        if self.minimum > -inf:
            limits.append(f"above {self.minimum:g}" if self.above else f"from {self.minimum:g}")
        if self.maximum < inf:
            limits.append(f"to {self.maximum:g}")
        whole = "whole " if isinstance(self.default, int) else ""
        return " ".join([f"a {whole}number", *limits])

    def checked(self, value: Any) -> Any:
        """Return a value as the rule gets it.

        Raises:
            ParamsError: an impossible one.
        """
        wanted = type(self.default)
        if wanted in (int, float):
            value = _as_number(value, wanted)
        possible = type(value) is wanted
        if possible and self.choices:
            possible = value in self.choices
        elif possible and wanted in (int, float):
            low = value > self.minimum if self.above else value >= self.minimum
            possible = low and value <= self.maximum and (wanted is int or isfinite(value))
        if not possible:
            shown = f"{value:g}" if type(value) is float else repr(value)
            raise ParamsError(
                f"parameters: {self.name}: {shown} is impossible; expected {self.expected}"
            )
        return value


def _as_number(value: Any, wanted: type) -> Any:
    """Return numpy's numbers and YAML's ``1e-1``, a text to it, as Python's; others as they are."""
    if isinstance(value, bool | np.bool_):
        return value
    with suppress(TypeError, ValueError, OverflowError):
        if wanted is float:
            return float(value)
        if isinstance(value, Integral):
            return int(value)
        if isinstance(value, Real) and float(value).is_integer():
            return int(float(value))
    return value


@dataclass(frozen=True)
class Part:
    """One parameter, or a piece of it, in all models; the models are in canonical order.

    Attributes:
        name: of the parameter, relative to the backbone.
        tensors: θ_i, of one shape and any floating-point dtype.
        weights: λ_i > 0.
        statistics: by name, for each model what the statistic gives for this parameter: of a
            Fisher the importance F_i ≥ 0, broadcastable to θ_i; of ``gram`` a
            :class:`fmn.statistics.Gram` or None. Only those that the rule names.
        parent: θ_0, where the rule asks for it.
        models: digests of the models' weights.
        parameters: the rule's, each with its value.
        inputs: of the matrix of a linear map in a layer, the axis that what goes in lies along: 1
            for a Linear, 0 for a Conv1D. None of all else, also of matrices that multiply nothing
            (embeddings) and of those outside the layers (a pooler).
    """

    name: str
    tensors: tuple[Array, ...]
    weights: tuple[float, ...]
    statistics: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    parent: Array | None = None
    models: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: int | None = None


Combine = Callable[[Part], Array]
"""From one parameter of all models to the merged one, in float32 or wider."""


@dataclass(frozen=True)
class Needs:
    """What a rule needs for some values of its parameters.

    Attributes:
        statistics: names of what it needs of every model.
        parent: it needs the models' parent.
        reading: how it reads its statistics, as of :class:`Rule`.
        start: the rule whose merge it begins with, with the values of that one's parameters; it
            then needs all that this one needs.
    """

    statistics: tuple[str, ...] = ()
    parent: bool = False
    reading: tuple[tuple[str, Any], ...] = ()
    start: tuple[Rule, Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Rule:
    """A merge rule.

    Attributes:
        name: in recipes.
        summary: what it does, for help, documentation and cards: words that go on after "merged
            by NAME: ".
        paper: where it comes from: authors and year, a comma, a link.
        combine: the rule itself; unless it is ``whole`` it is called with pieces of parameters, so
            it must work elementwise.
        statistics: names of what it needs of every model; see :mod:`fmn.statistics`.
        parent: it needs the models' parent.
        whole: it must see parameters as wholes.
        models: how many it merges; None for any number.
        weighted: the models may have different λ.
        parameters: what people may say to it.
        needs: what it needs besides, by the values of its parameters: more of ``statistics``,
            ``parent`` and ``reading``.
        reading: how it reads its statistics where no parameter says so, or where they may lack
            what it reads (:meth:`fmn.Statistic.lacks`): names and values.
        calibration: ``module:function`` that fits what it made to examples of each model, imported
            when it is needed; see :func:`fmn.layerwise.calibrate`. Empty where nothing is.
    """

    name: str
    summary: str
    paper: str
    combine: Combine
    statistics: tuple[str, ...] = ()
    parent: bool = False
    whole: bool = False
    models: int | None = None
    weighted: bool = True
    parameters: tuple[Parameter, ...] = ()
    needs: Callable[[Mapping[str, Any]], Needs] | None = None
    reading: tuple[tuple[str, Any], ...] = ()
    calibration: str = ""

    def __post_init__(self) -> None:
        """Refuse two parameters of one name."""
        names = [parameter.name for parameter in self.parameters]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ParamsError(f"merge method '{self.name}' has two parameters '{twice[0]}'")

    @property
    def reference(self) -> str:
        """The paper as Markdown: a link, if there is an address."""
        cited, _, address = self.paper.rpartition(", ")
        return f"[{cited}]({address})" if "://" in address else self.paper

    @property
    def help(self) -> str:
        """What people need to know of it: what it does, what it needs, what may be said to it."""
        measured = " and ".join(map(title_of, self.statistics))
        needs = [f"the {measured} of each model"] if measured else []
        needs += ["the parent of the models"] if self.parent else []
        needs += [f"{self.models} models"] if self.models else []
        lines = [f"{self.summary[:1].upper()}{self.summary[1:]}."]
        lines += [f"Needs {', '.join(needs)}."] if needs else []
        lines += [str(parameter) for parameter in self.parameters]
        return " ".join(lines)

    def given(self, values: Mapping[str, Any]) -> Rule:
        """Return the rule with all that it needs for these values of its parameters.

        Args:
            values: as :meth:`settings` takes them.

        Raises:
            ParamsError: an impossible value.
        """
        settings = self.settings(values)
        if self.needs is None:
            return self
        more = self.needs(settings)
        rule = replace(
            self,
            statistics=tuple(dict.fromkeys((*self.statistics, *more.statistics))),
            parent=self.parent or more.parent,
            reading=(*self.reading, *more.reading),
            needs=None,
        )
        return rule._after(*more.start) if more.start else rule

    def _after(self, start: Rule, values: Mapping[str, Any]) -> Rule:
        """Return the rule with another's merge for its own."""
        settings, start = start.settings(values), start.given(values)

        def combine(part: Part) -> Array:
            own = {name: part.statistics[name] for name in start.statistics}
            return start.combine(replace(part, statistics=own, parameters=settings))

        return replace(
            self,
            combine=combine,
            statistics=tuple(dict.fromkeys((*start.statistics, *self.statistics))),
            parent=self.parent or start.parent,
            whole=start.whole,
            models=start.models,
            weighted=start.weighted,
            reading=(*settings.items(), *start.reading, *self.reading),
        )

    def said(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings that keys and recipes have: all but silent defaults."""
        silent = {each.name: each.default for each in self.parameters if each.silent}
        return {
            name: value
            for name, value in settings.items()
            if name not in silent or value != silent[name]
        }

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the value of every parameter: what somebody said, or its default.

        Args:
            values: what was said; None is the default. What the rule has no parameter for is left
                out: see :func:`check_parameters`.

        Raises:
            ParamsError: an impossible value.
        """
        chosen = {name: value for name, value in values.items() if value is not None}
        return {
            parameter.name: parameter.checked(chosen.get(parameter.name, parameter.default))
            for parameter in self.parameters
        }


def check_parameters(rules: Sequence[Rule], values: Mapping[str, Any]) -> None:
    """Refuse what is said in vain.

    Args:
        rules: of which one at least must have each parameter.
        values: what was said.

    Raises:
        ParamsError: a parameter that none of the rules has; the nearest name, or who has it. What
            is said as it is for everyone who has the parameter is no mistake.
    """
    mine = {parameter.name for rule in rules for parameter in rule.parameters}
    for name in [name for name in values if name not in mine]:
        methods = ", ".join(dict.fromkeys(rule.name for rule in rules))
        others = {
            other: parameter
            for other in rule_names()
            for parameter in get_rule(other).parameters
            if parameter.name == name
        }
        if not others:
            every = {
                parameter.name for other in rule_names() for parameter in get_rule(other).parameters
            }
            raise ParamsError(unknown(f"parameter of {methods}", name, sorted(mine or every)))
        if all(values[name] in (None, parameter.default) for parameter in others.values()):
            continue
        raise ParamsError(
            f"parameters: {methods} has no parameter {name}; leave it out, or use one of "
            f"{', '.join(others)}"
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
            f"method {rule.name} merges {rule.models} models, here are {len(positive)}; leave out "
            "some, or take another method"
        )
    if not rule.weighted and len(set(positive)) > 1:
        values = ", ".join(f"{weight:g}" for weight in positive)
        yield f"method {rule.name} knows no weights, here are {values}; give all models the same"


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
    """Merge by :func:`weighted_mean`, weighted by the one statistic of the rule, a Fisher.

    The rule's parameters, where it has them: ``temper`` is a power that the Fishers are taken to,
    ``distance`` how far the merge is from the parent, as a multiple of the mean's distance.
    """
    (importances,) = part.statistics.values()
    if (power := part.parameters.get("temper", 1.0)) != 1:
        importances = tuple(np.asarray(each, np.float64) ** power for each in importances)
    merged = weighted_mean(part.tensors, importances, part.weights)
    if (distance := part.parameters.get("distance", 1.0)) == 1 or part.parent is None:
        return merged
    origin = part.parent.astype(merged.dtype)
    return np.asarray(origin + distance * (merged - origin))


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
