"""What the demo's zoo is made of: data of four tasks, a parent, its fine-tunes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from rich.progress import Progress
from transformers import BertConfig, BertForPreTraining
from transformers.utils import logging as transformers_logging

from fmn.demo.settings import Settings
from fmn.demo.tasks import TASKS, Task, passage
from fmn.demo.train import Batch, Bert, OnStep, fine_tune, pretrain
from fmn.demo.vocabulary import MAX_LENGTH, build_tokenizer, save_tokenizer, vocabulary

Rows = list[tuple[tuple[str, ...], int]]


def pieces(dest: Path, settings: Settings, progress: Progress) -> dict[str, Callable[[Path], None]]:
    """Return what fills each directory of a zoo, by its name."""
    datasets = {
        f"data/{name}": lambda to, task=task: _write_data(to, task, settings)
        for name, task in TASKS.items()
    }
    models = {
        name: lambda to, task=task: _write_fine_tune(to, dest / "parent", task, settings, progress)
        for name, task in TASKS.items()
    }
    return {**datasets, "parent": lambda to: _write_parent(to, settings, progress), **models}


def _splits(task: Task, settings: Settings) -> dict[str, Rows]:
    """Draw the rows of both splits, from one stream without repetition, so that they share none."""
    rows = task.rows(Random(f"{settings.seed}/{task.name}"))
    return {
        "validation": list(islice(rows, settings.validation_rows)),
        "train": list(islice(rows, settings.train_rows)),
    }


def _write_data(directory: Path, task: Task, settings: Settings) -> None:
    for split, rows in _splits(task, settings).items():
        texts = {
            column: [texts[number] for texts, _ in rows]
            for number, column in enumerate(task.columns)
        }
        table = pa.table(
            {**texts, "label": [label for _, label in rows], "idx": list(range(len(rows)))}
        )
        pq.write_table(table, directory / f"{split}.parquet")


def _write_parent(directory: Path, settings: Settings, progress: Progress) -> None:
    rng = Random(f"{settings.seed}/passages")
    passages = [passage(rng) for _ in range(settings.passages)]
    data = _encode([((first, second), int(not follows)) for first, second, follows in passages])
    config = BertConfig(
        vocab_size=len(vocabulary()),
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        intermediate_size=settings.intermediate_size,
        max_position_embeddings=MAX_LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    with _bar(progress, "pretraining the parent", settings.pretraining.steps) as on_step:
        model = pretrain(
            config, data, settings.pretraining, settings.seed, settings.threads, on_step
        )
    _save(model, directory)


def _write_fine_tune(
    directory: Path, parent: Path, task: Task, settings: Settings, progress: Progress
) -> None:
    schedule = settings.fine_tuning[task.name]
    data = _encode(_splits(task, settings)["train"])
    with _without_bars():
        backbone = BertForPreTraining.from_pretrained(parent)
    with _bar(progress, f"fine-tuning on {task.name}", schedule.steps) as on_step:
        model = fine_tune(
            backbone, task.labels, data, schedule, settings.seed, settings.threads, on_step
        )
    _save(model, directory)


def _encode(rows: Rows) -> Batch:
    tokenizer = build_tokenizer()
    tokenizer.enable_padding()
    return Batch.encode(tokenizer, [texts for texts, _ in rows], [label for _, label in rows])


def _save(model: Bert, directory: Path) -> None:
    with _without_bars():
        model.save_pretrained(directory)
    save_tokenizer(directory)


@contextmanager
def _bar(progress: Progress, description: str, steps: int) -> Iterator[OnStep]:
    task = progress.add_task(description, total=steps)
    yield lambda: progress.advance(task)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep transformers from drawing bars of its own among ours."""
    enabled = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            transformers_logging.enable_progress_bar()
