"""What the tests of evaluation share: a tiny tokenizer, tiny models, parquet sources, and the real
zoo where it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from fmn.evaluation import Encoded

WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "mat",
    "no",
    "yes",
    "it",
    "was",
    "good",
    "bad",
    "film",
)

WriteSplit = Callable[..., str]


@pytest.fixture
def write_split(tmp_path: Path) -> WriteSplit:
    """Write one split of a task; returns the source directory."""

    def write(task: str, split: str, columns: Mapping[str, Sequence[Any] | pa.Array]) -> str:
        path = tmp_path / "source" / task / f"{split}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(dict(columns)), path)
        return str(tmp_path / "source")

    return write


def make_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "##s", "##ly"]
    core = Tokenizer(
        models.WordPiece(
            {word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"
        )
    )
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def make_bert(labels: int = 3, seed: int = 0) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
        initializer_range=0.5,
        num_labels=labels,
    )
    return BertForSequenceClassification(config)


def make_encoded(
    lengths: Sequence[int], labels: Sequence[float], *, seed: int = 0, **fields: Any
) -> Encoded:
    """Random ids (never padding) of these lengths; regression where a label is a float."""
    random = np.random.default_rng(seed)
    kind = np.float32 if any(isinstance(label, float) for label in labels) else np.int64
    settings: dict[str, Any] = {
        "task": "toy",
        "split": "validation",
        "input_ids": tuple(random.integers(5, 30, size=length) for length in lengths),
        "token_type_ids": tuple(random.integers(0, 2, size=length) for length in lengths),
        "labels": np.array(labels, dtype=kind),
        "pad_token_id": 0,
    }
    return Encoded(**settings | fields)
