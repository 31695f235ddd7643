"""How long predicting takes, beside ``transformers.Trainer.predict``.

Both get the same model, in memory, and the same encoded examples, without labels: tokenising is in
neither. Batches of 32; fmn.evaluation.predict puts examples of like length together, Trainer takes
them in file order and pads with DataCollatorWithPadding; making the Trainer is not timed. On a GPU
both compute in bfloat16. The logits are compared once.

Ratios are medians over rounds of the ratio within a round, with their range. Random tokens and
weights of the zoo's shape, unless --zoo and --data give the real zoo's RTE model and validation
data.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import (
    device_name,
    interleaved,
    median,
    random_examples,
    random_model,
    ratio,
    table,
    timed,
    zoo_examples,
    zoo_model,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    DataCollatorWithPadding,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from fmn.evaluation import Encoded, predict
from fmn.models import load_tokenizer

BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=400, help="of random ones")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--zoo", type=Path, help="directory with the real zoo's rte")
    parser.add_argument("--data", type=Path, help="directory with rte/validation.parquet")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a tiny shape, a few examples, one round: does it run at all?",
    )
    args = parser.parse_args()
    if (args.zoo is None) != (args.data is None):
        parser.error("--zoo and --data go together")
    if args.quick:
        args.examples, args.repeats = 40, 1
    if args.zoo:
        model, examples = zoo_model(args.zoo), zoo_examples(args.zoo, args.data, "validation")
        tokenizer = load_tokenizer(args.zoo / "rte")
    else:
        model = random_model("tiny" if args.quick else "zoo")
        examples, tokenizer = (
            random_examples(args.examples, model.config.vocab_size),
            padding_tokenizer(),
        )
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(model, tokenizer, folder)
        print(measure(trainer, model, examples, args.repeats))


def measure(trainer: Trainer, model: Any, examples: Encoded, repeats: int) -> str:
    """Compare the logits, time both and return the table."""
    dataset = rows(examples)
    ours, theirs = predict(model, examples, batch_size=BATCH), trainer.predict(dataset).predictions
    difference = float(np.abs(ours - theirs).max())
    if difference > (0.1 if torch.cuda.is_available() else 1e-4):
        raise SystemExit(f"the logits differ by up to {difference:.1e}")
    cases = {
        "Trainer": lambda: trainer.predict(dataset),
        "fmn": lambda: predict(model, examples, batch_size=BATCH),
    }
    seconds = interleaved({name: timed(case) for name, case in cases.items()}, repeats)
    title = (
        f"{len(examples)} examples, {device_name()}; medians of {repeats}, ratios within a "
        "round (range)"
    )
    lines = [
        (f"{name}.predict", median(took), ratio(took, seconds["Trainer"]))
        for name, took in seconds.items()
    ]
    return (
        table(title, ("", "seconds", "/ Trainer"), lines)
        + f"\nlargest difference of the logits: {difference:.1e}\n"
    )


def make_trainer(model: Any, tokenizer: Any, folder: str) -> Trainer:
    arguments = TrainingArguments(
        output_dir=folder,
        per_device_eval_batch_size=BATCH,
        report_to=[],
        disable_tqdm=True,
        bf16=torch.cuda.is_available(),  # as fmn does there
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    return Trainer(model=model, args=arguments, data_collator=DataCollatorWithPadding(tokenizer))


def rows(examples: Encoded) -> list[dict[str, Any]]:
    """Return the examples as Trainer takes them: a list is a dataset."""
    types = examples.token_type_ids or [np.zeros_like(ids) for ids in examples.input_ids]
    return [
        {
            "input_ids": ids.tolist(),
            "token_type_ids": kinds.tolist(),
            "attention_mask": [1] * len(ids),
        }
        for ids, kinds in zip(examples.input_ids, types, strict=True)
    ]


def padding_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer that can do no more than pad with 0."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({"[PAD]": 0}, "[PAD]")), pad_token="[PAD]"
    )


if __name__ == "__main__":
    main()
