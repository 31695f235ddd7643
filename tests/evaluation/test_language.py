"""Tasks whose target is text: what counts as a target, and how it is predicted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertLMHeadModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from fmn.errors import DataError, ParamsError
from fmn.evaluation import Encoded, Task, encode, evaluate, label_order, load_split, predict_tokens
from fmn.schema import parse

from .conftest import make_tokenizer

WriteSplit = Callable[..., str]

TASK = Task(
    name="answers", columns=("question",), labels=(), completion="answer", metrics=("accuracy",)
)
QUESTIONS = ["the cat sat ", "it was ", "the dog ran on the "]
ANSWERS = ["on the mat", "good", "mat no yes"]
UNPROMPTED = parse(Task, {"name": "films", "completion": "text", "metrics": ["accuracy"]}, "films")


@pytest.fixture
def source(write_split: WriteSplit) -> str:
    write_split("films", "train", {"text": ANSWERS})
    return write_split("answers", "train", {"question": QUESTIONS, "answer": ANSWERS})


def words(tokenizer: PreTrainedTokenizerFast, ids: np.ndarray) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(ids[ids >= 0].tolist()))


def test_the_tokens_of_the_completion_are_the_targets(
    source: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    encoded = encode(tokenizer, load_split(source, TASK, "train"), 32)
    assert encoded.targets is not None and encoded.token_type_ids is None
    assert [words(tokenizer, targets) for targets in encoded.targets] == [
        "on the mat [SEP]",
        "good [SEP]",
        "mat no yes [SEP]",
    ]
    for ids, targets, question, answer in zip(
        encoded.input_ids, encoded.targets, QUESTIONS, ANSWERS, strict=True
    ):
        assert ids.tolist() == tokenizer(question + answer)["input_ids"]
        assert (targets == np.where(targets == -100, -100, ids)).all()


def test_without_a_prompt_every_token_but_the_first_is_a_target(
    source: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    encoded = encode(tokenizer, load_split(source, UNPROMPTED, "train"), 32)
    assert encoded.targets is not None
    assert words(tokenizer, encoded.targets[2]) == "mat no yes [SEP]"
    assert encoded.targets[2][0] == -100


def test_a_token_that_reaches_over_from_the_prompt_counts(
    write_split: WriteSplit, tokenizer: PreTrainedTokenizerFast
) -> None:
    source = write_split("answers", "train", {"question": ["the c"], "answer": ["at sat"]})
    encoded = encode(tokenizer, load_split(source, TASK, "train"), 32)
    assert encoded.targets is not None and words(tokenizer, encoded.targets[0]) == "cat sat [SEP]"


def test_an_encoder_reads_the_prompt_and_the_decoder_writes(
    source: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    encoded = encode(tokenizer, load_split(source, TASK, "train"), 32, decoder=True)
    assert encoded.targets is not None
    assert [ids.tolist() for ids in encoded.input_ids] == tokenizer(QUESTIONS)["input_ids"]
    assert [ids.tolist() for ids in encoded.targets] == tokenizer(ANSWERS)["input_ids"]
    ((rows, batch),) = encoded.batches(3)
    assert rows.tolist() == [2, 0, 1]
    assert batch["input_ids"].shape == (3, 7) and batch["labels"].shape == (3, 5)
    assert (batch["labels"] == -100).sum(1).tolist() == [0, 0, 2]


def test_prompt_and_completion_are_what_the_digests_are_of(
    source: str, write_split: WriteSplit
) -> None:
    examples = load_split(source, TASK, "train")
    other = load_split(
        write_split("answers", "train", {"question": QUESTIONS, "answer": ["no", *ANSWERS[1:]]}),
        TASK,
        "train",
    )
    assert examples.digest() != other.digest()
    tokenizer = make_tokenizer()
    assert (
        encode(tokenizer, examples, 32).digest()
        != encode(tokenizer, examples, 32, decoder=True).digest()
    )
    assert examples.take([2, 0]).completions == [ANSWERS[2], ANSWERS[0]]


@pytest.mark.parametrize("side", ["right", "left"])
def test_learned_positions_count_from_the_first_token(source: str, side: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.padding_side = side
    assert encode(tokenizer, load_split(source, TASK, "train"), 32).padding_side == "right"


def test_a_completion_of_which_nothing_is_left_is_named(
    source: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(
        DataError,
        match=(
            r"answers/train: row 0 .* no token of 'on the mat' within 4 tokens; set the maximal "
            r"length"
        ),
    ):
        encode(tokenizer, load_split(source, TASK, "train"), 4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"labels": ["no", "yes"]}, "a task with a completion has no labels"),
        ({"columns": ["a", "b"]}, "at most one column, the prompt's"),
        ({"columns": ["answer"]}, "at most one column, the prompt's"),
    ],
)
def test_language_tasks_that_contradict_themselves(fields: dict, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        parse(
            Task,
            {"name": "answers", "completion": "answer", "metrics": ["accuracy"], **fields},
            "answers.yaml",
        )


def test_there_are_no_labels_to_map() -> None:
    assert label_order(TASK, {0: "LABEL_0", 1: "LABEL_1"}) == ()
    with pytest.raises(
        DataError, match="answers is a language task and has no labels; remove `labels:`"
    ):
        label_order(TASK, {}, {"LABEL_0": "no"})


def language_models() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    sizes = {
        "vocab_size": 32,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    causal = BertLMHeadModel(
        BertConfig(**sizes, is_decoder=True, initializer_range=0.5, max_position_embeddings=40)
    )
    t5 = T5Config(
        vocab_size=32,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        initializer_factor=5.0,
    )
    return {"causal": causal.eval(), "encoder-decoder": T5ForConditionalGeneration(t5).eval()}


def alone(model: torch.nn.Module, encoded: Encoded) -> list[tuple[int, int]]:
    """The oracle: each example by itself, each position's likeliest token by the model's own shift
    of its labels."""
    pairs: list[tuple[int, int]] = []
    assert encoded.targets is not None
    for ids, targets in zip(encoded.input_ids, encoded.targets, strict=True):
        labels = torch.tensor(targets)[None]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(ids)[None], labels=labels).logits[0]
        shift = 0 if model.config.is_encoder_decoder else 1
        for position in range(shift, len(targets)):
            if targets[position] >= 0:
                pairs.append((int(logits[position - shift].argmax()), int(targets[position])))
    return pairs


@pytest.mark.parametrize("kind", ["causal", "encoder-decoder"])
def test_predicted_tokens_are_those_of_each_example_alone(
    kind: str, source: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = language_models()[kind]
    encoded = encode(tokenizer, load_split(source, TASK, "train"), 32, decoder=kind != "causal")
    expected = alone(model, encoded)
    assert len({predicted for predicted, _ in expected}) > 2
    for batch_size in (1, 2, 3):
        predictions, references = predict_tokens(model, encoded, batch_size=batch_size)
        assert list(zip(predictions.tolist(), references.tolist(), strict=True)) == expected
    scores = evaluate(model, encoded, TASK, label_order=())
    assert scores.headline == pytest.approx(
        np.mean([predicted == true for predicted, true in expected])
    )
    assert (scores.examples, scores.accuracy) == (3, None)


def test_logits_that_are_not_finite_are_an_error(
    source: str, tokenizer: PreTrainedTokenizerFast
) -> None:
    model = language_models()["causal"]
    model.cls.predictions.bias.data[3] = float("nan")
    with pytest.raises(DataError, match="NaN or infinite logits for 10 tokens of task answers"):
        predict_tokens(model, encode(tokenizer, load_split(source, TASK, "train"), 32))
