"""The catalog: every merge that a team ever made, read from the records of its store."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from fmn.catalog.entry import SHORT, Entry, join
from fmn.catalog.query import Query, in_order
from fmn.catalog.tags import Tag, move_tag, read_tags
from fmn.errors import CatalogError, nearest
from fmn.store import Record, Store, open_store

T = TypeVar("T")

KINDS = ("merge", "evaluate", "publish")
CANDIDATES = 5
"""So many are named where an ID is ambiguous."""


class Catalog:
    """The merges of a store. It is read when it is first asked, and again after :meth:`refresh`."""

    def __init__(self, store: Store | str | Path) -> None:
        """Open the catalog of a store: an opened one, a directory, or ``s3://bucket/prefix``."""
        self.store = store if isinstance(store, Store) else open_store(store)

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """Every merge by ID, but those that were removed."""
        hidden = self.store.tombstones()
        tags = {name: tag.id for name, tag in self.tags.items() if tag.id}
        with _no_collection():
            records = self.store.known(*KINDS)
            return join(
                (record for record in records.values() if record and record.address not in hidden),
                tags,
            )

    @cached_property
    def tags(self) -> Mapping[str, Tag]:
        """Every tag that a merge has, by name."""
        return read_tags(self.store)

    def refresh(self) -> None:
        """Read the records again when they are next asked for; only new ones are fetched."""
        for name in ("entries", "tags", "_short"):
            self.__dict__.pop(name, None)

    def find(
        self, query: Query | None = None, *, by: str = "mean", limit: int | None = None
    ) -> list[Entry]:
        """Return merges, the best first.

        Args:
            query: what they must be; the scores of its tasks count, if it names any.
            by: see :func:`in_order`.
            limit: so many at most.

        Raises:
            ParamsError: a name that is nowhere in the catalog.
        """
        query = query or Query()
        return in_order(query.select(self.entries.values()), by, query.tasks)[:limit]

    def best(self, tasks: Sequence[str], *, by: str = "mean", methods: Sequence[str] = ()) -> Entry:
        """Return the merge that is best on some tasks; it may have others, too.

        Where some rows of the validation data choose, it is the best on those, and its scores are
        of the others: see :attr:`Entry.is_chosen_elsewhere`.

        Args:
            tasks: at least one.
            by: ``mean`` or ``worst`` normalised score over these tasks.
            methods: by one of these, if any.

        Raises:
            CatalogError: none that was measured has them all.
            ParamsError: no merge has such a task or method.
        """
        entries = self.find(Query(tasks=tasks, methods=methods), by=by, limit=1)
        if not entries or entries[0].mean(tasks) is None:
            clause = f" by {' or '.join(methods)}" if methods else ""
            raise CatalogError(
                f"no merge{clause} that was measured has all of {', '.join(tasks)}; "
                "'fmn catalog ls' shows what there is"
            )
        return entries[0]

    def __getitem__(self, name: str) -> Entry:
        """Return a merge by its ID, the first digits of it (four at least), or a tag.

        Raises:
            CatalogError: no such merge, or several; the message names them.
        """
        if tag := self.tags.get(name):
            if entry := self.entries.get(tag.id or ""):
                return entry
            raise CatalogError(
                f"the merge {str(tag.id)[:12]} that has the tag '{name}' is not in the catalog any "
                "more"
            )
        matches = (
            [entry for key, entry in self.entries.items() if key.startswith(name.lower())]
            if len(name) >= 4
            else []
        )
        if len(matches) == 1:
            return matches[0]
        if not matches:
            near = nearest(name, self.tags)
            raise CatalogError(
                f"no merge '{name}' in {self.store.url}{near}; expected a tag or at least four "
                "digits of an ID, as 'fmn catalog ls' shows them"
            )
        names = [f"{entry.id[: self.digits]} ({entry.title})" for entry in matches[:CANDIDATES]]
        more = f" and {len(matches) - CANDIDATES} more" if len(matches) > CANDIDATES else ""
        raise CatalogError(f"'{name}' is ambiguous: {'; '.join(names)}{more}; say more of it")

    def short(self, entry: Entry) -> str:
        """Return as much of an ID as tells it from all others."""
        return entry.id[: self.digits]

    @property
    def digits(self) -> int:
        """How many digits tell all IDs apart, eight at least."""
        return self._short

    @cached_property
    def _short(self) -> int:
        ordered = sorted(self.entries)
        shared = (_shared(first, second) for first, second in pairwise(ordered))
        return max(SHORT, 1 + max(shared, default=0))

    def statistics(self, entry: Entry) -> dict[str, dict[str, Record]]:
        """Return the records of a merge's statistics, by name of the model and of the statistic.

        A statistic that came from a file has no record.
        """
        keys = {key for part in entry.parts.values() for key in part.statistics if " " not in key}
        records = self.store.find("fisher", keys)
        by_model: dict[str, dict[str, Record]] = {}
        for name, part in entry.parts.items():
            for record in (records[key] for key in part.statistics if key in records):
                by_model.setdefault(name, {})[record.inputs["of"]] = record
        return by_model

    def fishers(self, entry: Entry) -> dict[str, Record]:
        """Return the record of the first statistic of each model of a merge, by its name."""
        statistics = self.statistics(entry)
        return {name: next(iter(records.values())) for name, records in statistics.items()}

    def refit(self, entry: Entry) -> dict[str, Any]:
        """Return on what a merge's heads were refitted, as a recipe has it; empty if nothing was.

        A task that has fewer examples gives all, so the most of any is what was asked for.
        """
        keys = {part.head_states for part in entry.parts.values() if part.head_states}
        records = list(self.store.find("fisher", keys).values())
        if not records:
            return {}
        samples = max(record.inputs["settings"]["samples"] for record in records)
        taken: dict[str, Any] = {**records[0].inputs["settings"], "samples": samples}
        text = records[0].names["data"] if records[0].names.get("is_text") else None
        return taken | ({"text": text} if text else {})

    def fisher(self, start: str) -> Record | None:
        """Return the record of the one Fisher whose key starts so; None if none does, or several.

        Args:
            start: at least four digits.
        """
        if len(start) < 4:
            return None
        keys = [key for key in self.store.keys("fisher") if key.startswith(start.lower())]
        return self.store.get("fisher", keys[0]) if len(keys) == 1 else None

    def tag(self, name: str, entry: Entry) -> Tag | None:
        """Give a tag to a merge; return the tag as it was before, None if no merge had it.

        Raises:
            CatalogError: a name that cannot be a tag, or somebody moved it at the same time.
        """
        return self._changed(lambda: move_tag(self.store, name, entry.id))

    def untag(self, name: str) -> Tag | None:
        """Take a tag away; return what it was.

        Raises:
            CatalogError: no merge has it, or somebody moved it at the same time.
        """
        return self._changed(lambda: move_tag(self.store, name, None))

    def remove(self, entry: Entry, reason: str = "") -> None:
        """Hide a merge; 'fmn store gc' removes its records a day later.

        Raises:
            CatalogError: it has a tag.
        """
        if entry.tags:
            tags = ", ".join(entry.tags)
            raise CatalogError(
                f"{self.short(entry)} has the tag {tags}; 'fmn catalog untag {entry.tags[0]}' first"
            )
        self._changed(lambda: self.store.hide(entry.record.address, reason))

    def restore(self, start: str) -> Entry:
        """Show a merge again that was removed, if 'fmn store gc' has not taken it yet.

        Args:
            start: the first digits of its ID, four at least.

        Raises:
            CatalogError: none that was removed, or several.
        """
        hidden = self.store.tombstones()
        matches = [
            r
            for r in self.store.all("merge").values()
            if r and r.address in hidden and r.key.startswith(start.lower())
        ]
        if len(matches) != 1 or len(start) < 4:
            raise CatalogError(
                f"{len(matches) or 'no'} removed merges are called '{start}'; say at least four "
                "digits of one ID"
            )
        self._changed(lambda: self.store.unhide(matches[0].address))
        return self.entries[matches[0].key]

    def _changed(self, change: Callable[[], T]) -> T:
        self.store.check_writable()
        try:
            return change()
        finally:
            self.refresh()


