"""What a model predicted, as a file: so that others can score it again without the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fmn import checkpoint
from fmn.errors import DataError
from fmn.evaluation.intervals import ALGORITHM

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Predictions:
    """Of one split.

    Attributes:
        predicted: [N], the data's label numbers (int16, of many labels int32), or targets
            (float32).
        references: [N], the same of the data.
    """

    predicted: Array
    references: Array

    @classmethod
    def of(cls, predicted: Array, references: Array) -> Predictions:
        """Return them in the types that files have."""
        if not np.issubdtype(references.dtype, np.integer):
            kind: Any = np.float32
        else:
            largest = max(predicted.max(), references.max())
            kind = np.int16 if largest <= np.iinfo(np.int16).max else np.int32
        return cls(predicted.astype(kind), references.astype(kind))


@dataclass(frozen=True)
class Predicted:
    """Of one task.

    Attributes:
        splits: by the suffix of their metrics.
        resampled: the headline on each resample, [B], see :mod:`fmn.evaluation.intervals`; None
            where it has none.
    """

    splits: Mapping[str, Predictions]
    resampled: Array | None = None


def write_predictions(path: Path, tasks: Mapping[str, Predicted]) -> None:
    """Write the predictions of some models.

    The tensors are ``predictions/NAME`` and ``references/NAME``, for further splits with their
    suffix (``predictions/mnli/mismatched``), and ``resampled/NAME``, float32.

    Args:
        path: of a new file.
        tasks: by name of the model.
    """
    tensors = {
        name: tensor for each, task in tasks.items() for name, tensor in _tensors(each, task)
    }
    checkpoint.write(path, dict(sorted(tensors.items())), {"resamples": str(ALGORITHM)})


def read_predictions(path: Path) -> dict[str, Predicted]:
    """Read the predictions of some models, by name; see :func:`write_predictions`.

    Resamples that another version drew are left out: nothing here can be compared with them.

    Raises:
        CheckpointError: not a safetensors file.
        DataError: it holds something else.
    """
    tensors, metadata = checkpoint.read(path)
    splits: dict[str, dict[str, Predictions]] = {}
    for name, predicted in tensors.items():
        what, *words = name.split("/")
        if what != "predictions":
            continue
        references = tensors.get("/".join(["references", *words]))
        if len(words) not in (1, 2) or references is None or references.shape != predicted.shape:
            raise DataError(
                f"{path} holds no predictions: {name} has no references of its shape beside it; "
                "measure the model again"
            )
        splits.setdefault(words[0], {})["".join(words[1:])] = Predictions(predicted, references)
    is_ours = metadata.get("resamples") == str(ALGORITHM)
    return {
        name: Predicted(each, tensors.get(f"resampled/{name}") if is_ours else None)
        for name, each in splits.items()
    }


def _tensors(name: str, task: Predicted) -> Iterator[tuple[str, Array]]:
    for suffix, each in task.splits.items():
        place = f"{name}/{suffix}" if suffix else name
        yield f"predictions/{place}", each.predicted
        yield f"references/{place}", each.references
    if task.resampled is not None:
        yield f"resampled/{name}", task.resampled.astype(np.float32)
