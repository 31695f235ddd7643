"""The layers of a merge refitted, one module after another, to what its models say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fmn.checkpoint import setting_of
from fmn.errors import MergeError
from fmn.fisher.gram import AXES
from fmn.fisher.session import Subject, describe, entrance, lent
from fmn.layerwise.experts import Expert, Regression, examples, numbered
from fmn.layerwise.fitting import Changed, Fitting, Passes
from fmn.layerwise.walk import stopping


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
    experts: Sequence[Expert],
    regression: Regression,
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
        experts: the models; their order changes the last bits only.
        regression: how.
        progress: called with the number of modules, of :func:`count`, that are done.

    Raises:
        ArchitectureError: an unknown family, or a model that is not what its description says.
        FisherError: inputs at other positions than the examples'.
        MergeError: no examples; models whose passes differ, or whose activations are not finite.
    """
    few = [expert.name for expert in experts if sum(map(examples, expert.batches)) < 2]
    if few:
        raise MergeError([f"{name}: layers are fitted to two examples at least" for name in few])
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        subjects = [(describe(expert.own), describe(expert.merged)) for expert in experts]
        for subject in (each for both in subjects for each in both):
            stack.enter_context(lent(subject.model, None))
            stack.enter_context(stopping(linear_maps(subject), norms_of(subject, regression)))
        _check_memory(experts, subjects[0][0])
        pairs = [
            Passes(expert, *both, *each)
            for expert, both in zip(experts, subjects, strict=True)
            for each in numbered(expert.batches)
        ]
        fitting = Fitting(pairs, [merged for _, merged in subjects], regression)
        tensors: Changed = {}
        ridges: dict[str, float | None] = {}
        while (name := fitting.name()) is not None:
            changed, ridges[name] = fitting.settle(name)
            tensors |= changed
            progress(1)
    return Fitted(tensors, ridges)


def _check_memory(experts: Sequence[Expert], subject: Subject) -> None:
    """Refuse more examples than can be in memory at once, in all models and the merge.

    Where the passes hold most, at a feed-forward block's second map, each holds its stream and what
    goes into that map and comes out; the rows that go in are held twice.
    """
    sizes = subject.layers[0].sizes
    channels = 4 * setting_of(subject.model.config, subject.architecture.hidden) + 5 * sizes.neurons
    positions = sum(
        next(iter(batch.values())).shape[:2].numel()
        for expert in experts
        for batch in expert.batches
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


def count(model: Any, regression: Regression | None = None) -> int:
    """Return how many modules of a model are fitted, unless the regression says otherwise all."""
    subject = describe(model)
    return len(linear_maps(subject)) + len(norms_of(subject, regression or Regression()))


def linear_maps(subject: Subject) -> dict[str, nn.Module]:
    """Return the layers' linear maps of what is at the examples' positions, by backbone name."""
    return dict(_in_layers(subject, lambda module: isinstance(module, tuple(AXES))))


def norms_of(subject: Subject, regression: Regression) -> dict[str, nn.Module]:
    """Return the layers' norms of whole hidden states, by backbone name; none if none is fitted."""
    hidden = setting_of(subject.model.config, subject.architecture.hidden)

    def is_norm(module: nn.Module) -> bool:
        weight = getattr(module, "weight", None)
        return "Norm" in type(module).__name__ and weight is not None and len(weight) == hidden

    return dict(_in_layers(subject, is_norm)) if regression.norms else {}


def _in_layers(
    subject: Subject, wanted: Callable[[nn.Module], bool]
) -> Iterator[tuple[str, nn.Module]]:
    prefixes = tuple(layer.prefix for layer in subject.layers)
    for path, module in subject.modules.items():
        once = subject.architecture.is_once(f"{path}.weight")
        if path.startswith(prefixes) and not once and wanted(module):
            yield path, module
