"""The context of one run: where to compute, what to tell, and what is loaded once."""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from fmn.checkpoint import Checkpoint, Tensors
from fmn.errors import CheckpointError, DataError, FmnError
from fmn.evaluation import DataSource, Encoded, EncodedCache, Task
from fmn.params import MemorySettings
from fmn.recipe import Dtype
from fmn.store import Memo
from fmn.visible import visible

COUNT_FROM_PADDING = ("roberta", "xlm-roberta", "camembert")
"""Families whose first position is the one after the padding token's number."""


class Reporter(Protocol):
    """Shows a person how far long work is."""

    def track(self, what: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
        """Show a bar for ``total`` units while the context lasts.

        Call what it yields with units that are done.
        """

    def warn(self, line: str) -> None:
        """Show one line that a person should read."""


class Quiet:
    """Shows no bars; warnings go where Python's go."""

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show nothing."""
        yield lambda done: None

    def warn(self, line: str) -> None:
        """Warn."""
        warnings.warn(visible(line), stacklevel=2)


@dataclass
class NoBars:
    """Passes warnings on and shows no bars: there is one over all merges."""

    report: Reporter

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show nothing."""
        yield lambda done: None

    def warn(self, line: str) -> None:
        """Pass it on."""
        self.report.warn(line)


BACKBONE_BYTES = 2**30
"""So much memory may be taken by merged backbones that are kept for what else reads them."""

MODEL_BYTES = 4 * 2**30
"""So much memory may be taken by models that are kept loaded."""


@dataclass
class Context:
    """What the steps of one run share on one device; one step at a time may work at it.

    Attributes:
        device: ``auto`` (a CUDA device if there is one), or a torch device.
        report: where progress goes.
        encoded: tokenised splits.
        memo: digests of files.
        memory: how Fishers of large models fit into it.
        model_bytes: of models that are kept loaded; those used longest ago go first.
    """

    device: str = "auto"
    report: Reporter = field(default_factory=Quiet)
    encoded: EncodedCache = field(default_factory=EncodedCache)
    memo: Memo = field(default_factory=Memo)
    memory: MemorySettings = field(default_factory=MemorySettings)
    model_bytes: int = MODEL_BYTES
    _models: OrderedDict[tuple[str, ...], Any] = field(default_factory=OrderedDict)
    _backbones: OrderedDict[str, Tensors] = field(default_factory=OrderedDict)
    _tokenizers: dict[Path, Any] = field(default_factory=dict)

    def torch_device(self) -> str:
        """Return the device to compute on.

        Raises:
            FmnError: there is no such device here.
        """
        import torch

        if self.device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.zeros((), device=self.device).item()
        except (RuntimeError, AssertionError, ImportError) as error:
            raise FmnError(
                f"device '{self.device}' cannot be used here; choose cpu, cuda, cuda:1, … or auto"
            ) from error
        return self.device

    def model(self, checkpoint: Checkpoint, dtype: Dtype = "same", *, spread: bool = False) -> Any:
        """Return the checkpoint's model on the device; it is to stay as it is.

        Args:
            checkpoint: the model.
            dtype: of its weights.
            spread: layers that do not fit may be elsewhere, if ``memory`` has a device map.
        """
        from fmn.models import load_model, load_spread

        device, path, limits = self.torch_device(), checkpoint.path, self.memory.device_map
        size = sum(tensor.nbytes for tensor in checkpoint.tensors.values())
        if spread and limits:
            sizes: dict[str, str] = (
                {} if limits == "auto" else {str(where): size for where, size in limits.items()}
            )
            return self._kept(
                ("spread", str(path), dtype), size, lambda: load_spread(path, dtype, device, sizes)
            )
        return self._kept(
            ("model", str(path), dtype), size, lambda: load_model(path, dtype).to(device)
        )

    def body(self, checkpoint: Checkpoint) -> Any:
        """Return a fresh copy of the checkpoint's model, to put a merged backbone into."""
        model = self.model(checkpoint)
        body = self._kept(("body", str(checkpoint.path)), _size(model), lambda: _sharing(model))
        for parameter, original in zip(body.parameters(), model.parameters(), strict=True):
            # what the merge before put there goes; a merge replaces data, it never writes into it
            parameter.data = original.data
        return body

    def _kept(self, name: tuple[str, ...], size: int, load: Callable[[], Any]) -> Any:
        """Return the model of that name.

        If it has to be loaded, others make room for its ``size`` first.
        """
        if name not in self._models:
            while self._models and sum(map(_size, self._models.values())) + size > self.model_bytes:
                self._models.popitem(last=False)
            self._models[name] = load()
        self._models.move_to_end(name)
        return self._models[name]

    def backbone(self, key: str, merge: Callable[[], Tensors]) -> Tensors:
        """Return the merged tensors of that key; they are to stay as they are.

        Merges that differ in their heads alone, and what measures them, share them.
        """
        kept = self._backbones
        if key not in kept:
            kept[key] = merge()
            while len(kept) > 1 and sum(map(_nbytes, kept.values())) > BACKBONE_BYTES:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return kept[key]

    def tokenizer(self, checkpoint: Checkpoint) -> Any:
        """Return the checkpoint's tokenizer, loaded once."""
        from fmn.models import load_tokenizer

        if checkpoint.path not in self._tokenizers:
            self._tokenizers[checkpoint.path] = load_tokenizer(checkpoint.path)
        return self._tokenizers[checkpoint.path]

    def encode(
        self,
        checkpoint: Checkpoint,
        data: DataSource,
        task: Task,
        split: str,
        *,
        max_length: int,
        limit: int | None,
        seed: int | None,
        replacement: bool = False,
    ) -> Encoded:
        """Return examples as the checkpoint's model reads them; see :meth:`EncodedCache.get`.

        Raises:
            CheckpointError: there is no tokenizer, or it gives tokens that the model does not know.
            DataError: the data does not fit, or an example is too long for the model.
        """
        tokenizer, decoder = (
            self.tokenizer(checkpoint),
            bool(checkpoint.setting("is_encoder_decoder")),
        )
        chosen: dict[str, Any] = {"limit": limit, "seed": seed, "replacement": replacement}
        encoded = self.encoded.get(
            tokenizer, data, task, split, max_length=max_length, decoder=decoder, **chosen
        )
        if empty := [row for row, ids in enumerate(encoded.input_ids) if not len(ids)]:
            raise DataError(
                f"{checkpoint.name}: its tokenizer makes no token of example {empty[0]} (from 0) "
                f"of {task.name}/{split}; drop it"
            )
        highest, vocabulary = (
            int(max(ids.max() for ids in encoded.input_ids)),
            checkpoint.setting("vocab_size"),
        )
        if vocabulary is not None and highest >= vocabulary:
            raise CheckpointError(
                f"{checkpoint.name}: its tokenizer gives token {highest}, but the model knows "
                f"{vocabulary}; is it of this model?"
            )
        longest, positions = int(encoded.lengths.max()), _positions(checkpoint)
        if positions is not None and longest > positions:
            raise DataError(
                f"{checkpoint.name}: {task.name}/{split} has an example of {longest} tokens, but "
                f"the model reads {positions}; set the maximal length to {positions} or less"
            )
        return encoded


def _size(model: Any) -> int:
    return sum(parameter.nbytes for parameter in model.parameters())


def _nbytes(tensors: Tensors) -> int:
    return sum(tensor.nbytes for tensor in tensors.values())


def _sharing(model: Any) -> Any:
    """Copy a model, but for the memory of its parameters."""
    return copy.deepcopy(
        model, {id(parameter): copy.copy(parameter) for parameter in model.parameters()}
    )


def _positions(checkpoint: Checkpoint) -> int | None:
    """Return how many tokens the model has learned positions for; None if it has none to learn."""
    tables = [
        len(tensor)
        for name, tensor in checkpoint.tensors.items()
        if name.endswith(".position_embeddings.weight")
    ]
    if not tables:
        return None
    skipped = (
        int(checkpoint.setting("pad_token_id")) + 1
        if checkpoint.model_type in COUNT_FROM_PADDING
        else 0
    )
    return min(tables) - skipped
