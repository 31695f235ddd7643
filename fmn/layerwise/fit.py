"""The layers of a merge refitted, one module after another, to what its models say."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from fmn.checkpoint import as_array, setting_of
from fmn.errors import MergeError
from fmn.fisher.gram import AXES, wide
from fmn.fisher.session import Batch, Positions, Subject, arguments, describe, entrance, lent
from fmn.layerwise.ridge import Affine, Sums, fit, fit_affine
from fmn.layerwise.walk import Pass, Stop, stopping
from fmn.models import run_forward

Array = np.ndarray[Any, np.dtype[Any]]
Changed = dict[str, Tensor]


@dataclass(frozen=True)
class Pupil:
    """One model of a merge, with the merge in its place.

    Attributes:
        name: for messages.
        own: the model.
        merged: a copy of it with the merged backbone, whose parameters are replaced, not written
            into.
        batches: its examples.
        weight: λ.
    """

    name: str
    own: Any
    merged: Any
    batches: Sequence[Batch]
    weight: float = 1.0


@dataclass(frozen=True)
class Lesson:
    """How modules are fitted.

    Attributes:
        teacher: where between the merge's input (0) and the model's own (1) the input lies for
            which the model's own module says what the merged one is to say.
        ridge: relative to the mean diagonal of the inputs' Gram matrix; None chooses it for each
            module by halves of the examples.
        streams: what is added to a residual stream also makes good what the stream has drifted.
        norms: norms are fitted, too.
    """

    teacher: float = 1.0
    ridge: float | None = None
    streams: bool = True
    norms: bool = True


@dataclass(frozen=True)
class Fitted:
    """A merge's layers, refitted.

    Attributes:
        tensors: by backbone-relative name, in the dtype of the merged model.
        ridges: by the name of the module, the ridge that was chosen; None where it stays as it was.
    """

    tensors: Mapping[str, Tensor]
    ridges: Mapping[str, float | None]


def fit_layers(
    pupils: Sequence[Pupil],
    lesson: Lesson,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Fitted:
    """Fit every linear map and norm of the layers to what the models say, from first to last.

    For a map with the merge's input x' and a model's own input x, ``W = argmin Σ_i λ_i/N_i Σ_n ‖W
    x'_n + b - y_n‖² + r ‖W - W_start‖²`` over the models i and the N_i positions n of their
    examples, where y is what the model's own map says of t x + (1 - t) x', t the ``teacher``. Where
    the output is added to a residual stream, y also has the difference of the model's stream from
    the merge's. Of norms the scale and the shift are fitted by the same, a channel at a time.

    A model and the merge run side by side, once each: see :mod:`fmn.layerwise.walk`. Sums are in
    float32 within a batch and in float64 over batches, the rest in float64.

    See Jin et al. 2023 (RegMean, https://arxiv.org/abs/2212.09849), Nguyen et al. 2025 (RegMean++,
    https://arxiv.org/abs/2508.03121) and Gu et al. 2026 (FeatCal,
    https://arxiv.org/abs/2605.13030).

    Args:
        pupils: the models; their order changes the last bits only.
        lesson: how.
        progress: called with the number of modules, of :func:`count`, that are done.

    Raises:
        ArchitectureError: an unknown family, or a model that is not what its description says.
        FisherError: inputs at other positions than the examples'.
        MergeError: no examples; models whose passes differ, or whose activations are not finite.
    """
    few = [pupil.name for pupil in pupils if sum(map(_examples, pupil.batches)) < 2]
    if few:
        raise MergeError([f"{name}: layers are fitted to two examples at least" for name in few])
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        subjects = [(describe(pupil.own), describe(pupil.merged)) for pupil in pupils]
        for subject in (each for both in subjects for each in both):
            stack.enter_context(lent(subject.model, None))
            stack.enter_context(stopping(linear_maps(subject), norms_of(subject, lesson)))
        desks = [
            _Desk(pupil, [_Pair(pupil, *both, *each) for each in _numbered(pupil.batches)])
            for pupil, both in zip(pupils, subjects, strict=True)
        ]
        room = _Room(desks, [merged for _, merged in subjects], lesson)
        tensors: Changed = {}
        ridges: dict[str, float | None] = {}
        while (name := room.name()) is not None:
            changed, ridges[name] = room.settle(name)
            tensors |= changed
            progress(1)
    return Fitted(tensors, ridges)


def teach(
    pupils: Sequence[Pupil],
    settings: Mapping[str, Any],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Fitted:
    """Fit layers as the parameters of the method ``layerwise`` say; see :func:`fit_layers`."""
    ridge = settings["ridge"]
    return fit_layers(pupils, Lesson(ridge=None if ridge == "auto" else ridge), progress=progress)


def _numbered(batches: Sequence[Batch]) -> Iterator[tuple[Batch, int]]:
    """Iterate over batches, each with the number of examples before it."""
    before = 0
    for batch in batches:
        yield batch, before
        before += _examples(batch)


def _examples(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def count(model: Any, lesson: Lesson | None = None) -> int:
    """Return how many modules of a model are fitted, unless the lesson says otherwise all."""
    subject = describe(model)
    return len(linear_maps(subject)) + len(norms_of(subject, lesson or Lesson()))


def linear_maps(subject: Subject) -> dict[str, nn.Module]:
    """Return the layers' linear maps of what is at the examples' positions, by backbone name."""
    return dict(_in_layers(subject, lambda module: isinstance(module, tuple(AXES))))


def norms_of(subject: Subject, lesson: Lesson) -> dict[str, nn.Module]:
    """Return the layers' norms of whole hidden states, by backbone name; none if none is fitted."""
    hidden = setting_of(subject.model.config, subject.architecture.hidden)

    def is_norm(module: nn.Module) -> bool:
        weight = getattr(module, "weight", None)
        return "Norm" in type(module).__name__ and weight is not None and len(weight) == hidden

    return dict(_in_layers(subject, is_norm)) if lesson.norms else {}


def _in_layers(
    subject: Subject, wanted: Callable[[nn.Module], bool]
) -> Iterator[tuple[str, nn.Module]]:
    prefixes = tuple(layer.prefix for layer in subject.layers)
    for path, module in subject.modules.items():
        once = subject.architecture.is_once(f"{path}.weight")
        if path.startswith(prefixes) and not once and wanted(module):
            yield path, module


class _Pair:
    """A batch in a model and in the merge."""

    def __init__(
        self, pupil: Pupil, own: Subject, merged: Subject, batch: Batch, before: int
    ) -> None:
        home = entrance(own.model)
        self._before = before
        self._positions = Positions(own)
        prepared = self._positions.begin({name: value.to(home) for name, value in batch.items()})
        self.own = Pass(lambda: run_forward(pupil.own, arguments(own, prepared)))
        self.merged = Pass(lambda: run_forward(pupil.merged, arguments(merged, prepared)))

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

    def rows(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is at the examples' positions, [rows, channels], in float32 at least.

        And for each row which half its example is in: every other one.
        """
        at = self._positions.of(name, x)
        return x[at].to(wide(x.dtype)), (at.nonzero()[:, 0] + self._before) % 2


@dataclass(frozen=True)
class _Desk:
    """A model of the merge, with all of its batches."""

    pupil: Pupil
    pairs: Sequence[_Pair]


class _Room:
    """All passes of all models, at one module after the other."""

    def __init__(self, desks: Sequence[_Desk], merged: Sequence[Subject], lesson: Lesson) -> None:
        self._desks, self._merged, self._lesson = desks, merged, lesson
        self._read: list[Tensor] = []
        self._grams: list[Array] = []

    def name(self) -> str | None:
        """Return the module that the passes stand at; None when they have ended."""
        stop = self._desks[0].pairs[0].merged.stop
        return None if stop is None else stop.name

    def settle(self, name: str) -> tuple[Changed, float | None]:
        """Fit the module, put it into the merge, and go on; return what changed, and the ridge."""
        stops = [(desk, [(pair, *pair.stops(name)) for pair in desk.pairs]) for desk in self._desks]
        fitted = self._map if isinstance(stops[0][1][0][2].module, tuple(AXES)) else self._norm
        changed, ridge = fitted(name, stops)
        for subject in self._merged:
            for kind, tensor in changed.items():
                getattr(subject.modules[name], kind).data = tensor
        for _, each in stops:
            for pair, _, there in each:
                pair.own.go()
                pair.merged.go(there.module.forward(there.inputs))
        return {f"{name}.{kind}": tensor for kind, tensor in changed.items()}, ridge

    def _map(self, name: str, stops: _Stops) -> tuple[Changed, float | None]:
        """Fit a linear map."""
        module: Any = stops[0][1][0][2].module
        axis = next(axis for kind, axis in AXES.items() if isinstance(module, kind))
        start = as_array((module.weight.T if axis else module.weight).double())
        free = module.bias is not None
        if free:
            start = np.vstack([start, as_array(module.bias.double())])
        read = [there.inputs for _, each in stops for _, _, there in each]
        if len(read) != len(self._read) or not all(map(operator.is_, read, self._read)):
            self._read, self._grams = read, self._sums(name, stops, free, None)
        crosses = self._sums(name, stops, free, self._wanted)
        halves = [Sums(*each) for each in zip(self._grams, crosses, strict=True)]
        weight, ridge = fit(halves, start, self._lesson.ridge, free=free)
        if weight is start:
            return {}, None
        weight, bias = (weight[:-1], weight[-1]) if free else (weight, None)
        changed = {"weight": _like(module.weight, weight.T if axis else weight)}
        return changed | ({} if bias is None else {"bias": _like(module.bias, bias)}), ridge

    def _sums(
        self,
        name: str,
        stops: _Stops,
        free: bool,
        of: Callable[[str, _Pair, Stop, Stop], Tensor] | None,
    ) -> list[Array]:
        """Return Σ_i λ_i/N_i Σ_n x'_n zᵀ of both halves, z what ``of`` returns or x' itself."""
        totals: list[Array | float] = [0.0, 0.0]
        for desk, each in stops:
            sums: list[Array | float] = [0.0, 0.0]
            count = 0
            for pair, own, merged in each:
                x, half = pair.rows(name, merged.inputs)
                if not x.isfinite().all():
                    raise MergeError(
                        [
                            f"{desk.pupil.name}: what goes into {name} of the merge is not finite; "
                            "does a model have NaN or infinite weights?"
                        ]
                    )
                count += len(x)
                if free:
                    x = torch.cat([x, x.new_ones(len(x), 1)], 1)
                z = of(name, pair, own, merged) if of else None
                for which in (0, 1):
                    rows = x[half == which]
                    sums[which] += _product(rows, rows if z is None else z[half == which])
            for which in (0, 1):
                totals[which] += desk.pupil.weight / max(count, 1) * sums[which]
        return [np.asarray(total) for total in totals]

    def _wanted(self, name: str, pair: _Pair, own: Stop, merged: Stop) -> Tensor:
        """Return what the merge is to say, [rows, outputs]."""
        wanted, teacher = own.outputs, self._lesson.teacher
        if teacher < 1:
            of_merged = own.module.forward(merged.inputs)
            wanted = of_merged + teacher * (wanted - of_merged)
        if self._lesson.streams and own.stream is not None and merged.stream is not None:
            wanted = wanted + own.stream - merged.stream
        return pair.rows(name, wanted)[0]

    def _norm(self, name: str, stops: _Stops) -> tuple[Changed, float | None]:
        """Fit a norm's scale and shift."""
        module: Any = stops[0][1][0][2].module
        shifted = getattr(module, "bias", None) is not None
        halves: tuple[list[Affine], list[Affine]] = ([], [])
        for desk, each in stops:
            columns = zip(*(self._left(name, *pair) for pair in each), strict=True)
            x, left, half = map(torch.cat, columns)
            for which in (0, 1):
                rows = half == which
                sums = Affine.of(*(as_array(side[rows].double()) for side in (x, left)))
                halves[which].append(sums.times(desk.pupil.weight / len(x)))
        one, other = (reduce(operator.add, half) for half in halves)
        start = as_array(module.weight.double())
        (scale, shift), ridge = fit_affine((one, other), start, self._lesson.ridge, shifted=shifted)
        if ridge is None:
            return {}, None
        changed = {"weight": _like(module.weight, start + scale)}
        if shifted:
            changed["bias"] = _like(module.bias, as_array(module.bias.double()) + shift)
        return changed, ridge

    def _left(
        self, name: str, pair: _Pair, own: Stop, merged: Stop
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a norm multiplies its weight with, what it leaves over, and the halves."""
        of_merged = own.module.forward(merged.inputs)
        wanted = of_merged + self._lesson.teacher * (own.outputs - of_merged)
        return (
            pair.rows(name, _normalised(merged))[0],
            *pair.rows(name, wanted - merged.outputs),
        )


_Stops = list[tuple[_Desk, list[tuple[_Pair, Stop, Stop]]]]


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


def _like(parameter: Tensor, value: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(value)).to(parameter.device, parameter.dtype)
