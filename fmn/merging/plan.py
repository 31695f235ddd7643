"""What is to be merged, in canonical order: checked in full before the first tensor is read."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fmn.architectures import Architecture
from fmn.checkpoint import DTYPES, FLOATS, Tensors, TensorSpec
from fmn.errors import MergeError
from fmn.keys import digest
from fmn.merging.check import check
from fmn.merging.rules import Rule, misuse
from fmn.merging.source import Source
from fmn.recipe import Dtype, Heads
from fmn.statistics import PerParameter, get_statistic

DTYPE_OF = {"float32": DTYPES["F32"], "bfloat16": DTYPES["BF16"], "float16": DTYPES["F16"]}


@dataclass(frozen=True)
class Plan:
    """A merge that can be done.

    Attributes:
        sources: the models in canonical order; those of weight 0 give a task head only.
        rule: the merge rule.
        architecture: the models' family.
        names: merged tensors: backbone-relative name to the name it will have.
        specs: what each of them will be, by the name it will have, in alphabetical order.
        backbones: per model of ``weighted``, backbone-relative name to tensor.
        statistics: by name, per model of ``weighted``, what the rule gets for a parameter.
        origin: the models' parent, where the rule needs it.
        parent: its backbone-relative name to tensor.
        settings: the value of every parameter of the rule.
        refitted: by task, tensors of its head that are others than its model's, by full name.
        fitted: merged tensors that are others than the rule makes, by backbone-relative name.
        inputs: of the matrices of the layers' linear maps, by backbone-relative name, the axis that
            what goes in lies along.
    """

    sources: tuple[Source, ...]
    rule: Rule
    architecture: Architecture
    names: Mapping[str, str]
    specs: Mapping[str, TensorSpec]
    backbones: tuple[Tensors, ...]
    statistics: Mapping[str, Sequence[PerParameter]] = field(default_factory=dict)
    origin: Source | None = None
    parent: Tensors = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    refitted: Mapping[str, Tensors] = field(default_factory=dict)
    fitted: Tensors = field(default_factory=dict)
    inputs: Mapping[str, int] = field(default_factory=dict)

    @property
    def weighted(self) -> tuple[Source, ...]:
        """The models that have a share in the backbone."""
        return tuple(source for source in self.sources if source.weight > 0)

    @property
    def elements(self) -> int:
        """How many numbers are merged."""
        return sum(math.prod(spec.shape) for spec in self.specs.values())

    def head(self, source: Source) -> dict[str, np.ndarray[Any, Any]]:
        """Return what stays with a model's task, by full name.

        That is its task head and what is not merged of the backbone.
        """
        full = self.architecture.backbone(source.tensors)
        refitted = self.refitted.get(source.task, {})
        return {
            name: refitted.get(name, tensor)
            for name, tensor in source.tensors.items()
            if full.get(name) not in self.names
            and tensor.dtype in FLOATS
            and self.architecture.is_head(name)
            and name not in source.copies
        }

    @property
    def backbone_key(self) -> str:
        """Digest of all that the merged tensors depend on: weights, statistics, λ, the rule."""
        return digest(
            "backbone",
            {
                "sources": [source.order for source in self.sources],
                "parent": self.origin.digest if self.origin else None,
                "rule": self.rule.name,
                "settings": self.settings,
                "tensors": {name: str(spec.dtype) for name, spec in self.specs.items()},
            },
        )

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of most merged numbers: the models' and those kept beside the backbone."""
        numbers: Counter[np.dtype[Any]] = Counter()
        for spec in self.specs.values():
            numbers[spec.dtype] += math.prod(spec.shape)
        return numbers.most_common(1)[0][0]


def make_plan(
    sources: Sequence[Source],
    rule: Rule,
    parameters: Mapping[str, Any],
    dtype: Dtype,
    parent: Source | None = None,
    heads: Heads = "merged",
) -> Plan:
    """Check the models, then put them into canonical order.

    Args:
        sources: the models, with the statistics that the rule needs.
        rule: the merge rule.
        parameters: what was said to the rule.
        dtype: of the result.
        parent: of the models, where the rule needs it.
        heads: unless they are merged, what feeds nothing but a head is left to it.

    Raises:
        MergeError: with every offence.
        ParamsError: an impossible parameter.
    """
    settings, rule = rule.settings(parameters), rule.given(parameters)
    architecture, layers = check(sources, rule, parent=parent)
    weights = [source.weight for source in sources]
    if wrong := list(misuse(rule, weights, has_parent=parent is not None)):
        raise MergeError(wrong)
    ordered = sorted(sources, key=lambda source: source.order)
    weighted = [source for source in ordered if source.weight > 0]
    backbones = [source.backbone(architecture, layers) for source in weighted]
    everywhere = [source.backbone(architecture, layers).tensors for source in ordered]
    first = backbones[0].tensors
    shared = sorted(
        name
        for name in first
        if all(name in other for other in everywhere)
        and (heads == "merged" or not architecture.is_readout(name))
    )
    full = _full_names(architecture, ordered)
    specs = {
        full[name]: TensorSpec(
            _dtype(dtype, [b.tensors[name] for b in backbones]), first[name].shape
        )
        for name in shared
    }
    return Plan(
        sources=tuple(ordered),
        rule=rule,
        architecture=architecture,
        names={name: full[name] for name in shared},
        specs=dict(sorted(specs.items())),
        backbones=tuple(backbone.tensors for backbone in backbones),
        statistics={
            name: get_statistic(name).per_parameter(
                [source.statistics[name] for source in weighted],
                backbones[0],
                {**settings, **dict(rule.reading)},
            )
            for name in rule.statistics
        },
        origin=parent if rule.parent else None,
        parent=parent.backbone(architecture, layers).tensors if parent and rule.parent else {},
        settings=settings,
        inputs={
            name: axis
            for layer in layers
            for name, axis in layer.inputs().items()
            if name in first and first[name].ndim == 2
        },
    )


def _full_names(architecture: Architecture, sources: Sequence[Source]) -> dict[str, str]:
    """Return the names for backbone tensors: those of the first task model, or the first model."""
    chosen = next(
        (source for source in sources if architecture.prefix_of(source.tensors)), sources[0]
    )
    return {short: full for full, short in architecture.backbone(chosen.tensors).items()}


def _dtype(dtype: Dtype, tensors: Sequence[np.ndarray[Any, Any]]) -> np.dtype[Any]:
    if dtype != "same":
        return DTYPE_OF[dtype]
    dtypes = {tensor.dtype for tensor in tensors}
    widest = [one for one in dtypes if one.itemsize == max(other.itemsize for other in dtypes)]
    # neither float16 nor bfloat16 holds the other
    return widest[0] if len(widest) == 1 else DTYPES["F32"]
