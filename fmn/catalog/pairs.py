"""Differences between models on the same examples: from the predictions that a store keeps.

Only who compares a few merges reads them; a listing does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fmn.catalog.entry import Entry
from fmn.errors import CheckpointError, DataError
from fmn.store import Gone, Output, Record, Store

if TYPE_CHECKING:
    import numpy as np

    Resampled: TypeAlias = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
    """By name of the model, the headline on each resample, [B]."""


MOST = 1_000
"""Merges whose predictions are read for a table: a file each, of six tasks in about 1 ms."""

MEAN = "mean normalised"
"""No model is called so: a name has no spaces."""


@dataclass(frozen=True)
class Difference:
    """By how much a score is higher than another on the same examples.

    Attributes:
        value: of the scores themselves.
        interval: low and high of the difference on the same resamples.
    """

    value: float
    interval: tuple[float, float]

    @property
    def is_inside(self) -> bool:
        """Whether it may be 0."""
        return self.interval[0] <= 0 <= self.interval[1]

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"value": self.value, "interval": list(self.interval), "inside": self.is_inside}


@dataclass(frozen=True)
class Paired:
    """A merge and its models on the resamples of their examples.

    Attributes:
        merged: of the merge; without what is not known.
        own: of the models themselves; the same.
    """

    merged: Resampled
    own: Resampled

    def mean(self, names: Sequence[str]) -> np.ndarray[Any, np.dtype[Any]] | None:
        """Return the mean normalised score of some models on each resample; None if not known."""
        from fmn.evaluation import normalized_mean

        if not names or not self.merged.keys() & self.own.keys() >= set(names):
            return None
        return normalized_mean([(self.merged[name], self.own[name]) for name in names])


def read_resampled(store: Store, predictions: Output | None) -> Resampled:
    """Return what a file of predictions says of each model's headline; nothing if it is not there.

    Raises:
        StoreError: the server failed.
    """
    from fmn.evaluation import read_predictions

    if predictions is None:
        return {}
    try:
        read = read_predictions(store.path(predictions))
    except (Gone, CheckpointError, DataError):  # the next run measures it again
        return {}
    return {name: each.resampled for name, each in read.items() if each.resampled is not None}


def read_paired(store: Store, entry: Entry, known: dict[str, Resampled] | None = None) -> Paired:
    """Return a merge and its models on the resamples of their examples.

    Args:
        store: that has them.
        entry: the merge.
        known: what was read of models before, by the MD5 of its file; it is added to.

    Raises:
        StoreError: the server failed.
    """
    if not entry.evaluations:
        return Paired({}, {})
    known = {} if known is None else known
    own: dict[str, Any] = {}
    for name, score in entry.scores.items():
        if output := _predictions(score.own):
            if output.md5 not in known:
                known[output.md5] = read_resampled(store, output)
            if values := list(known[output.md5].values()):
                own[name] = values[0]  # the file of a model alone has one name
    return Paired(read_resampled(store, _predictions(entry.evaluations[0].record)), own)


def _predictions(record: Record | None) -> Output | None:
    return record.outputs.get("predictions") if record else None


def mean_interval(entry: Entry, paired: Paired) -> tuple[float, float] | None:
    """Return the interval of a merge's mean normalised score; None if it is not known."""
    from fmn.evaluation import interval

    mean = paired.mean(list(entry.scores))
    return None if mean is None else interval(mean)


def against_own(entry: Entry, paired: Paired) -> dict[str, Difference]:
    """Return merged - individual by name of the model, where both are known."""
    from fmn.evaluation import interval

    return {
        name: Difference(
            score.value - score.individual[score.headline],
            interval(paired.merged[name] - paired.own[name]),
        )
        for name, score in entry.scores.items()
        if name in paired.merged and name in paired.own
    }


def as_json(store: Store, entry: Entry) -> dict[str, Any]:
    """Return what only the predictions say of a merge: of its mean, and of merged - individual.

    Raises:
        StoreError: the server failed.
    """
    paired = read_paired(store, entry)
    return {
        "mean_interval": mean_interval(entry, paired),
        "from_individual": {n: d.as_json() for n, d in against_own(entry, paired).items()},
    }


def against(first: tuple[Entry, Paired], other: tuple[Entry, Paired]) -> dict[str, Difference]:
    """Return other - first by name of the model, where both were measured alike.

    ``mean normalised`` is among them if they have the same models.
    """
    from fmn.evaluation import interval

    (one, of_one), (two, of_two) = first, other
    measures = [
        entry.evaluations[0].record.inputs["measures"] if entry.evaluations else {}
        for entry in (one, two)
    ]
    names = [
        name
        for name in one.scores
        if measures[0][name] == measures[1].get(name)
        and name in of_one.merged
        and name in of_two.merged
    ]
    differences = {
        name: Difference(
            two.scores[name].value - one.scores[name].value,
            interval(of_two.merged[name] - of_one.merged[name]),
        )
        for name in names
    }
    if set(names) == one.scores.keys() == two.scores.keys():
        means, values = (of_one.mean(names), of_two.mean(names)), (one.mean(), two.mean())
        if means[0] is not None and means[1] is not None and values[0] and values[1]:
            difference = values[1] - values[0]
            differences[MEAN] = Difference(difference, interval(means[1] - means[0]))
    return differences