def differences(entries: Iterable[Entry]) -> dict[str, list[str]]:
    """Return what differs between merges, by name: a value per merge, empty where it has none."""
    descriptions = [_described(entry) for entry in entries]
    names = list(dict.fromkeys(name for description in descriptions for name in description))
    rows = {name: [description.get(name, "") for description in descriptions] for name in names}
    return {name: values for name, values in rows.items() if len(set(values)) > 1}


def _described(entry: Entry) -> dict[str, str]:
    described = {
        "models": " + ".join(entry.parts),
        "method": entry.method,
        "heads": entry.heads,
    }
    described |= {name: str(value) for name, value in entry.parameters.items()}
    if entry.parent:
        described |= {
            "parent": entry.parent["model"],
            "weights of the parent": entry.parent["digest"][:12],
        }
    for name, part in entry.parts.items():
        described |= {
            f"λ of {name}": f"{part.weight:g}",
            f"model of {name}": part.model,
            f"weights of {name}": part.weights[:12],
            f"Fisher of {name}": (part.fisher or "")[:12],
        }
    for evaluation in entry.evaluations[:1]:
        measures = evaluation.record.inputs["measures"]
        described |= {
            f"measured {name}": f"{measures[name][:12]}, {s.examples} rows"
            for name, s in evaluation.scores.items()
        }
    return described | {
        f"version of {name}": version for name, version in entry.record.made.versions.items()
    }


@contextmanager
def _no_collection() -> Iterator[None]:
    """Switch Python's garbage collection off while many objects are made that stay.

    It would take longer than making them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _shared(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((number for number, (a, b) in pairs if a != b), len(first))
