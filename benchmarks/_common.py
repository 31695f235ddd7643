"""What the benchmarks share: models, examples, and timing that the machine's drift spares.

The models have known shapes and the examples known lengths.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification

from fmn import evaluation
from fmn.evaluation import Encoded
from fmn.models import load_model, load_tokenizer

SHAPES: dict[str, dict[str, int]] = {
    "bert-base": {},  # BertConfig's defaults
    "bert-large": {
        "num_hidden_layers": 24,
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "zoo": {
        "num_hidden_layers": 6,
        "hidden_size": 384,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "tiny": {
        "num_hidden_layers": 2,
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "vocab_size": 1000,
    },
}


def interleaved(
    cases: Mapping[str, Callable[[], float]], repeats: int, warm_up: int = 1
) -> dict[str, list[float]]:
    """Call every case in turn, A B C A B C ….

    Return the seconds that each call gave back, without the first ``warm_up`` rounds.

    A machine that slows down for a while slows all cases of a round, so ratios within a round hold.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(warm_up + repeats):
        for name, case in cases.items():
            took = case()
            if round_ >= warm_up:
                seconds[name].append(took)
    return seconds


def timed(work: Callable[[], object]) -> Callable[[], float]:
    """Return the work as a case that gives back its seconds, the device's own work included."""

    def wait() -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    def case() -> float:
        wait()
        start = time.perf_counter()
        work()
        wait()
        return time.perf_counter() - start

    return case


def device_name() -> str:
    return (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"CPU, {torch.get_num_threads()} threads"
    )


def median(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds):.3g}"


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> str:
    """Return the median over rounds of the ratio within a round, with its range."""
    ratios = [a / b for a, b in zip(numerator, denominator, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [" | ".join(map(str, row)) for row in (header, ["---"] * len(header), *rows)]
    return "\n".join([f"### {title}", "", *(f"| {line} |" for line in lines), ""])


def random_model(shape: str) -> Any:
    """Return a BERT of that shape with two labels and random weights, in evaluation mode."""
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**SHAPES[shape])).eval()


def random_examples(count: int, vocabulary: int, seed: int = 0) -> Encoded:
    """Return examples of random tokens whose lengths spread as sentence pairs' do.

    The lengths are lognormal around 40, clipped to 8 to 128.
    """
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(np.log(40), 0.5, count).clip(8, 128).astype(int)
    ids = tuple(rng.integers(1, vocabulary, length) for length in lengths)
    types = tuple(np.zeros_like(row) for row in ids)
    return Encoded("random", "random", ids, types, rng.integers(0, 2, count), pad_token_id=0)


def zoo_model(zoo: Path) -> Any:
    """Return the real zoo's model of RTE."""
    return load_model(zoo / "rte")


def zoo_examples(zoo: Path, data: Path, split: str, count: int | None = None) -> Encoded:
    """Return a split of RTE, or ``count`` examples of it, encoded by the zoo's tokenizer."""
    task = evaluation.get_task("rte")
    seed = None if count is None else 0
    return evaluation.EncodedCache().get(
        load_tokenizer(zoo / "rte"), str(data), task, split, max_length=128, limit=count, seed=seed
    )
