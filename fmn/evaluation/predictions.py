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
    """Of one split of N examples; of a language task, of all its T tokens in a row.

    Attributes:
        predicted: [N], the data's label numbers (int16, of many labels int32), or targets
            (float32); or [T], tokens.
        references: the same of the data.
        lengths: [N], int32, how many tokens each example has; None where it has one prediction.
    """

    predicted: Array
    references: Array
    lengths: Array | None = None

    @classmethod
    def of(cls, predicted: Array, references: Array, lengths: Array | None = None) -> Predictions:
        """Return them in the types that files have."""
        if not np.issubdtype(references.dtype, np.integer):
            kind: Any = np.float32
        else:
            largest = max(predicted.max(), references.max())
            kind = np.int16 if largest <= np.iinfo(np.int16).max else np.int32
        sizes = None if lengths is None else lengths.astype(np.int32)
        return cls(predicted.astype(kind), references.astype(kind), sizes)

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(self.references if self.lengths is None else self.lengths)

    def take(self, which: Array) -> Predictions:
        """Return those of some examples, in their order.

        Args:
            which: [N], bool.
        """
        if self.lengths is None:
            return Predictions(self.predicted[which], self.references[which])
        tokens = np.repeat(which, self.lengths)
        return Predictions(self.predicted[tokens], self.references[tokens], self.lengths[which])


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

    The tensors are ``predictions/NAME`` and ``references/NAME``, of language tasks also
    ``lengths/NAME``, for further splits with their suffix (``predictions/mnli/mismatched``), and
    ``resampled/NAME``, float32.

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
        references, lengths = (
            tensors.get("/".join([part, *words])) for part in ("references", "lengths")
        )
        if len(words) not in (1, 2) or references is None or references.shape != predicted.shape:
            raise DataError(
                f"{path} holds no predictions: {name} has no references of its shape beside it; "
                "measure the model again"
            )
        if lengths is not None and lengths.sum() != len(predicted):
            raise DataError(
                f"{path} holds no predictions: {name} has {len(predicted)} tokens, and their "
                f"examples {lengths.sum()}; measure the model again"
            )
        split = Predictions(predicted, references, lengths)
        splits.setdefault(words[0], {})["".join(words[1:])] = split
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
        if each.lengths is not None:
            yield f"lengths/{place}", each.lengths
    if task.resampled is not None:
        yield f"resampled/{name}", task.resampled.astype(np.float32)
