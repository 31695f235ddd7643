"""Which merges, and in which order."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fmn.catalog.entry import Entry
from fmn.errors import ParamsError, unknown

AGE = re.compile(r"(\d+)\s*([hdw])")
HOURS = {"h": 1, "d": 24, "w": 24 * 7}
ORDERS = ("mean", "worst", "at", "size")


@dataclass(frozen=True)
class Query:
    """What a merge must be; what is left out does not matter.

    Attributes:
        tasks: all of them are among its tasks.
        models: all of them are among its models: names, paths or hub ids, or the first digits of a
            digest of weights.
        methods: its method is one of them.
        sizes: it is of so many models.
        by: part of the name of who made it.
        since: it was made after this: a date (``2026-11-01``, UTC) or an age (``12h``, ``7d``,
            ``2w``).
        tags: it has one of them.
    """

    tasks: Sequence[str] = ()
    models: Sequence[str] = ()
    methods: Sequence[str] = ()
    sizes: Sequence[int] = ()
    by: str = ""
    since: str = ""
    tags: Sequence[str] = ()

    def select(self, entries: Iterable[Entry], now: datetime | None = None) -> list[Entry]:
        """Return the entries that are so.

        Raises:
            ParamsError: no merge has such a task, model, method or tag; or a time that is none.
        """
        candidates = list(entries)
        self._check(candidates)
        since = parse_since(self.since, now or datetime.now(UTC)) if self.since else None
        return [entry for entry in candidates if self._takes(entry, since)]

    def _takes(self, entry: Entry, since: datetime | None) -> bool:
        return (
            set(self.tasks) <= set(entry.tasks)
            and all(_has_model(entry, model) for model in self.models)
            and (not self.methods or entry.method in self.methods)
            and (not self.sizes or len(entry.parts) in self.sizes)
            and self.by in entry.record.made.by
            and (since is None or datetime.fromisoformat(entry.record.made.at) >= since)
            and (not self.tags or not set(self.tags).isdisjoint(entry.tags))
        )

    def _check(self, entries: Sequence[Entry]) -> None:
        """Refuse unknown names: a mistyped one would look like a catalog without such merges."""
        fields: Mapping[str, tuple[Sequence[str], Callable[[Entry], Iterable[str]]]] = {
            "task": (self.tasks, lambda entry: entry.tasks),
            "method": (self.methods, lambda entry: [entry.method]),
            "tag": (self.tags, lambda entry: entry.tags),
        }
        for kind, (names, of) in fields.items():
            known = {name for entry in entries for name in of(entry)} if names else set()
            for name in names:
                if name not in known:
                    raise ParamsError(unknown(kind, name, known, "no merge in the catalog has it"))
        for model in self.models:
            if not any(_has_model(entry, model) for entry in entries):
                known = {name for entry in entries for name in entry.parts}
                raise ParamsError(unknown("model", model, known, "no merge in the catalog has it"))


def parse_since(text: str, now: datetime) -> datetime:
    """Read a date or an age.

    Raises:
        ParamsError: neither.
    """
    if age := AGE.fullmatch(text.strip()):
        return now - timedelta(hours=int(age[1]) * HOURS[age[2]])
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ParamsError(
            f"'{text}' is not a time; expected a date such as 2026-11-01, or an age such as 12h, "
            "7d or 2w"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def in_order(entries: Iterable[Entry], by: str = "mean", tasks: Sequence[str] = ()) -> list[Entry]:
    """Sort, the best (newest, largest) first; what has not been measured comes last.

    Where some rows of the validation data choose, scores on those count.

    Args:
        entries: to sort.
        by: ``mean`` or ``worst`` normalised score, ``at``, ``size``, or a task, for its score.
        tasks: whose scores count for ``mean`` and ``worst``; none means all.

    Raises:
        ParamsError: nothing to sort by.
    """
    candidates = list(entries)
    wanted = tasks or None
    values: Mapping[str, Callable[[Entry], float | str | None]] = {
        "mean": lambda entry: entry.mean(wanted, choice=True),
        "worst": lambda entry: entry.worst(wanted, choice=True),
        "at": lambda entry: entry.record.made.at,
        "size": lambda entry: len(entry.parts),
    }
    if by not in values and not any(by in entry.tasks for entry in candidates):
        known_tasks = sorted({task for entry in candidates for task in entry.tasks})
        raise ParamsError(unknown("order", by, [*ORDERS, *known_tasks]))
    value = values.get(by) or (lambda entry: task_score(entry, by, choice=True))
    keyed = [(value(entry), entry) for entry in candidates]
    known = [(key, entry) for key, entry in keyed if key is not None]
    known.sort(key=lambda pair: (pair[0], pair[1].record.made.at, pair[1].id), reverse=True)
    return [entry for _, entry in known] + [entry for key, entry in keyed if key is None]


def task_score(entry: Entry, task: str, *, choice: bool = False) -> float | None:
    """Return the best score of a merge on a task, of which it may have several models.

    Args:
        entry: the merge.
        task: its name.
        choice: the score by which it is chosen, not the one that is shown.
    """
    scores = [score for name, score in entry.scores.items() if entry.parts[name].task_name == task]
    best = max(scores, key=lambda score: score.choice, default=None)
    return None if best is None else best.choice if choice else best.value


def _has_model(entry: Entry, model: str) -> bool:
    return any(
        model in (part.name, part.model) or (len(model) >= 4 and part.weights.startswith(model))
        for part in entry.parts.values()
    )
