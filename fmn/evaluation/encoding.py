"""Token ids: encoded once per tokenizer, batched and padded as a model needs them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmn.errors import ParamsError, unknown
from fmn.evaluation.data import Examples, load_split, sample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from fmn.evaluation.tasks import Task

    Batch = tuple[np.ndarray[Any, Any], dict[str, torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids and labels of N examples, unpadded.

    Attributes:
        task: The task's name.
        split: The split's name.
        input_ids: N arrays of int64 token ids.
        token_type_ids: N arrays of int64 segment numbers, or None where the tokenizer gives none.
        labels: [N], int64 label numbers of the data, or float32 targets of a regression.
        pad_token_id: What padding is made of; the attention mask hides it.
        padding_side: ``right`` or ``left``.
    """

    task: str
    split: str
    input_ids: tuple[np.ndarray[Any, Any], ...]
    token_type_ids: tuple[np.ndarray[Any, Any], ...] | None
    labels: np.ndarray[Any, Any]
    pad_token_id: int
    padding_side: str = "right"

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """[N], tokens per example."""
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64)

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of all that a model sees of these examples, in their order."""
        digest = hashlib.sha256(f"{self.labels.dtype.name} {len(self)}".encode())
        columns = [self.input_ids] if self.token_type_ids is None else [self.input_ids, self.token_type_ids]
        for array in (self.lengths, *(np.concatenate(column) for column in columns), self.labels):
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def batches(self, batch_size: int, *, order: str = "length", label_order: Sequence[int] | None = None) -> Iterator[Batch]:
        """Yield batches, each padded to its own longest example.

        Args:
            batch_size: Examples in a batch; the last may have fewer.
            order: ``length``, the longest first, so that a lack of memory shows at once; or ``file``.
            label_order: For each output of the model, the data's label number; labels then come out as the model's
                outputs. None leaves the data's numbers.

        Yields:
            Row numbers [B], and a batch of ``input_ids`` and ``attention_mask`` [B, L], ``token_type_ids`` [B, L] where
            there are any, and ``labels`` [B].

        Raises:
            ParamsError: batch_size < 1, or an unknown order.
        """
        if batch_size < 1:
            raise ParamsError(f"batch size {batch_size}: expected 1 or more")
        if order not in ("length", "file"):
            raise ParamsError(unknown("order", order, ("length", "file")))
        lengths = self.lengths
        rows = np.argsort(-lengths, kind="stable") if order == "length" else np.arange(len(self))
        labels = self.labels
        if label_order is not None and np.issubdtype(labels.dtype, np.integer):
            labels = np.argsort(label_order)[labels]
        for start in range(0, len(self), batch_size):
            chunk = rows[start : start + batch_size]
            yield chunk, self._collate(chunk, lengths[chunk], labels[chunk])

    def _collate(
        self, rows: np.ndarray[Any, Any], lengths: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]
    ) -> dict[str, torch.Tensor]:
        import torch

        width = lengths.max()
        positions = np.arange(width)
        mask = positions >= (width - lengths)[:, None] if self.padding_side == "left" else positions < lengths[:, None]

        def pad(column: tuple[np.ndarray[Any, Any], ...], filler: int) -> torch.Tensor:
            padded = np.full(mask.shape, filler, dtype=np.int64)
            padded[mask] = np.concatenate([column[row] for row in rows])
            return torch.from_numpy(padded)

        batch = {
            "input_ids": pad(self.input_ids, self.pad_token_id),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if self.token_type_ids is not None:
            batch["token_type_ids"] = pad(self.token_type_ids, 0)
        return batch | {"labels": torch.from_numpy(labels)}


def encode(tokenizer: PreTrainedTokenizerBase, examples: Examples, max_length: int) -> Encoded:
    """Tokenize examples; one that is too long loses tokens from its longer text first.

    Args:
        tokenizer: A transformers tokenizer, preferably a fast one.
        examples: N examples.
        max_length: The most tokens in one example, special ones included.
    """
    encoding = tokenizer(*examples.texts, truncation=True, max_length=max_length, return_attention_mask=False)
    types = encoding.get("token_type_ids")
    # GPT-2 has no padding token; the end of text does as well, for the attention mask hides it.
    fillers = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return Encoded(
        task=examples.task,
        split=examples.split,
        input_ids=_arrays(encoding["input_ids"]),
        token_type_ids=None if types is None else _arrays(types),
        labels=examples.labels,
        pad_token_id=next(filler for filler in fillers if filler is not None),
        padding_side=tokenizer.padding_side,
    )


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256, in hexadecimal, of all that decides which ids a tokenizer gives."""
    if tokenizer.is_fast:
        core = json.loads(tokenizer.backend_tokenizer.to_str())
        # Left over from the latest call, not part of the tokenizer.
        core["truncation"] = core["padding"] = None
    else:
        core = [type(tokenizer).__name__, tokenizer.get_vocab(), str(tokenizer.special_tokens_map)]
    sides = [tokenizer.padding_side, tokenizer.truncation_side, tokenizer.pad_token_id, tokenizer.model_input_names]
    return hashlib.sha256(json.dumps([core, sides], sort_keys=True).encode()).hexdigest()


class EncodedCache:
    """Encoded splits in memory, so that models which share a tokenizer share one pass of tokenization."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Encoded] = {}

    def get(
        self,
        tokenizer: PreTrainedTokenizerBase,
        source: str,
        task: Task,
        split: str,
        *,
        max_length: int,
        limit: int | None = None,
        seed: int | None = None,
    ) -> Encoded:
        """Load, sample and encode a split, or return what an equal call returned.

        Args:
            tokenizer: See `encode`.
            source: See `load_split`.
            task: See `load_split`.
            split: See `load_split`.
            max_length: See `encode`.
            limit: How many examples to take (see `sample`); None takes all.
            seed: See `sample`; without a limit it has no effect.

        Raises:
            DataError: See `load_split` and `sample`.
        """
        key = (tokenizer_digest(tokenizer), source, task, split, limit, seed, max_length)
        if key not in self._kept:
            examples = load_split(source, task, split)
            if limit is not None:
                examples = sample(examples, limit, seed)
            self._kept[key] = encode(tokenizer, examples, max_length)
        return self._kept[key]


def _arrays(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray[Any, Any], ...]:
    return tuple(np.array(row, dtype=np.int64) for row in rows)
