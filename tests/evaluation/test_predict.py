"""Predictions do not depend on how they are batched, and leave the model as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2ForSequenceClassification

from fmn.errors import CheckpointError, DataError
from fmn.evaluation import Encoded, predict

from .conftest import make_bert, make_encoded

LENGTHS = [5, 12, 3, 9, 1, 12, 7, 4, 6, 20]
MODEL = make_bert()


def one_by_one(model: torch.nn.Module, encoded: Encoded) -> np.ndarray:
    """The oracle: each example alone, without any padding."""
    model.eval()
    rows = []
    for row, ids in enumerate(encoded.input_ids):
        inputs = {"input_ids": torch.tensor(ids)[None]}
        if encoded.token_type_ids is not None:
            inputs["token_type_ids"] = torch.tensor(encoded.token_type_ids[row])[None]
        with torch.no_grad():
            rows.append(model(**inputs).logits[0].numpy())
    return np.stack(rows)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 24), min_size=1, max_size=12),
    batch_size=st.integers(1, 14),
)
def test_batching_does_not_show(lengths: list[int], batch_size: int) -> None:
    encoded = make_encoded(lengths, [0] * len(lengths))
    logits = predict(MODEL, encoded, batch_size=batch_size)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, one_by_one(MODEL, encoded), atol=1e-5)


def test_the_order_of_examples_is_kept() -> None:
    encoded = make_encoded(LENGTHS, [0] * 10)
    reverse = make_encoded(
        LENGTHS[::-1],
        [0] * 10,
        input_ids=encoded.input_ids[::-1],
        token_type_ids=encoded.token_type_ids and encoded.token_type_ids[::-1],
    )
    np.testing.assert_allclose(
        predict(MODEL, encoded, batch_size=3), predict(MODEL, reverse)[::-1], atol=1e-5
    )


def test_a_decoder_without_a_padding_token() -> None:
    torch.manual_seed(0)
    shape = {
        "vocab_size": 32,
        "n_positions": 32,
        "n_embd": 16,
        "n_layer": 1,
        "n_head": 2,
        "num_labels": 2,
    }
    model = GPT2ForSequenceClassification(
        GPT2Config(**shape, initializer_range=0.5, bos_token_id=0, eos_token_id=0)
    )
    encoded = make_encoded(LENGTHS, [0] * 10, token_type_ids=None)
    np.testing.assert_allclose(
        predict(model, encoded, batch_size=4), one_by_one(model, encoded), atol=1e-5
    )
    assert model.config.pad_token_id is None


@pytest.mark.parametrize("fails", [False, True])
def test_the_mode_of_every_module_is_restored(fails: bool) -> None:
    model = make_bert()
    model.train()
    model.bert.embeddings.eval()
    before = {name: module.training for name, module in model.named_modules()}
    encoded = make_encoded(
        [3], [0], input_ids=(np.array([99 if fails else 9]),), token_type_ids=None
    )
    if fails:
        with pytest.raises(CheckpointError, match=r"cannot be run .*index out of range"):
            predict(model, encoded)
    else:
        np.testing.assert_array_equal(predict(model, encoded), predict(model, encoded))
    assert {name: module.training for name, module in model.named_modules()} == before


def test_half_precision_models_give_float32() -> None:
    logits = predict(make_bert().to(torch.bfloat16), make_encoded([3, 4], [0, 0]))
    assert logits.dtype == np.float32


def test_progress_counts_examples() -> None:
    steps: list[int] = []
    predict(
        MODEL, make_encoded(LENGTHS, [0] * 10), batch_size=4, device="cpu", progress=steps.append
    )
    assert steps == [4, 4, 2]


def test_nothing_to_predict() -> None:
    with pytest.raises(DataError, match="toy/validation has no examples to predict"):
        predict(MODEL, make_encoded([], []))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_agrees_with_the_processor() -> None:
    model, encoded = make_bert(), make_encoded(LENGTHS, [0] * 10)
    expected = predict(model, encoded)
    np.testing.assert_allclose(
        predict(model, encoded, device="cuda"), expected, atol=0.05, rtol=0.05
    )
    assert next(model.parameters()).is_cuda
