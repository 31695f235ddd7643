"""The layers of a merge refitted, one module after another, to what its models say."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import reduce
from operator import add, is_
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
    few = [pupil.name for pupil in pupils if sum(map(examples, pupil.batches)) < 2]
    if few:
        raise MergeError([f"{name}: layers are fitted to two examples at least" for name in few])
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        subjects = [(describe(pupil.own), describe(pupil.merged)) for pupil in pupils]
        for subject in (each for both in subjects for each in both):
            stack.enter_context(lent(subject.model, None))
            stack.enter_context(stopping(linear_maps(subject), norms_of(subject, lesson)))
        _check_memory(pupils, subjects[0][0])
        pairs = [
            _Pair(pupil, *both, *each)
            for pupil, both in zip(pupils, subjects, strict=True)
            for each in numbered(pupil.batches)
        ]
        room = _Room(pairs, [merged for _, merged in subjects], lesson)
        tensors: Changed = {}
        ridges: dict[str, float | None] = {}
        while (name := room.name()) is not None:
            changed, ridges[name] = room.settle(name)
            tensors |= changed
            progress(1)
    return Fitted(tensors, ridges)


def _check_memory(pupils: Sequence[Pupil], subject: Subject) -> None:
    """Refuse more examples than can be in memory at once, in all models and the merge.

    Where the passes hold most, at a feed-forward block's second map, each holds its stream and what
    goes into that map and comes out; the rows that go in are held twice.
    """
    sizes = subject.layers[0].sizes
    channels = 4 * setting_of(subject.model.config, subject.architecture.hidden) + 5 * sizes.neurons
    positions = sum(
        next(iter(batch.values())).shape[:2].numel() for pupil in pupils for batch in pupil.batches
    )
    device = torch.device(entrance(subject.model))
    there = (
        torch.cuda.mem_get_info(device)[1]
        if device.type == "cuda"
        else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    )
    needed = positions * channels * next(subject.model.parameters()).element_size()
    if needed > there:
        raise MergeError(
            [
                f"the activations of {positions:,} positions take about {needed / 1e9:.1f} GB, and "
                f"the {device.type} has {there / 1e9:.1f}; fit layers to fewer examples, by "
                "'refit: {samples: …}'"
            ]
        )


def numbered(batches: Sequence[Batch]) -> Iterator[tuple[Batch, int]]:
    """Iterate over batches, each with the number of examples before it."""
    before = 0
    for batch in batches:
        yield batch, before
        before += examples(batch)


def examples(batch: Batch) -> int:
    """Return how many a batch has."""
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
        self.pupil, self._before = pupil, before
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
class _Seat:
    """Where a pair stands."""

    pair: _Pair
    own: Stop
    merged: Stop


@dataclass(frozen=True)
class _Read:
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


class _Room:
    """All passes of all models, at one module after the other."""

    def __init__(self, pairs: Sequence[_Pair], merged: Sequence[Subject], lesson: Lesson) -> None:
        self._pairs, self._merged, self._lesson = pairs, merged, lesson
        self._last = _Read((), (), (), ())

    def name(self) -> str | None:
        """Return the module that the passes stand at; None when they have ended."""
        stop = self._pairs[0].merged.stop
        return None if stop is None else stop.name

    def settle(self, name: str) -> tuple[Changed, float | None]:
        """Fit the module, put it into the merge, and go on; return what changed, and the ridge."""
        seats = [_Seat(pair, *pair.stops(name)) for pair in self._pairs]
        fitted = self._map if isinstance(seats[0].merged.module, tuple(AXES)) else self._norm
        changed, ridge = fitted(name, seats)
        for subject in self._merged:
            for kind, tensor in changed.items():
                getattr(subject.modules[name], kind).data = tensor
        for seat in seats:
            seat.pair.own.go()
            seat.pair.merged.go(seat.merged.module.forward(seat.merged.inputs))
        return {f"{name}.{kind}": tensor for kind, tensor in changed.items()}, ridge

    def _map(self, name: str, seats: Sequence[_Seat]) -> tuple[Changed, float | None]:
        """Fit a linear map."""
        module: Any = seats[0].merged.module
        axis = next(axis for kind, axis in AXES.items() if isinstance(module, kind))
        start = as_array((module.weight.T if axis else module.weight).double())
        read = self._reading(name, seats)
        wanted = [seat.pair.halves(name, self._wanted(seat)) for seat in seats]
        crosses = _summed(read.rows, wanted, read.shares)
        if module.bias is None:
            halves = [
                Sums(gram[:-1, :-1], cross[:-1])
                for gram, cross in zip(read.grams, crosses, strict=True)
            ]
            weight, ridge = fit(halves, start, self._lesson.ridge, free=False)
            bias = None
        else:
            start = np.vstack([start, as_array(module.bias.double())])
            halves = [Sums(*each) for each in zip(read.grams, crosses, strict=True)]
            fitted, ridge = fit(halves, start, self._lesson.ridge, free=True)
            weight, bias = fitted[:-1], fitted[-1]
        if ridge is None:
            return {}, None
        changed = {"weight": _like(module.weight, weight.T if axis else weight)}
        return changed | ({} if bias is None else {"bias": _like(module.bias, bias)}), ridge

    def _reading(self, name: str, seats: Sequence[_Seat]) -> _Read:
        """Return what goes into a map; queries, keys and values read the same."""
        inputs = [seat.merged.inputs for seat in seats]
        if len(inputs) == len(self._last.inputs) and all(map(is_, inputs, self._last.inputs)):
            return self._last
        rows = [seat.pair.halves(name, seat.merged.inputs) for seat in seats]
        shares = _shares(seats, rows)
        grams = [
            np.hstack([sums, np.append(sums[-1], count)[:, None]])
            for sums, count in zip(_summed(rows, rows, shares), _counts(rows, shares), strict=True)
        ]
        if not all(np.isfinite(gram).all() for gram in grams):
            broken = next(
                seat.pair.pupil.name
                for seat, halves in zip(seats, rows, strict=True)
                if not all(half.isfinite().all() for half in halves)
            )
            raise MergeError(
                [
                    f"{broken}: what goes into {name} of the merge is not finite; does a model "
                    "have NaN or infinite weights?"
                ]
            )
        self._last = _Read(inputs, rows, shares, grams)
        return self._last

    def _wanted(self, seat: _Seat) -> Tensor:
        """Return what the merge is to say, [examples, positions, outputs]."""
        wanted, teacher = seat.own.outputs, self._lesson.teacher
        if teacher < 1:
            of_merged = seat.own.module.forward(seat.merged.inputs)
            wanted = of_merged + teacher * (wanted - of_merged)
        own, merged = seat.own.stream, seat.merged.stream
        if self._lesson.streams and own is not None and merged is not None:
            wanted = wanted + own - merged
        return wanted

    def _norm(self, name: str, seats: Sequence[_Seat]) -> tuple[Changed, float | None]:
        """Fit a norm's scale and shift."""
        module: Any = seats[0].merged.module
        shifted = getattr(module, "bias", None) is not None
        rows = [seat.pair.halves(name, _normalised(seat.merged)) for seat in seats]
        left = [seat.pair.halves(name, self._wanted(seat) - seat.merged.outputs) for seat in seats]
        one, other = (
            reduce(
                add,
                (
                    Affine.of(as_array(x[half].double()), as_array(y[half].double())).times(share)
                    for x, y, share in zip(rows, left, _shares(seats, rows), strict=True)
                ),
            )
            for half in (0, 1)
        )
        start = as_array(module.weight.double())
        (scale, shift), ridge = fit_affine((one, other), start, self._lesson.ridge, shifted=shifted)
        if ridge is None:
            return {}, None
        changed = {"weight": _like(module.weight, start + scale)}
        if shifted:
            changed["bias"] = _like(module.bias, as_array(module.bias.double()) + shift)
        return changed, ridge


def _shares(seats: Sequence[_Seat], rows: Sequence[Halves]) -> list[float]:
    """Return λ_i/N_i of each pass, N_i the positions of all examples of its model."""
    positions = Counter[int]()
    for seat, halves in zip(seats, rows, strict=True):
        positions[id(seat.pair.pupil)] += sum(map(len, halves))
    return [seat.pair.pupil.weight / max(1, positions[id(seat.pair.pupil)]) for seat in seats]


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
