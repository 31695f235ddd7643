"""How far layers go to what was fitted to them: by examples that they were not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fmn.errors import MergeError
from fmn.fisher import read_head
from fmn.fisher.session import Batch, describe
from fmn.layerwise.experts import Expert, Regression, examples, numbered
from fmn.layerwise.fit import Fitted, fit_layers

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the way from the start to what was fitted, what is tried."""

FEWEST = 4
"""Examples of a model: each half is fitted by halves of its own."""


@dataclass(frozen=True)
class Calibrated:
    """A merge's layers after a regression.

    Attributes:
        tensors: by backbone-relative name, in the dtype of the merged model.
        share: of the way from the start to what was fitted; 0 where the start is best.
        errors: by share, the squared error of what the models' own heads say of examples that
            nothing was fitted to, over their variance; the mean over the models.
    """

    tensors: Mapping[str, Tensor]
    share: float
    errors: Mapping[float, float]


def calibrate(
    experts: Sequence[Expert],
    settings: Mapping[str, Any],
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Calibrated:
    """Fit layers as the parameters of the method ``layerwise`` say, and as far as it helps.

    What is fitted to every other example, see :func:`fmn.layerwise.fit_layers`, is held against the
    rest of them: there, the merge with the models' own heads is to say what the models say. Of the
    shares of the way from the start to it the best one is taken of what is then fitted to all
    examples; so a merge says no less on them than its start.

    Args:
        experts: the models; their order changes the last bits only.
        settings: the method's parameters.
        progress: called with the number of modules that are done; each is fitted twice.

    Raises:
        MergeError: fewer than four examples of a model; see also
            :func:`fmn.layerwise.fit_layers`.
        FisherError: a model that does not classify.
    """
    if few := [expert.name for expert in experts if sum(map(examples, expert.batches)) < FEWEST]:
        raise MergeError(
            [
                f"{name}: layers are fitted to {FEWEST} examples at least, and this one has fewer"
                for name in few
            ]
        )
    ridge = settings["ridge"]
    regression = Regression(ridge=None if ridge == "auto" else ridge)
    parameters = [describe(expert.merged).parameters for expert in experts]
    start = {name: parameter.data for name, parameter in parameters[0].items()}
    one, other = (
        [replace(expert, batches=list(_half(expert.batches, half))) for expert in experts]
        for half in (0, 1)
    )

    def go(fitted: Fitted, share: float) -> dict[str, Tensor]:
        """Put a share of the way into the merge; return what is there then."""
        there = {
            name: torch.lerp(start[name], tensor, share) for name, tensor in fitted.tensors.items()
        }
        for each in parameters:
            for name, tensor in there.items():
                each[name].data = tensor
        return there

    wanted = [read_head(expert.own, expert.batches).outputs for expert in other]
    half = fit_layers(one, regression, progress=progress)
    errors: dict[float, float] = {}
    for share in SHARES:
        go(half, share)
        errors[share] = _error(other, wanted)
    best = min(SHARES, key=errors.__getitem__)
    go(half, 0.0)
    if not best:
        return Calibrated({}, best, errors)
    return Calibrated(go(fit_layers(experts, regression, progress=progress), best), best, errors)


def _half(batches: Sequence[Batch], half: int) -> Iterator[Batch]:
    """Iterate over every other example."""
    for batch, before in numbered(batches):
        first = (half + before) % 2
        if examples(batch) > first:
            yield {name: value[first::2] for name, value in batch.items()}


def _error(experts: Sequence[Expert], wanted: Sequence[Tensor]) -> float:
    """Return the mean over models of the squared error of what heads say, over its variance."""
    weight = sum(expert.weight for expert in experts)
    total = 0.0
    for expert, own in zip(experts, wanted, strict=True):
        left = (read_head(expert.merged, expert.batches).outputs - own).double().square().mean()
        spread = (own - own.mean(0)).double().square().mean()
        total += expert.weight / weight * float(left / torch.clamp(spread, min=1e-12))
    return total
