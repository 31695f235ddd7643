"""What layers are fitted to: models of a merge with their examples; and how they are fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fmn.fisher.session import Batch


@dataclass(frozen=True)
class Expert:
    """One model of a merge, with the merge in its place.

    Attributes:
        name: for messages.
        own: the model.
        merged: a copy of it with the merged backbone, whose parameters are replaced, not written
            into.
        batches: its examples.
        weight: λ.
    """

    name: str
    own: Any
    merged: Any
    batches: Sequence[Batch]
    weight: float = 1.0


@dataclass(frozen=True)
class Regression:
    """How modules are fitted.

    Attributes:
        teacher: where between the merge's input (0) and the model's own (1) the input lies for
            which the model's own module says what the merged one is to say.
        ridge: relative to the mean diagonal of the inputs' Gram matrix; None chooses it for each
            module by halves of the examples.
        streams: what is added to a residual stream also makes good what the stream has drifted.
        norms: norms are fitted, too.
    """

    teacher: float = 1.0
    ridge: float | None = None
    streams: bool = True
    norms: bool = True


def numbered(batches: Sequence[Batch]) -> Iterator[tuple[Batch, int]]:
    """Iterate over batches, each with the number of examples before it."""
    before = 0
    for batch in batches:
        yield batch, before
        before += examples(batch)


def examples(batch: Batch) -> int:
    """Return how many a batch has."""
    return len(next(iter(batch.values())))
