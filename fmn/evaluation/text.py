"""Text that serves every task in place of its own examples: sentences, paired where tasks pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fmn.errors import DataError, reason_of
from fmn.evaluation.data import Examples

if TYPE_CHECKING:
    from fmn.evaluation.tasks import Task

MOST = 2**28
"""Bytes of a text file that is read: far more than a refit can use."""


@dataclass(frozen=True)
class Text:
    """Sentences in their order.

    Attributes:
        name: a file, a hub id, or how many there are.
        sentences: without empty ones.
    """

    name: str
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        """Return its name."""
        return self.name

    def examples(self, task: Task, split: str) -> Examples:
        """Return the sentences as a task would have them, with labels that mean nothing.

        A task of two texts gets each sentence with the one after it.

        Raises:
            DataError: too few sentences, or a task whose examples are more than texts.
        """
        width = len(task.columns)
        if task.is_language:
            raise DataError(f"task {task.name} writes text; no sentences serve in its place")
        if len(self.sentences) < width:
            raise DataError(
                f"{self.name} has {len(self.sentences)} sentences; task {task.name} needs {width} "
                "for one example"
            )
        rows = len(self.sentences) - width + 1
        texts = tuple(list(self.sentences[first : first + rows]) for first in range(width))
        labels = np.zeros(rows, np.float32 if task.is_regression else np.int64)
        return Examples(task.name, split, texts, labels)


def read_text(source: str | Sequence[str]) -> Text:
    """Read sentences: of a list, a text file (a sentence a line), a Parquet file or a hub dataset.

    Of a table it is the first column that holds text; of a dataset the split ``train``.

    Raises:
        DataError: nothing there, no text in it, or it cannot be read.
    """
    if not isinstance(source, str):
        return _text(f"{len(source)} sentences", source)
    path = Path(source).expanduser()
    if path.suffix == ".parquet" and path.is_file():
        return _text(source, _of_parquet(path))
    if path.is_file():
        if path.stat().st_size > MOST:
            raise DataError(f"{source} has more than {MOST // 2**20} MiB; give a part of it")
        try:
            return _text(source, path.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(
                f"{source} cannot be read as text ({reason_of(error)}); expected UTF-8, a sentence "
                "a line"
            ) from error
    if path.exists() or source.startswith((".", "/", "~")) or source.count("/") != 1:
        raise DataError(
            f"text '{source}' is not a file; name one with a sentence a line, a .parquet file, a "
            "hub dataset, or list sentences"
        )
    return _text(source, _of_hub(source))


def _text(name: str, lines: Sequence[str]) -> Text:
    sentences = tuple(line.strip() for line in lines if line.strip())
    if not sentences:
        raise DataError(f"{name}: there is no text; expected a sentence a line")
    return Text(name, sentences)


def _of_parquet(path: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            named = [
                field.name
                for field in file.schema_arrow
                if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
            ]
            if not named:
                raise DataError(f"{path} has no column that holds text")
            return [text or "" for text in file.read(named[:1])[named[0]].to_pylist()]
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a readable Parquet file ({reason_of(error)}); fetch it again"
        ) from error


def _of_hub(source: str) -> list[str]:
    import datasets

    try:
        dataset = datasets.load_dataset(source, split="train")
    # the hub's clients raise errors of many families, without a common base
    except Exception as error:
        raise DataError(
            f"text: cannot load {source} from the hub, and there is no file '{source}' either "
            f"({reason_of(error)}); check the name, the network and HF_HUB_OFFLINE"
        ) from error
    for name, feature in dataset.features.items():
        if getattr(feature, "dtype", "") in ("string", "large_string"):
            return [text or "" for text in dataset[name]]
    raise DataError(f"{source} has no column that holds text")
