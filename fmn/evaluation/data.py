"""Examples from a source: a dataset on the hub, or a directory of ``<task>/<split>.parquet``."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fmn.errors import DataError, nearest
from fmn.visible import visible

if TYPE_CHECKING:
    import pyarrow as pa

    from fmn.evaluation.tasks import Task

GLUE = "nyu-mll/glue"
"""The source that is meant where none is named."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Rows of one split.

    Attributes:
        task: The task's name.
        split: The split's name.
        texts: One list of N texts for each text column.
        labels: [N], int64 label numbers of the data, or float32 targets of a regression; zeros for
            a language task.
        completions: N texts to be written, of a language task.
    """

    task: str
    split: str
    texts: tuple[list[str], ...]
    labels: np.ndarray[Any, Any]
    completions: list[str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal, of the texts and labels, in their order."""
        digest = hashlib.sha256(f"{self.labels.dtype.name} {len(self)} {len(self.texts)}".encode())
        digest.update(
            np.ascontiguousarray(self.labels, dtype=self.labels.dtype.newbyteorder("<")).tobytes()
        )
        for column in (*self.texts, *([self.completions] if self.completions is not None else [])):
            encoded = [text.encode("utf-8", "surrogatepass") for text in column]
            digest.update(np.array([len(text) for text in encoded], dtype="<i8").tobytes())
            digest.update(b"".join(encoded))
        return digest.hexdigest()

    def take(self, indices: Sequence[int] | np.ndarray[Any, Any]) -> Examples:
        """Return these rows, in this order."""
        texts = tuple([column[index] for index in indices] for column in self.texts)
        completions = (
            None if self.completions is None else [self.completions[index] for index in indices]
        )
        labels = self.labels[np.asarray(indices, dtype=np.int64)]
        return Examples(self.task, self.split, texts, labels, completions)


class Sentences(Protocol):
    """Text that serves in place of a task's own; see :class:`fmn.evaluation.Text`."""

    def examples(self, task: Task, split: str) -> Examples:
        """Return it as the task would have it."""


DataSource = str | Sentences
"""A directory with ``<task>/<split>.parquet``, a hub dataset id whose configurations are tasks, or
sentences.
"""


def load_split(source: DataSource, task: Task, split: str) -> Examples:
    """Load the text and label columns of one split.

    Args:
        source: Where the data are.
        task: The task.
        split: The split's name.

    Raises:
        DataError: The source, split or a column is missing or unreadable; a text is missing, a
            label out of range; or there are no rows.
    """
    if not isinstance(source, str):
        return source.examples(task, split)
    directory = _directory(source)
    if directory is None:
        table, where = _from_hub(source, task, split), f"{source} ({task.name}, {split})"
    else:
        table = _from_directory(directory, task, split)
        where = f"{directory / task.name / split}.parquet"
    if not len(table):
        raise DataError(f"{where} has no rows")
    texts = tuple(_texts(table[column], column, where) for column in task.columns)
    if task.is_language:
        return Examples(
            task.name,
            split,
            texts,
            np.zeros(len(table), np.int64),
            _texts(table[task.completion], task.completion, where),
        )
    labels = (
        _targets(table[task.label], where)
        if task.is_regression
        else _label_numbers(table[task.label], task, where)
    )
    return Examples(task.name, split, texts, labels)


def split_file(source: DataSource, task: Task, split: str) -> Path | None:
    """Return the file of a split; None if the source is a dataset of the hub, or sentences.

    Raises:
        DataError: The source is neither.
    """
    directory = _directory(source) if isinstance(source, str) else None
    return None if directory is None else directory / task.name / f"{split}.parquet"


def validation_splits(source: str, task: Task) -> dict[str, str]:
    """Return the source's validation splits, by the suffix that their metrics' names get.

    The first split has the empty suffix; a directory may call it plain ``validation``, and may lack
    the others.

    Raises:
        DataError: The directory has no such task, or no validation split.
    """
    directory = _directory(source)
    first, *others = task.validation
    if directory is not None:
        splits = _splits(directory, task.name)
        first = first if first in splits or "validation" not in splits else "validation"
        if first not in splits:
            raise DataError(_no_split(directory / task.name, first, splits))
        others = [split for split in others if split in splits]
    return {"": first} | {split.removeprefix("validation_"): split for split in others}


def sample(
    examples: Examples, n: int, seed: int | None = None, *, replacement: bool = False
) -> Examples:
    """Return n examples: the first n, or with a seed n drawn without replacement (numpy's PCG64).

    With replacement they are the draws of the published code
    (https://github.com/thennal10/fisher-nodes-merging): ``np.random.choice(rows, n)`` after
    ``np.random.seed(seed)``. Where there are fewer than n rows, as many as there are rows are taken
    or drawn, with a warning.

    Raises:
        DataError: n < 1, or a draw with replacement without a seed.
    """
    if n < 1:
        raise DataError(f"cannot sample {n} examples of {examples.task}; ask for 1 or more")
    total = len(examples)
    if n > total:
        where = f"{examples.task}/{examples.split}"
        taken = f"{where} has only {total} examples; took all of them, not {n}"
        drawn = f"{where} has only {total} examples; drew as many, not {n}"
        warnings.warn(visible(drawn if replacement else taken), stacklevel=2)
    if replacement:
        if seed is None:
            raise DataError(f"a draw of {examples.task} examples with replacement needs a seed")
        return examples.take(np.random.RandomState(seed).choice(total, min(n, total)))
    order = (
        np.arange(total)
        if seed is None
        else np.random.Generator(np.random.PCG64(seed)).permutation(total)
    )
    return examples.take(order[:n])


