"""A small real world on disk: three fine-tunes of one tiny BERT that know their tasks, their
tokenizer and their data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from transformers import BertConfig, BertForSequenceClassification

from fmn.evaluation import Encoded, encode, get_task, load_split
from tests.evaluation.conftest import make_tokenizer

LABELS = {
    "sst2": ("negative", "positive"),
    "rte": ("entailment", "not_entailment"),
    "mnli": ("entailment", "neutral", "contradiction"),
}
TRAIN, VALIDATION = 48, 40
SIZES = {
    "vocab_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
    "initializer_range": 0.1,
}


@dataclass(frozen=True)
class World:
    """Where things are.

    Attributes:
        root: of everything.
        data: ``<task>/<split>.parquet``.
    """

    root: Path

    @property
    def data(self) -> str:
        return str(self.root / "data")

    def model(self, task: str) -> Path:
        return self.root / task

    def load(self, task: str) -> BertForSequenceClassification:
        return BertForSequenceClassification.from_pretrained(self.model(task)).eval()

    def recipe(self, path: Path, tasks: Sequence[str] = ("sst2", "rte"), **settings: Any) -> Path:
        """Write a recipe of these models; ``models`` adds keys to an entry by its task."""
        more: Mapping[str, Mapping[str, Any]] = settings.pop("models", {})
        entries = [
            {"model": str(self.model(task)), "task": task, **more.get(task, {})} for task in tasks
        ]
        content = {
            "method": "mask-fisher",
            "data": self.data,
            "fisher": {"samples": 16},
            "models": entries,
            "heads": "merged",
            **settings,
        }
        return write_yaml(path, content)

    def params(self, path: Path, **settings: Any) -> Path:
        """Write the description of the zoo."""
        entries = settings.pop(
            "models", [{"model": str(self.model(task)), "task": task} for task in LABELS]
        )
        content = {
            "store": str(path.parent / "store"),
            "data": self.data,
            "models": entries,
            "fisher": {"samples": 16},
            "evaluate": {"limit": 30},
            **settings,
            "merge": {"heads": "merged", **settings.get("merge", {})},
        }
        return write_yaml(path, content)


def write_yaml(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def build_world(root: Path) -> World:
    """Build it."""
    world = World(root)
    for task in LABELS:
        _write_data(world, task)
        _write_model(world, task)
    return world


def write_split(
    data: str | Path, task: str, split: str, columns: Mapping[str, Sequence[Any]]
) -> None:
    path = Path(data) / task / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(columns)), path)


def columns_of(task: str, rows: int, seed: int) -> dict[str, list[Any]]:
    """Texts whose label can be read off one word."""
    random = np.random.default_rng(seed)
    fillers, telling = (
        ("the", "a", "cat", "dog", "sat", "ran", "on", "mat"),
        ("good", "bad", "film"),
    )
    labels = random.integers(len(LABELS[task]), size=rows).tolist()

    def text(last: str) -> str:
        return " ".join([*random.choice(fillers, size=random.integers(1, 6)), last])

    shift = list(LABELS).index(
        task
    )  # the tasks disagree on what the words mean, so that merges are not perfect
    texts = [text(telling[(label + shift) % len(telling)]) for label in labels]
    first, *second = get_task(task).columns
    return (
        {first: texts}
        | {column: [text("it") for _ in labels] for column in second}
        | {"label": labels}
    )


def encoded(world: World, task: str, split: str) -> Encoded:
    return encode(make_tokenizer(), load_split(world.data, get_task(task), split), 32)


def teach(model: BertForSequenceClassification, examples: Encoded, steps: int = 60) -> None:
    """Fine-tune."""
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    ((_, batch),) = examples.batches(len(examples))
    for _ in range(steps):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()


def permute(model: BertForSequenceClassification, order: Sequence[int]) -> None:
    """Let output k give what output ``order[k]`` gave."""
    model.classifier.weight.data = model.classifier.weight.data[list(order)]
    model.classifier.bias.data = model.classifier.bias.data[list(order)]


def save(
    model: BertForSequenceClassification, folder: Path, names: Sequence[str] | None = None
) -> Path:
    if names is not None:
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: number for number, name in enumerate(names)}
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a directory but its links, by its path."""
    return {
        str(f.relative_to(folder)): f.read_bytes()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and not f.is_symlink()
    }


def _write_data(world: World, task: str) -> None:
    for number, split in enumerate((get_task(task).train, *get_task(task).validation)):
        write_split(
            world.data,
            task,
            split,
            columns_of(task, VALIDATION if number else TRAIN, seed=10 * len(task) + number),
        )


def _write_model(world: World, task: str) -> None:
    torch.manual_seed(0)  # one parent
    model = BertForSequenceClassification(BertConfig(**SIZES, num_labels=len(LABELS[task]))).eval()
    teach(model, encoded(world, task, "train"))
    save(model, world.model(task), LABELS[task])
