"""All passes of a merge and its models at one module after the other, which is fitted there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add, is_
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from fmn.checkpoint import as_array
from fmn.errors import MergeError
from fmn.fisher.gram import AXES, wide
from fmn.fisher.session import Batch, Positions, Subject, arguments, entrance
from fmn.layerwise.experts import Expert, Regression
from fmn.layerwise.ridge import Affine, Sums, fit, fit_affine
from fmn.layerwise.walk import Pass, Stop
from fmn.models import run_forward

Array = np.ndarray[Any, np.dtype[Any]]
Changed = dict[str, Tensor]
"""What became of a module's parameters, by name."""


class Passes:
    """A batch in a model and in the merge."""

    def __init__(
        self, expert: Expert, own: Subject, merged: Subject, batch: Batch, before: int
    ) -> None:
        home = entrance(own.model)
        self.expert, self._before = expert, before
        self._positions = Positions(own)
        prepared = self._positions.begin({name: value.to(home) for name, value in batch.items()})
        self.own = Pass(lambda: run_forward(expert.own, arguments(own, prepared)))
        self.merged = Pass(lambda: run_forward(expert.merged, arguments(merged, prepared)))

    def stops(self, name: str) -> tuple[Stop, Stop]:
        """Return where both stand, at a module of that name."""
        own, merged = self.own.stop, self.merged.stop
        if own is None or merged is None or {own.name, merged.name} != {name}:
            raise MergeError(
                [
                    "the models' layers do not run in the same order with the same examples; such "
                    "models have no layerwise merge"
                ]
            )
        return own, merged

    def halves(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is at the positions of every other example, and of the rest.

        Each is [rows, channels], in float32 at least.
        """
        at = self._positions.of(name, x)
        one, other = (
            x[start::2][at[start::2]].to(wide(x.dtype))
            for start in (self._before % 2, 1 - self._before % 2)
        )
        return one, other


Halves = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Standing:
    """Where a pair stands."""

    pair: Passes
    own: Stop
    merged: Stop


@dataclass(frozen=True)
class _Inputs:
    """What the merge's passes put into a map.

    Attributes:
        inputs: of each pass.
        rows: of each, at the positions of both halves of its examples.
        shares: λ_i/N_i of each.
        grams: Σ_i λ_i/N_i Σ_n x xᵀ of both halves, x with a 1 behind it.
    """

    inputs: Sequence[Tensor]
    rows: Sequence[Halves]
    shares: Sequence[float]
    grams: Sequence[Array]


class Fitting:
    """All passes of all models, at one module after the other."""

    def __init__(
        self, pairs: Sequence[Passes], merged: Sequence[Subject], regression: Regression
    ) -> None:
        self._pairs, self._merged, self._regression = pairs, merged, regression
        self._last = _Inputs((), (), (), ())

    def name(self) -> str | None:
        """Return the module that the passes stand at; None when they have ended."""
        stop = self._pairs[0].merged.stop
        return None if stop is None else stop.name

    def settle(self, name: str) -> tuple[Changed, float | None]:
        """Fit the module, put it into the merge, and go on; return what changed, and the ridge."""
        stops = [_Standing(pair, *pair.stops(name)) for pair in self._pairs]
        fitted = self._map if isinstance(stops[0].merged.module, tuple(AXES)) else self._norm
        changed, ridge = fitted(name, stops)
        for subject in self._merged:
            for kind, tensor in changed.items():
                getattr(subject.modules[name], kind).data = tensor
        for each in stops:
            each.pair.own.go()
            each.pair.merged.go(each.merged.module.forward(each.merged.inputs))
        return {f"{name}.{kind}": tensor for kind, tensor in changed.items()}, ridge

    def _map(self, name: str, stops: Sequence[_Standing]) -> tuple[Changed, float | None]:
        """Fit a linear map."""
        module: Any = stops[0].merged.module
        axis = next(axis for kind, axis in AXES.items() if isinstance(module, kind))
        start = as_array((module.weight.T if axis else module.weight).double())
        read = self._reading(name, stops)
        wanted = [each.pair.halves(name, self._wanted(each)) for each in stops]
        crosses = _summed(read.rows, wanted, read.shares)
        if module.bias is None:
            halves = [
                Sums(gram[:-1, :-1], cross[:-1])
                for gram, cross in zip(read.grams, crosses, strict=True)
            ]
            weight, ridge = fit(halves, start, self._regression.ridge, free=False)
            bias = None
        else:
            start = np.vstack([start, as_array(module.bias.double())])
            halves = [Sums(*each) for each in zip(read.grams, crosses, strict=True)]
            fitted, ridge = fit(halves, start, self._regression.ridge, free=True)
            weight, bias = fitted[:-1], fitted[-1]
        if ridge is None:
            return {}, None
        changed = {"weight": _like(module.weight, weight.T if axis else weight)}
        return changed | ({} if bias is None else {"bias": _like(module.bias, bias)}), ridge

    def _reading(self, name: str, stops: Sequence[_Standing]) -> _Inputs:
        """Return what goes into a map; queries, keys and values read the same."""
        inputs = [each.merged.inputs for each in stops]
        if len(inputs) == len(self._last.inputs) and all(map(is_, inputs, self._last.inputs)):
            return self._last
        rows = [each.pair.halves(name, each.merged.inputs) for each in stops]
        shares = _shares(stops, rows)
        grams = [
            np.hstack([sums, np.append(sums[-1], count)[:, None]])
            for sums, count in zip(_summed(rows, rows, shares), _counts(rows, shares), strict=True)
        ]
        if not all(np.isfinite(gram).all() for gram in grams):
            broken = next(
                each.pair.expert.name
                for each, halves in zip(stops, rows, strict=True)
                if not all(half.isfinite().all() for half in halves)
            )
            raise MergeError(
                [
                    f"{broken}: what goes into {name} of the merge is not finite; does a model "
                    "have NaN or infinite weights?"
                ]
            )
        self._last = _Inputs(inputs, rows, shares, grams)
        return self._last

    def _wanted(self, each: _Standing) -> Tensor:
        """Return what the merge is to say, [examples, positions, outputs]."""
        wanted, teacher = each.own.outputs, self._regression.teacher
        if teacher < 1:
            of_merged = each.own.module.forward(each.merged.inputs)
            wanted = of_merged + teacher * (wanted - of_merged)
        own, merged = each.own.stream, each.merged.stream
        if self._regression.streams and own is not None and merged is not None:
            wanted = wanted + own - merged
        return wanted

    def _norm(self, name: str, stops: Sequence[_Standing]) -> tuple[Changed, float | None]:
        """Fit a norm's scale and shift."""
        module: Any = stops[0].merged.module
        shifted = getattr(module, "bias", None) is not None
        rows = [each.pair.halves(name, _normalised(each.merged)) for each in stops]
        left = [each.pair.halves(name, self._wanted(each) - each.merged.outputs) for each in stops]
        one, other = (
            reduce(
                add,
                (
                    Affine.of(as_array(x[half].double()), as_array(y[half].double())).times(share)
                    for x, y, share in zip(rows, left, _shares(stops, rows), strict=True)
                ),
            )
            for half in (0, 1)
        )
        start = as_array(module.weight.double())
        (scale, shift), ridge = fit_affine(
            (one, other), start, self._regression.ridge, shifted=shifted
        )
        if ridge is None:
            return {}, None
        changed = {"weight": _like(module.weight, start + scale)}
        if shifted:
            changed["bias"] = _like(module.bias, as_array(module.bias.double()) + shift)
        return changed, ridge


def _shares(stops: Sequence[_Standing], rows: Sequence[Halves]) -> list[float]:
    """Return λ_i/N_i of each pass, N_i the positions of all examples of its model."""
    positions = Counter[int]()
    for each, halves in zip(stops, rows, strict=True):
        positions[id(each.pair.expert)] += sum(map(len, halves))
    return [each.pair.expert.weight / max(1, positions[id(each.pair.expert)]) for each in stops]


def _counts(rows: Sequence[Halves], shares: Sequence[float]) -> list[float]:
    return [
        sum(share * len(each[half]) for each, share in zip(rows, shares, strict=True))
        for half in (0, 1)
    ]


def _summed(rows: Sequence[Halves], said: Sequence[Halves], shares: Sequence[float]) -> list[Array]:
    """Return Σ λ_i/N_i Σ_n x yᵀ of both halves, x with a 1 behind it, in float64."""

    def summed(half: int) -> Array:
        each = (
            share * np.vstack([_product(x[half], y[half]), _sum(y[half])])
            for x, y, share in zip(rows, said, shares, strict=True)
        )
        return reduce(add, each)

    return [summed(half) for half in (0, 1)]


def _normalised(stop: Stop) -> Tensor:
    """Return what a norm multiplies its weight with: some families' adds 1 to the weight first."""
    weight: Any = stop.module.weight
    one, none = (
        functional_call(stop.module, {"weight": torch.full_like(weight, value)}, (stop.inputs,))
        for value in (1.0, 0.0)
    )
    normalised: Tensor = one - none
    return normalised


def _product(x: Tensor, z: Tensor) -> Array:
    """Return xᵀz in float64."""
    if x.device.type == "cpu":  # NumPy does half the work where they are the same
        return np.asarray(x.numpy().T @ z.numpy(), np.float64)
    return as_array((x.T @ z).double())


def _sum(z: Tensor) -> Array:
    return as_array(z.sum(0, dtype=torch.float64))


def _like(parameter: Tensor, value: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value)).to(parameter.device, parameter.dtype)