def _directory(source: str) -> Path | None:
    """Return the directory that the source names, or None if it names a dataset on the hub."""
    path = Path(source).expanduser()
    if source and path.is_dir():
        return path
    if source and path.exists():
        raise DataError(
            f"data source {source} is a file; name the directory that holds <task>/<split>.parquet"
        )
    if not source or source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise DataError(
            f"data source '{source}' is not a directory; name one that holds "
            f"<task>/<split>.parquet, or a hub dataset such as {GLUE}"
        )
    return None


def _splits(directory: Path, task: str) -> list[str]:
    folder = directory / task
    if not folder.is_dir():
        tasks = sorted(entry.name for entry in directory.iterdir() if entry.is_dir())
        raise DataError(
            f"no directory {folder}{nearest(task, tasks)} (there: "
            f"{', '.join(tasks) or 'no directory'})"
        )
    return sorted(file.stem for file in folder.glob("*.parquet"))


def _no_split(folder: Path, split: str, splits: Sequence[str]) -> str:
    return (
        f"no file {folder}/{split}.parquet{nearest(split, splits)} (splits there: "
        f"{', '.join(splits) or 'none'})"
    )


def _from_directory(directory: Path, task: Task, split: str) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = directory / task.name
    if split not in (splits := _splits(directory, task.name)):
        raise DataError(_no_split(folder, split, splits))
    path = folder / f"{split}.parquet"
    try:
        with pq.ParquetFile(path) as file:
            columns = _needed(task, file.schema_arrow.names, str(path))
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a readable Parquet file: {_one_line(error)}; fetch it again"
        ) from error


def _from_hub(source: str, task: Task, split: str) -> pa.Table:
    import datasets

    try:
        dataset = datasets.load_dataset(source, task.name, split=split)
    # the hub's clients raise errors of many families, without a common base
    except Exception as error:
        raise DataError(
            f"cannot load {source} ({task.name}, {split}) from the hub, and there is no "
            f"directory '{source}' either: {_one_line(error)}; check the name, the network and "
            f"HF_HUB_OFFLINE, or name a directory that holds {task.name}/{split}.parquet"
        ) from error
    columns = _needed(task, dataset.column_names, f"{source} ({task.name}, {split})")
    return dataset.select_columns(columns).with_format("arrow")[:]


def _needed(task: Task, present: Sequence[str], where: str) -> list[str]:
    needed = list(task.reads)
    if absent := [column for column in needed if column not in present]:
        raise DataError(
            f"{where} has no column '{absent[0]}'{nearest(absent[0], present)} (there: "
            f"{', '.join(present)})"
        )
    return needed


def _texts(column: pa.ChunkedArray, name: str, where: str) -> list[str]:
    import pyarrow.types as kinds

    kind = column.type.value_type if kinds.is_dictionary(column.type) else column.type
    if not (kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)):
        raise DataError(f"{where}: column '{name}' holds {column.type}, expected text")
    texts: list[str] = column.to_pylist()
    if (row := next((row for row, text in enumerate(texts) if text is None), None)) is not None:
        raise DataError(f"{where}: row {row} (from 0) has no text in column '{name}'")
    return texts


def _label_numbers(column: pa.ChunkedArray, task: Task, where: str) -> np.ndarray[Any, Any]:
    import pyarrow.types as kinds

    if not (kinds.is_integer(column.type) or kinds.is_boolean(column.type)):
        raise DataError(
            f"{where}: column '{task.label}' holds {column.type}, expected label numbers"
        )
    labels = np.array(
        [-1 if label is None else label for label in column.to_pylist()], dtype=np.int64
    )
    offending = np.flatnonzero((labels < 0) | (labels >= len(task.labels)))
    if not offending.size:
        return labels
    row = int(offending[0])
    if labels[row] == -1:
        raise DataError(
            f"{where}: row {row} (from 0) has no label (-1 or empty), as in GLUE's test splits; "
            "use a labelled split"
        )
    numbered = ", ".join(f"{number} {label}" for number, label in enumerate(task.labels))
    raise DataError(
        f"{where}: row {row} (from 0) has label {labels[row]}, outside task {task.name}'s "
        f"{numbered}"
    )


def _targets(column: pa.ChunkedArray, where: str) -> np.ndarray[Any, Any]:
    import pyarrow.types as kinds

    if not (kinds.is_integer(column.type) or kinds.is_floating(column.type)):
        raise DataError(f"{where}: the labels are {column.type}, expected real numbers")
    targets = np.array(
        [np.nan if target is None else target for target in column.to_pylist()], dtype=np.float32
    )
    if (targets == -1).all():
        raise DataError(
            f"{where}: every label is -1, as in GLUE's test splits: it has no labels; use a "
            "labelled split"
        )
    if (offending := np.flatnonzero(~np.isfinite(targets))).size:
        raise DataError(f"{where}: row {int(offending[0])} (from 0) has no finite label")
    return targets


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
