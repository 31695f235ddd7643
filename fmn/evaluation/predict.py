"""Logits of a model on encoded examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fmn.errors import DataError
from fmn.evaluation.encoding import IGNORED
from fmn.models import run_forward

if TYPE_CHECKING:
    import torch

    from fmn.evaluation.encoding import Encoded


def predict(
    model: torch.nn.Module,
    encoded: Encoded,
    *,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray[Any, Any]:
    """Return the logits [N, C] of all examples, float32, in their order.

    On CUDA in bfloat16 (float16 where the card has none), elsewhere in the model's own precision.

    Args:
        model: A transformers model with a classification head; its training mode is left as it was.
        encoded: N examples.
        batch_size: Examples in a batch; does not change the result beyond rounding.
        device: Where to run, and where the model stays; None runs where the model is.
        progress: Called after each batch with the number of examples in it.

    Raises:
        DataError: There are no examples.
    """
    import torch

    rows, chunks = [], []
    for chunk, _, logits in _run(model, encoded, batch_size, device, progress):
        rows.append(chunk)
        # Left on the device until the end: fetching each batch would make the device wait.
        chunks.append(logits)
    gathered: np.ndarray[Any, Any] = torch.cat(chunks).float().cpu().numpy()
    return gathered[np.argsort(np.concatenate(rows))]


def predict_tokens(
    model: torch.nn.Module,
    encoded: Encoded,
    *,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return the likeliest and the true token, both [T], int64, at every position that counts.

    The likeliest token is that given the true ones before.

    Args:
        model: A transformers language model, causal or with an encoder; its training mode is left
            as it was.
        encoded: See `predict`; of a language task.
        batch_size: See `predict`.
        device: See `predict`.
        progress: See `predict`.

    Raises:
        DataError: There are no examples, or a logit is not finite.
    """
    pairs = tokens_of_each(model, encoded, batch_size=batch_size, device=device, progress=progress)
    predictions, references = zip(*pairs, strict=True)
    return np.concatenate(predictions), np.concatenate(references)


def tokens_of_each(
    model: torch.nn.Module,
    encoded: Encoded,
    *,
    batch_size: int = 32,
    device: torch.device | str | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Return what `predict_tokens` does, of each example by itself, in their order."""
    pairs: dict[int, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = {}
    for chunk, labels, logits in _run(model, encoded, batch_size, device, progress):
        if not getattr(model.config, "is_encoder_decoder", False):
            logits, labels = logits[:, :-1], labels[:, 1:]
        if broken := int((~logits.isfinite()).any(-1)[labels != IGNORED].sum()):
            raise DataError(
                f"the model gives NaN or infinite logits for {broken} tokens of task "
                f"{encoded.task}; its weights are damaged"
            )
        likeliest = logits.argmax(-1).cpu()
        for row, predicted, true in zip(chunk, likeliest, labels.cpu(), strict=True):
            counts = true != IGNORED
            pairs[int(row)] = predicted[counts].numpy(), true[counts].numpy()
    return [pairs[row] for row in sorted(pairs)]


def _run(
    model: torch.nn.Module,
    encoded: Encoded,
    batch_size: int,
    device: torch.device | str | None,
    progress: Callable[[int], object] | None,
) -> Iterator[tuple[np.ndarray[Any, Any], torch.Tensor, torch.Tensor]]:
    """Yield the row numbers, labels and logits of each batch."""
    import torch

    if not len(encoded):
        raise DataError(f"{encoded.task}/{encoded.split} has no examples to predict")
    if device is not None:
        model.to(device)
    place = next(model.parameters()).device
    with (
        torch.inference_mode(),
        _evaluating(model),
        padded(model, encoded) as encoded,
        _autocast(place),
    ):
        for chunk, batch in encoded.batches(batch_size):
            inputs = {name: tensor.to(place, non_blocking=True) for name, tensor in batch.items()}
            labels = inputs.pop("labels")
            if encoded.targets is not None and getattr(model.config, "is_encoder_decoder", False):
                shift: Any = model.prepare_decoder_input_ids_from_labels
                inputs["decoder_input_ids"] = shift(labels)
            yield chunk, labels, run_forward(model, inputs).logits
            if progress is not None:
                progress(len(chunk))


@contextmanager
def _evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropout off for a while."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def padded(model: torch.nn.Module, encoded: Encoded) -> Iterator[Encoded]:
    """Lend a model and its examples one padding token.

    A decoder that classifies finds the end of a text by it. It is the model's own; a model that has
    none, and then takes no batches, gets the examples' for a while.

    Args:
        model: A transformers model.
        encoded: Examples.

    Yields:
        The examples, padded with that token.
    """
    config: Any = getattr(model, "config", None)
    own = getattr(config, "pad_token_id", None)
    if config is None or (own is not None and own >= 0):  # -1 was once written for none
        yield encoded if own is None else replace(encoded, pad_token_id=own)
        return
    config.pad_token_id = encoded.pad_token_id
    try:
        yield encoded
    finally:
        config.pad_token_id = own


def _autocast(place: torch.device) -> AbstractContextManager[Any]:
    import torch

    if place.type != "cuda":
        return nullcontext()
    return torch.autocast(
        "cuda", dtype=torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    )
