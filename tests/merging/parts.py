"""Parameters of several models, and what formulas say of them, in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from fmn.merging import Part, get_rule
from fmn.statistics import Gram


def part_of(rule: str, tensors: Any, parent: Any = None, weights: Any = None, **more: Any) -> Part:
    """Return one parameter as a rule is given it."""
    parameters = get_rule(rule).settings(more.pop("parameters", {}))
    grams, axis = more.pop("grams", [None] * len(tensors)), more.get("inputs", 1)
    of_regmean = {"gram": tuple(None if gram is None else Gram(gram, axis) for gram in grams)}
    statistics = more.pop("statistics", of_regmean if rule == "regmean" else {})
    return Part(
        name=more.pop("name", "layer.weight"),
        tensors=tuple(tensors),
        weights=tuple(weights or [1.0] * len(tensors)),
        statistics=statistics,
        parent=parent,
        models=tuple(f"{number}" * 64 for number in range(len(tensors))),
        parameters=parameters,
        **more,
    )


def merged(rule: str, *arguments: Any, **more: Any) -> np.ndarray:
    return get_rule(rule).combine(part_of(rule, *arguments, **more))


def fine_tunes(
    count: int = 3, shape: tuple[int, ...] = (7, 11), seed: int = 0, dtype: str = "float64"
) -> tuple[Any, list[Any]]:
    """Return a parent and what became of it."""
    random = np.random.default_rng(seed)
    parent = random.normal(size=shape)
    return parent.astype(dtype), [
        (parent + random.normal(size=shape) * 0.1).astype(dtype) for _ in range(count)
    ]
