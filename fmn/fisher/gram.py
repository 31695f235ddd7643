"""Gram matrices of the inputs of a transformer's linear layers, and their diagonals.

Hooks on forward passes are all that they take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fmn.errors import FisherError
from fmn.fisher.result import GramMatrices, PlainEstimate
from fmn.fisher.session import (
    Batch,
    Handle,
    Positions,
    Subject,
    arguments,
    describe,
    entrance,
    lent,
)
from fmn.models import run_forward

AXES: dict[type[nn.Module], int] = {nn.Linear: 1, Conv1D: 0}
"""The axis of the weight that a module's inputs lie along."""


def gram_matrices(
    model: Any,
    batches: Iterable[Batch],
    *,
    device: str | torch.device | None = None,
    progress: Callable[[int], None] | None = None,
) -> GramMatrices:
    """Compute the Gram matrices with which RegMean merges linear layers.

    See Jin et al. 2023, https://arxiv.org/abs/2212.09849.

    ``G = 1/N Σ_x Σ_t x_t x_tᵀ`` over the N examples and their positions t without padding, x_t what
    goes into the layer there: the result does not depend on batch size, order or padding. Weights
    that read the same tensor share a matrix.

    Args:
        model: a transformers model of a known family with a task head; it comes back as it was.
        batches: dicts of tensors as the model takes them, [examples, positions]; labels are used by
            encoder-decoders only, whose decoders read them.
        device: where to compute; None: where the model is.
        progress: called with the number of examples of each finished batch.

    Returns:
        the matrices, float32; products are added up in float32 within a batch, and in float64 over
        batches.

    Raises:
        ArchitectureError: the family is unknown, or the model is not what its description says.
        FisherError: no linear layer ran, its inputs are not per position of the examples, or the
            result is not finite.
    """
    inputs, examples = _summed(model, batches, _products, "Gram matrices", device, progress)
    return GramMatrices(
        matrices=inputs.mean(examples),
        inputs=inputs.where,
        examples=examples,
        model_type=inputs.subject.architecture.model_type,
    )


def second_moments(
    model: Any,
    batches: Iterable[Batch],
    *,
    device: str | torch.device | None = None,
    progress: Callable[[int], None] | None = None,
) -> PlainEstimate:
    """Compute the second moments of what goes into linear layers: the Gram matrices' diagonals.

    ``m = 1/N Σ_x Σ_t x_t²`` over the N examples and their positions t without padding, by channel.
    Wanda weighs a weight by the root of it (Sun et al. 2023, https://arxiv.org/abs/2306.11695).

    Args:
        model: see :func:`gram_matrices`, as for all arguments.
        batches: the examples.
        device: where to compute.
        progress: called with the number of examples of each finished batch.

    Returns:
        by the backbone-relative name of each linear layer's weight, float32 [inputs].

    Raises:
        ArchitectureError, FisherError: see :func:`gram_matrices`.
    """
    inputs, examples = _summed(model, batches, _squares, "second moments", device, progress)
    means = inputs.mean(examples)
    return PlainEstimate(
        kind="second-moments",
        values={name: means[source] for name, (source, _) in inputs.where.items()},
        examples=examples,
        model_type=inputs.subject.architecture.model_type,
    )


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which products of a batch are added up: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _products(rows: Tensor) -> Tensor:
    return rows.T @ rows


def _squares(rows: Tensor) -> Tensor:
    return rows.square().sum(0)


def _summed(
    model: Any,
    batches: Iterable[Batch],
    of_rows: Callable[[Tensor], Tensor],
    what: str,
    device: str | torch.device | None,
    progress: Callable[[int], None] | None,
) -> tuple[_Inputs, int]:
    """Run the model; return the sums over all positions, and the number of examples."""
    subject = describe(model)
    inputs, examples = _Inputs(subject, of_rows), 0
    with lent(model, device) as handles, torch.no_grad():
        inputs.attach(handles)
        home = entrance(subject.model)
        for batch in batches:
            prepared = inputs.begin({name: value.to(home) for name, value in batch.items()})
            run_forward(subject.model, arguments(subject, prepared))
            count = len(next(iter(prepared.values())))
            examples += count
            if progress:
                progress(count)
    if not inputs.totals:
        raise FisherError(
            "no linear layer of the model's layers ran: the batches hold no example, or the layers "
            "have none"
        )
    if not all(total.isfinite().all() for total in inputs.totals.values()):
        raise FisherError(
            f"the {what} are not finite; does the model have NaN or infinite weights?"
        )
    return inputs, examples


class _Inputs:
    """Hooks on the linear layers, and the running sums of something of their inputs.

    Attributes:
        subject: the model.
        totals: the sums, by the first weight that reads an input.
        where: from each weight to that one, and the axis of the weight that inputs lie along.
    """

    def __init__(self, subject: Subject, of_rows: Callable[[Tensor], Tensor]) -> None:
        self.subject = subject
        self._of_rows = of_rows
        self.totals: dict[str, Tensor] = {}
        self.where: dict[str, tuple[str, int]] = {}
        self._positions = Positions(subject)
        self._ran: set[str] = set()
        self._last: tuple[Tensor, str] | None = None  # what went in last, and the name of its sum

    def mean(self, examples: int) -> dict[str, Tensor]:
        """Return the sums over a number of examples, float32."""
        return {name: (total / examples).float().cpu() for name, total in self.totals.items()}

    def attach(self, handles: list[Handle]) -> None:
        prefixes = tuple(layer.prefix for layer in self.subject.layers)
        for path, module in self.subject.modules.items():
            axis = next((axis for kind, axis in AXES.items() if isinstance(module, kind)), None)
            if (
                axis is not None
                and path.startswith(prefixes)
                and not self.subject.architecture.is_once(f"{path}.weight")
            ):
                handles.append(module.register_forward_pre_hook(self._hook(f"{path}.weight", axis)))

    def begin(self, batch: Batch) -> Batch:
        """Start a batch; return it as the model is to have it."""
        self._last, self._ran = None, set()
        return self._positions.begin(batch)

    def _hook(self, name: str, axis: int) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0]
            # again, on relative positions (DeBERTa), which are nobody's example
            if name in self._ran:
                return
            self._ran.add(name)
            if self._last is not None and x is self._last[0]:  # query, key and value
                self.where[name] = (self._last[1], axis)
                return
            self._last = (x, name)
            self.where[name] = (name, axis)
            self._add(name, x)

        return hook

    def _add(self, name: str, x: Tensor) -> None:
        added = self._of_rows(x[self._positions.of(name, x)].to(wide(x.dtype))).double()
        self.totals[name] = self.totals[name] + added if name in self.totals else added
