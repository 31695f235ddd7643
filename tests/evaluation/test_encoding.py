"""Encoding, batching and the cache that models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from fmn.errors import DataError, ParamsError
from fmn.evaluation import EncodedCache, Examples, encode, get_task, tokenizer_digest

from .conftest import make_encoded, make_tokenizer

WriteSplit = Callable[..., str]

TEXTS = (["the cat sat on the mat", "it", "the dog"], ["it was good", "no", "yes yes"])
PAIRS = Examples("rte", "train", TEXTS, np.array([1, 0, 1]))


def test_each_row_is_what_the_tokenizer_alone_gives(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode(tokenizer, PAIRS, 8)
    for row, (first, second) in enumerate(zip(*TEXTS, strict=True)):
        alone = tokenizer(first, second, truncation="longest_first", max_length=8)
        assert encoded.input_ids[row].tolist() == alone["input_ids"]
        assert encoded.token_type_ids is not None
        assert encoded.token_type_ids[row].tolist() == alone["token_type_ids"]
    assert encoded.lengths.tolist() == [8, 5, 7]
    assert (encoded.task, encoded.split, encoded.pad_token_id, encoded.padding_side) == (
        "rte",
        "train",
        0,
        "right",
    )


def test_batches_equal_the_tokenizers_own_padding(tokenizer: PreTrainedTokenizerFast) -> None:
    for side in ("right", "left"):
        tokenizer.padding_side = side
        expected = tokenizer(
            *TEXTS, truncation=True, max_length=8, padding=True, return_tensors="pt"
        )
        ((rows, batch),) = encode(tokenizer, PAIRS, 8).batches(3, order="file")
        assert rows.tolist() == [0, 1, 2]
        assert set(batch) == {*expected, "labels"}
        for name, tensor in expected.items():
            torch.testing.assert_close(batch[name], tensor)
        torch.testing.assert_close(batch["labels"], torch.tensor([1, 0, 1]))


def test_a_tokenizer_without_padding_pads_with_the_end_of_text() -> None:
    core = Tokenizer(models.WordLevel({"<end>": 0, "a": 1, "b": 2, "?": 3}, unk_token="?"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    settings: dict[str, Any] = {
        "tokenizer_object": core,
        "model_input_names": ["input_ids", "attention_mask"],
    }
    ended = PreTrainedTokenizerFast(**settings, eos_token="<end>")
    ((_, batch),) = encode(
        ended, Examples("toy", "train", (["a b", "b"],), np.array([0, 1])), 8
    ).batches(2)
    assert batch["input_ids"].tolist() == [[1, 2], [2, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert "token_type_ids" not in batch
    bare = encode(PreTrainedTokenizerFast(**settings), PAIRS, 8)
    assert bare.pad_token_id == 0


@settings(max_examples=50)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20),
    batch_size=st.integers(1, 25),
    order=st.sampled_from(["length", "file"]),
    side=st.sampled_from(["right", "left"]),
)
def test_every_row_comes_out_once_and_whole(
    lengths: list[int], batch_size: int, order: str, side: str
) -> None:
    encoded = make_encoded(lengths, list(range(len(lengths))), padding_side=side)
    seen: list[int] = []
    for rows, batch in encoded.batches(batch_size, order=order):
        assert len(rows) <= batch_size
        assert batch["input_ids"].shape[1] == max(lengths[row] for row in rows)
        assert batch["labels"].tolist() == rows.tolist()
        for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
            np.testing.assert_array_equal(ids[mask.bool()], encoded.input_ids[row])
            assert (ids[~mask.bool()] == 0).all()
        seen += rows.tolist()
    expected = (
        sorted(range(len(lengths)), key=lambda row: -lengths[row])
        if order == "length"
        else range(len(lengths))
    )
    assert seen == list(expected)


@given(st.permutations(range(4)))
def test_labels_become_the_models_outputs(order: list[int]) -> None:
    encoded = make_encoded([3, 3, 3, 3, 3], [0, 1, 2, 3, 1])
    ((_, batch),) = encoded.batches(5, order="file", label_order=order)
    assert [order[output] for output in batch["labels"]] == encoded.labels.tolist()


def test_targets_of_a_regression_stay(tokenizer: PreTrainedTokenizerFast) -> None:
    ((_, batch),) = make_encoded([3, 3], [0.5, 2.0]).batches(2, label_order=(0,))
    torch.testing.assert_close(batch["labels"], torch.tensor([0.5, 2.0], dtype=torch.float32))


def test_bad_batching() -> None:
    encoded = make_encoded([3], [0])
    with pytest.raises(ParamsError, match="batch size 0: expected 1 or more"):
        next(encoded.batches(0))
    with pytest.raises(ParamsError, match=r"unknown order 'lenght'; did you mean 'length'\?"):
        next(encoded.batches(1, order="lenght"))


def test_the_digest_knows_all_that_a_model_sees() -> None:
    same, encoded = make_encoded([3, 4], [0, 1]), make_encoded([3, 4], [0, 1], split="other")
    assert encoded.digest() == same.digest()
    assert len(encoded.digest()) == 64
    others = [
        make_encoded([4, 3], [0, 1]),
        make_encoded([3, 4], [1, 0]),
        make_encoded([3, 4], [0.0, 1.0]),
        make_encoded([3, 4], [0, 1], seed=1),
        make_encoded([3, 4], [0, 1], token_type_ids=None),
        make_encoded([3, 4], [0, 1], input_ids=encoded.input_ids[::-1]),
    ]
    assert len({encoded.digest(), *(other.digest() for other in others)}) == 7


class TestTokenizerDigest:
    def test_use_does_not_change_it(self, tokenizer: PreTrainedTokenizerFast) -> None:
        before = tokenizer_digest(tokenizer)
        tokenizer("the cat", truncation=True, max_length=3, padding="max_length")
        assert tokenizer_digest(tokenizer) == before == tokenizer_digest(make_tokenizer())

    def test_what_changes_ids_changes_it(self, tokenizer: PreTrainedTokenizerFast) -> None:
        before = tokenizer_digest(tokenizer)
        tokenizer.padding_side = "left"
        assert tokenizer_digest(tokenizer) != before
        other = make_tokenizer()
        other.add_tokens(["mouse"])
        assert tokenizer_digest(other) != before

    def test_a_slow_tokenizer(self) -> None:
        class Slow:
            is_fast, padding_side, truncation_side, pad_token_id = False, "right", "right", 0
            special_tokens_map, model_input_names = {"pad_token": "p"}, ["input_ids"]

            def __init__(self, vocabulary: dict[str, int]) -> None:
                self.get_vocab = lambda: vocabulary

        first: Any = Slow({"a": 0, "b": 1})
        reordered: Any = Slow({"b": 1, "a": 0})
        other: Any = Slow({"a": 1, "b": 0})
        assert tokenizer_digest(first) == tokenizer_digest(reordered) != tokenizer_digest(other)


class TestCache:
    @pytest.fixture
    def source(self, write_split: WriteSplit) -> str:
        columns = {"sentence1": TEXTS[0], "sentence2": TEXTS[1], "label": [1, 0, 1]}
        write_split("rte", "validation", columns)
        return write_split("rte", "train", columns)

    def test_models_with_the_same_tokenizer_share_one_pass(self, source: str) -> None:
        cache, rte = EncodedCache(), get_task("rte")
        first = cache.get(make_tokenizer(), source, rte, "train", max_length=8)
        assert cache.get(make_tokenizer(), source, rte, "train", max_length=8) is first

    def test_whatever_changes_the_result_is_in_the_key(
        self, source: str, tokenizer: PreTrainedTokenizerFast
    ) -> None:
        cache, rte = EncodedCache(), get_task("rte")
        first = cache.get(tokenizer, source, rte, "train", max_length=8)
        left = make_tokenizer()
        left.padding_side = "left"
        others = [
            cache.get(left, source, rte, "train", max_length=8),
            cache.get(tokenizer, source, rte, "validation", max_length=8),
            cache.get(tokenizer, source, rte, "train", max_length=7),
            cache.get(tokenizer, source, rte, "train", max_length=8, limit=2),
            cache.get(tokenizer, source, rte, "train", max_length=8, limit=2, seed=0),
        ]
        assert len({id(first), *map(id, others)}) == 6
        assert [len(other) for other in others] == [3, 3, 3, 2, 2]

    def test_failures_are_not_kept(self, source: str, tokenizer: PreTrainedTokenizerFast) -> None:
        with pytest.raises(DataError, match="cannot sample 0"):
            EncodedCache().get(tokenizer, source, get_task("rte"), "train", max_length=8, limit=0)
