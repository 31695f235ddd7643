"""Token ids: encoded once per tokenizer, batched and padded as a model needs them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fmn.errors import DataError, ParamsError, unknown
from fmn.evaluation.data import DataSource, Examples, load_split, sample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from fmn.evaluation.tasks import Task

    Batch = tuple[np.ndarray[Any, Any], dict[str, torch.Tensor]]


IGNORED = -100
"""Stands where a position has no token to be predicted."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Token ids and labels of N examples, unpadded.

    Attributes:
        task: The task's name.
        split: The split's name.
        input_ids: N arrays of int64 token ids.
        token_type_ids: N arrays of int64 segment numbers, or None where the tokenizer gives none.
        labels: [N], int64 label numbers of the data, or float32 targets of a regression; zeros for
            a language task.
        pad_token_id: What padding is made of; the attention mask hides it.
        padding_side: ``right`` or ``left``.
        targets: Of a language task, N arrays of int64 token ids to be predicted: as long as the
            inputs, ``IGNORED`` where the prompt is; for an encoder-decoder, what the decoder is to
            write.
    """

    task: str
    split: str
    input_ids: tuple[np.ndarray[Any, Any], ...]
    token_type_ids: tuple[np.ndarray[Any, Any], ...] | None
    labels: np.ndarray[Any, Any]
    pad_token_id: int
    padding_side: str = "right"
    targets: tuple[np.ndarray[Any, Any], ...] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """[N], tokens per example."""
        return np.array([len(ids) for ids in self.input_ids], dtype=np.int64)

    def digest(self) -> str:
        """Return the hexadecimal SHA-256 of all that a model sees of these examples, in order."""
        digest = hashlib.sha256(f"{self.labels.dtype.name} {len(self)}".encode())
        columns = [
            column
            for column in (self.input_ids, self.token_type_ids, self.targets)
            if column is not None
        ]
        for array in (self.lengths, *(np.concatenate(column) for column in columns), self.labels):
            digest.update(
                np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
            )
        return digest.hexdigest()

    def batches(
        self, batch_size: int, *, order: str = "length", label_order: Sequence[int] | None = None
    ) -> Iterator[Batch]:
        """Yield batches, each padded to its own longest example.

        Args:
            batch_size: Examples in a batch; the last may have fewer.
            order: ``length``, the longest first, so that a lack of memory shows at once; or
                ``file``.
            label_order: For each output of the model, the data's label number; labels then come out
                as the model's outputs. None leaves the data's numbers.

        Yields:
            Row numbers [B], and a batch of ``input_ids`` and ``attention_mask`` [B, L],
            ``token_type_ids`` [B, L] where there are any, and ``labels`` [B], of a language task
            [B, L], or [B, K] where the decoder has its own length.

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
        if label_order and np.issubdtype(labels.dtype, np.integer):
            labels = np.argsort(label_order)[labels]
        for start in range(0, len(self), batch_size):
            chunk = rows[start : start + batch_size]
            yield chunk, self._collate(chunk, lengths[chunk], labels[chunk])

    def _collate(
        self,
        rows: np.ndarray[Any, Any],
        lengths: np.ndarray[Any, Any],
        labels: np.ndarray[Any, Any],
    ) -> dict[str, torch.Tensor]:
        import torch

        def pad(column: tuple[np.ndarray[Any, Any], ...], filler: int) -> torch.Tensor:
            chosen = [column[row] for row in rows]
            width = max(map(len, chosen))
            padded = np.full((len(rows), width), filler, dtype=np.int64)
            for row, values in zip(padded, chosen, strict=True):
                row[width - len(values) if self.padding_side == "left" else 0 :][: len(values)] = (
                    values
                )
            return torch.from_numpy(padded)

        positions = np.arange(lengths.max())
        mask = (
            positions >= (lengths.max() - lengths)[:, None]
            if self.padding_side == "left"
            else positions < lengths[:, None]
        )
        batch = {
            "input_ids": pad(self.input_ids, self.pad_token_id),
            "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        }
        if self.token_type_ids is not None:
            batch["token_type_ids"] = pad(self.token_type_ids, 0)
        return batch | {
            "labels": torch.from_numpy(labels)
            if self.targets is None
            else pad(self.targets, IGNORED)
        }


def encode(
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    max_length: int,
    *,
    decoder: bool = False,
) -> Encoded:
    """Tokenize examples; cut long ones, the longer text first, a completion at its end.

    Args:
        tokenizer: A transformers tokenizer, preferably a fast one.
        examples: N examples.
        max_length: The most tokens in one example, special ones included.
        decoder: Whether the model writes completions with a decoder of its own, not after the
            prompt.

    Raises:
        DataError: A completion of which nothing is left, or a language task and a tokenizer that is
            not fast.
    """
    texts, targets = examples.texts, None
    options: dict[str, Any] = {
        "truncation": True,
        "max_length": max_length,
        "return_attention_mask": False,
    }
    if examples.completions is None:
        encoding = tokenizer(*texts, **options)
    elif decoder:
        encoding = tokenizer(*(texts or [[""] * len(examples)]), **options)
        targets = _arrays(tokenizer(text_target=examples.completions, **options)["input_ids"])
    else:
        prompts = texts[0] if texts else [""] * len(examples)
        encoding, targets = _after_prompts(tokenizer, examples, prompts, options)
    types = encoding.get("token_type_ids") if examples.completions is None else None
    # GPT-2 has no padding token; the end of text does as well, for the attention mask hides it.
    fillers = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return Encoded(
        task=examples.task,
        split=examples.split,
        input_ids=_arrays(encoding["input_ids"]),
        token_type_ids=None if types is None else _arrays(types),
        labels=examples.labels,
        pad_token_id=next(filler for filler in fillers if filler is not None),
        # learned positions count from the left
        padding_side=tokenizer.padding_side if targets is None else "right",
        targets=targets,
    )


def _after_prompts(
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    prompts: Sequence[str],
    options: dict[str, Any],
) -> tuple[Any, tuple[np.ndarray[Any, Any], ...]]:
    """Encode each completion after its prompt; what ends in it, or closes the text, counts."""
    assert examples.completions is not None
    if not tokenizer.is_fast:
        raise DataError(
            f"task {examples.task} needs a fast tokenizer, which says where in the text a token "
            "is; save one as tokenizer.json"
        )
    texts = [
        prompt + completion
        for prompt, completion in zip(prompts, examples.completions, strict=True)
    ]
    encoding = tokenizer(
        texts, return_offsets_mapping=True, return_special_tokens_mask=True, **options
    )
    targets = []
    for row, prompt in enumerate(prompts):
        ids = np.array(encoding["input_ids"][row])
        ends = np.array([end for _, end in encoding["offset_mapping"][row]])
        special = np.array(encoding["special_tokens_mask"][row], dtype=bool)
        counts = ~special & (ends > len(prompt))
        counts |= special & np.logical_or.accumulate(counts)
        counts[:1] = False  # nothing comes before the first token
        if not counts.any():
            raise DataError(
                f"{examples.task}/{examples.split}: row {row} (from 0) has no token of "
                f"'{texts[row][len(prompt) :][:20]}' within "
                f"{options['max_length']} tokens; set the maximal length higher, or drop the row"
            )
        targets.append(np.where(counts, ids, IGNORED))
    return encoding, tuple(targets)


def tokenizer_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the SHA-256, in hexadecimal, of all that decides which ids a tokenizer gives."""
    if tokenizer.is_fast:
        core = json.loads(tokenizer.backend_tokenizer.to_str())
        # Left over from the latest call, not part of the tokenizer.
        core["truncation"] = core["padding"] = None
    else:
        core = [type(tokenizer).__name__, tokenizer.get_vocab(), str(tokenizer.special_tokens_map)]
    sides = [
        tokenizer.padding_side,
        tokenizer.truncation_side,
        tokenizer.pad_token_id,
        tokenizer.model_input_names,
    ]
    return hashlib.sha256(json.dumps([core, sides], sort_keys=True).encode()).hexdigest()


class EncodedCache:
    """Encoded splits in memory: models that share a tokenizer share one pass of tokenization."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Encoded] = {}

    def get(
        self,
        tokenizer: PreTrainedTokenizerBase,
        source: DataSource,
        task: Task,
        split: str,
        *,
        max_length: int,
        limit: int | None = None,
        seed: int | None = None,
        decoder: bool = False,
        replacement: bool = False,
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
            decoder: See `encode`.
            replacement: See `sample`; without a limit it has no effect.

        Raises:
            DataError: See `load_split`, `sample` and `encode`.
        """
        key = (
            tokenizer_digest(tokenizer),
            source,
            task,
            split,
            limit,
            seed,
            replacement,
            max_length,
            decoder,
        )
        if key not in self._kept:
            examples = load_split(source, task, split)
            if limit is not None:
                examples = sample(examples, limit, seed, replacement=replacement)
            self._kept[key] = encode(tokenizer, examples, max_length, decoder=decoder)
        return self._kept[key]


def _arrays(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray[Any, Any], ...]:
    return tuple(np.array(row, dtype=np.int64) for row in rows)
