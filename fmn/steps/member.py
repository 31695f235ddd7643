"""The models of a merge: opened, with what was measured of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fmn import checkpoint
from fmn.checkpoint import Checkpoint, open_checkpoint, readable
from fmn.errors import CheckpointError, FmnError, MergeError
from fmn.merging import Source
from fmn.recipe import ModelEntry, Parent
from fmn.statistics import Measurement
from fmn.steps.context import Context
from fmn.steps.statistic import KeyedStatistic
from fmn.store import Memo, Store


@dataclass(frozen=True)
class Member:
    """A model that can be merged.

    Attributes:
        entry: what its user wrote, with its λ.
        source: the opened model.
        identity: digest of all that it is.
        statistics: by name, one that was given, or one that the store has or will have.
    """

    entry: ModelEntry
    source: Source
    identity: str
    statistics: Mapping[str, KeyedStatistic | Measurement]

    def statistic_key(self, name: str) -> str:
        """Return what a statistic is known by: its step's key, or the digest of a given one."""
        known = self.statistics[name]
        return known.key if isinstance(known, KeyedStatistic) else f"given {known.digest}"

    def measured(self, names: Sequence[str], store: Store, context: Context) -> Source:
        """Return the model as a merge takes it, with these statistics.

        Raises:
            NeedsError: one is not in the store.
        """
        measurements = {
            name: known.load(store, context) if isinstance(known, KeyedStatistic) else known
            for name, known in ((name, self.statistics[name]) for name in names)
        }
        return replace(self.source, statistics=measurements)


def as_source(
    entry: ModelEntry, opened: Checkpoint, memo: Memo, measurement: Measurement | None = None
) -> Source:
    """Return an opened model as a merge takes it, with a statistic that was given as a file."""
    return Source(
        name=entry.model,
        task=entry.name,
        model_type=opened.model_type,
        setting=opened.setting,
        tensors=opened.tensors,
        weight=entry.weight,
        statistics={measurement.kind: measurement} if measurement else {},
        checkpoint=opened,
        known_digest=memo.digest("weights", opened.weight_files, opened.digest),
    )


def open_source(entry: ModelEntry, memo: Memo) -> Source:
    """Open a model, and its Fisher if one is given.

    Raises:
        CheckpointError: what cannot be opened, or has other weights than the entry says.
    """
    opened = open_checkpoint(entry.model, entry.revision)
    measurement = Measurement(*checkpoint.read(entry.fisher)) if entry.fisher else None
    source = as_source(entry, opened, memo, measurement)
    if entry.digest and entry.digest != source.digest:
        digests = f"{entry.digest[:12]}, these are {source.digest[:12]}"
        raise CheckpointError(
            f"{entry.model}: the recipe was resolved with other weights ({digests})"
        )
    return source


def open_parent(parent: Parent, memo: Memo) -> Source:
    """Open the parent of models.

    Raises:
        CheckpointError: it cannot be opened, or has other weights than its entry says.
    """
    try:
        return open_source(
            ModelEntry(
                model=parent.model, task="parent", revision=parent.revision, digest=parent.digest
            ),
            memo,
        )
    except CheckpointError as error:
        raise CheckpointError(f"parent: {error}") from error


def open_sources(entries: Sequence[ModelEntry], memo: Memo) -> list[Source]:
    """Open every model and given Fisher.

    Raises:
        MergeError: what cannot be opened; every offence is listed.
    """
    sources: list[Source] = []
    offences: list[str] = []
    for entry in entries:
        try:
            with readable(entry.model):
                sources.append(open_source(entry, memo))
        except FmnError as error:
            offences.append(str(error))
    if offences:
        raise MergeError(offences)
    return sources
