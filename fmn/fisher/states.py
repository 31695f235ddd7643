"""What a task's head reads and says of it: the linear map that a refit fits, found by running."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fmn.errors import FisherError
from fmn.fisher.result import PlainEstimate
from fmn.fisher.session import Batch, Handle, arguments, describe, entrance, lent
from fmn.models import run_forward
from fmn.statistics import HEAD_STATES

Progress = Callable[[int], None]


@dataclass(frozen=True)
class HeadStates:
    """What goes into a head's first linear map, and what comes out.

    Attributes:
        map: the module's full name, such as ``bert.pooler.dense``.
        inputs: [examples, inputs], in the dtype of the model.
        outputs: [examples, outputs], before the non-linearity.
    """

    map: str
    inputs: Tensor
    outputs: Tensor


def read_head(
    model: Any,
    batches: Iterable[Batch],
    *,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> HeadStates:
    """Run a model and note what its head's first linear map reads and says, once an example.

    That map is the first linear module that runs outside of what models share: BERT's pooler,
    RoBERTa's ``classifier.dense``, a decoder's score matrix, of which the positions count that its
    logits come from.

    Args:
        model: a transformers model for classification, of a known family; it comes back as it was.
        batches: dicts of tensors as the model takes them, [examples, positions].
        device: where to compute; None: where the model is.
        progress: called with the number of examples of each finished batch.

    Returns:
        the states, in the order of the batches, on the CPU.

    Raises:
        ArchitectureError: the family is unknown, or the model is not what its description says.
        FisherError: the model does not classify, its head has no linear map, or it reads other
            positions than one an example; the states are not finite.
    """
    subject = describe(model)
    if subject.head != "classes":
        raise FisherError(
            f"a {type(model).__name__} does not classify; only a classifier's head can be refitted"
        )
    shared = {
        id(module)
        for name, module in subject.modules.items()
        if not subject.architecture.is_readout(f"{name}.")
    }
    outside = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in shared
    }
    calls: list[tuple[str, Tensor, Tensor]] = []

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        return lambda module, inputs, output: calls.append((name, inputs[0], output))

    rows: list[tuple[Tensor, Tensor]] = []
    name = ""
    with lent(model, device) as handles, torch.no_grad():
        handles.extend(_hooked(outside, hook))
        home = entrance(subject.model)
        for batch in batches:
            prepared = {key: value.to(home) for key, value in batch.items()}
            calls.clear()
            outcome = run_forward(subject.model, arguments(subject, prepared))
            if not calls:
                raise FisherError("its head has no linear map, so it cannot be refitted")
            name, inputs, outputs = calls[0]
            rows.append(_one_each(name, inputs, outputs, outcome.logits, prepared))
            if progress:
                progress(len(outputs))
    if not rows:
        raise FisherError("no example to read the head's states of; give at least one")
    inputs, outputs = (torch.cat(each).cpu() for each in zip(*rows, strict=True))
    if not (inputs.isfinite().all() and outputs.isfinite().all()):
        raise FisherError(
            f"{name}: its inputs or outputs are not finite; does the model have NaN or infinite "
            "weights?"
        )
    return HeadStates(name, inputs, outputs)


def head_states(
    model: Any,
    batches: Iterable[Batch],
    *,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> PlainEstimate:
    """Return what a model's head says before its non-linearity, for a refit to aim at.

    Returns:
        ``outputs``, float32 [examples, outputs]; the rows are in the order of the batches.

    Raises:
        ArchitectureError, FisherError: see :func:`read_head`.
    """
    states = read_head(model, batches, device=device, progress=progress)
    return PlainEstimate(
        kind=HEAD_STATES,
        values={"outputs": states.outputs.float()},
        examples=len(states.outputs),
        model_type=model.config.model_type,
    )


def _hooked(
    modules: Mapping[str, nn.Module], hook: Callable[[str], Callable[..., None]]
) -> list[Handle]:
    return [module.register_forward_hook(hook(name)) for name, module in modules.items()]


def _one_each(
    name: str, inputs: Tensor, outputs: Tensor, logits: Tensor, batch: Batch
) -> tuple[Tensor, Tensor]:
    """Return the row of each example, [examples, channels]; a decoder's is its last token's."""
    if inputs.ndim == 2 and len(inputs) == len(logits):
        return inputs, outputs
    mask = batch.get("attention_mask")
    if inputs.ndim == 3 and mask is not None and outputs.shape[:2] == mask.shape:
        at = torch.arange(len(mask), device=mask.device)
        last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
        if torch.equal(outputs[at, last], logits):
            return inputs[at, last], outputs[at, last]
    raise FisherError(
        f"{name} reads inputs of shape {list(inputs.shape)}; expected one an example, or the last "
        "token's: this head cannot be refitted"
    )
