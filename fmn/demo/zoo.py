"""Build the demo's zoo on disk: four tasks, a parent, and a fine-tune of the parent for each task.

DEST/zoo.json                           which zoo this is
DEST/data/<task>/<split>.parquet        GLUE's columns and label numbers
DEST/parent, DEST/<task>                directories as transformers writes them
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from transformers import BertConfig, BertForPreTraining
from transformers.utils import logging as transformers_logging

from fmn.checkpoint import new_directory
from fmn.demo.settings import Settings
from fmn.demo.tasks import TASKS, Task, passage
from fmn.demo.train import Batch, Bert, OnStep, fine_tune, pretrain
from fmn.demo.vocabulary import MAX_LENGTH, build_tokenizer, save_tokenizer, vocabulary
from fmn.errors import OutputError
from fmn.reading import read_json

STAMP = "zoo.json"
Rows = list[tuple[tuple[str, ...], int]]


def build_zoo(dest: Path, *, seed: int = 0, progress: Progress | None = None) -> None:
    """Build a zoo of four tiny fine-tunes of one tiny parent, in a minute or two on two cores.

    The same seed gives the same bytes on the same machine. Each piece appears whole or not at all,
    so a build that was interrupted goes on where it stopped, and one that was finished returns at
    once.

    Args:
        dest: The directory to fill: new, empty, or the zoo of this seed.
        seed: Decides the text, the tasks and the models.
        progress: Where to show bars and say what was done; nowhere by default.

    Raises:
        OutputError: If ``dest`` holds something else, or cannot be written to.
    """
    build(Path(dest), Settings(seed=seed), progress or Progress(console=Console(quiet=True)))


def build(dest: Path, settings: Settings, progress: Progress) -> None:
    """Build the zoo that these settings describe; see :func:`build_zoo`."""
    pieces = _pieces(dest, settings, progress)
    try:
        _claim(dest, settings)
        missing = [name for name in pieces if not (dest / name).is_dir()]
        if not missing:
            _say(progress, f"{dest} already holds this zoo (seed {settings.seed})")
        for name in missing:
            with new_directory(dest / name) as directory:
                pieces[name](directory)
            _say(progress, f"built {dest / name}")
    except OSError as error:
        raise OutputError(
            f"cannot write the demo's zoo to {dest}: {error}; choose another directory"
        ) from error


def _pieces(
    dest: Path, settings: Settings, progress: Progress
) -> dict[str, Callable[[Path], None]]:
    """What a zoo is made of, in the order of building: each directory's name, and what fills it."""
    datasets = {
        f"data/{name}": lambda to, task=task: _write_data(to, task, settings)
        for name, task in TASKS.items()
    }
    models = {
        name: lambda to, task=task: _write_fine_tune(to, dest / "parent", task, settings, progress)
        for name, task in TASKS.items()
    }
    return {**datasets, "parent": lambda to: _write_parent(to, settings, progress), **models}


def _claim(dest: Path, settings: Settings) -> None:
    """Stamp a new or empty directory with the settings, or check that it bears their stamp."""
    stamp = {"seed": settings.seed, "digest": settings.digest()}
    path = dest / STAMP
    if path.is_file():
        try:
            same = read_json(path.read_bytes(), str(path)) == stamp
        except ValueError:
            same = False
        if not same:
            raise OutputError(
                f"{dest} holds another zoo (see {path}); remove it or choose another directory"
            )
    elif dest.exists() and (not dest.is_dir() or any(dest.iterdir())):
        raise OutputError(
            f"{dest} exists and is not a zoo of the demo; choose a new or empty directory"
        )
    else:
        dest.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


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


def _say(progress: Progress, line: str) -> None:
    progress.console.print(escape(line), soft_wrap=True, highlight=False)


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
