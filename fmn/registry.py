"""Registries: names, what they stand for, and the entry points by which packages add theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from fmn.errors import FmnError, ParamsError, unknown

T = TypeVar("T")

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")


def check_name(kind: str, name: str) -> str:
    """Return the name if it can be part of a path on every system.

    Raises:
        ParamsError: It holds anything but lower-case letters, digits, ``_``, ``.`` and ``-``, or
            starts with a sign.
    """
    if not _NAME.fullmatch(name):
        raise ParamsError(
            f"bad {kind} name '{name}': names become paths, so use lower-case letters, digits, "
            "'_', '.' and '-', starting with a letter or a digit"
        )
    return name


def one_or_several(
    kind: type[T], name: Callable[[T], str]
) -> Callable[[str, object], Iterator[tuple[str, T]]]:
    """Return an ``unfold`` for entry points of one named item, or of several."""

    def unfold(point: str, loaded: object) -> Iterator[tuple[str, T]]:
        for item in (
            [loaded] if isinstance(loaded, kind) or not isinstance(loaded, Iterable) else loaded
        ):
            if not isinstance(item, kind):
                raise ParamsError(
                    f"expected one {kind.__name__} or several, got {type(item).__name__}"
                )
            yield name(item), item

    return unfold


class Registry(Generic[T]):
    """Items by name: bad or duplicate names are refused, entry points read at first lookup."""

    def __init__(
        self,
        kind: str,
        group: str,
        unfold: Callable[[str, object], Iterable[tuple[str, T]]],
        hint: str,
    ) -> None:
        """Make an empty registry.

        Args:
            kind: What an item is called in messages.
            group: The entry point group in which other packages announce items.
            unfold: From an entry point's name and object to named items; raises ParamsError on
                anything else.
            hint: What to do about an unknown name.
        """
        self._kind, self._group, self._unfold, self._hint = kind, group, unfold, hint
        self._items: dict[str, T] = {}
        self._complete = False

    def register(self, name: str, item: T) -> None:
        """Add an item.

        Raises:
            ParamsError: The name is bad, or taken.
        """
        self._add(self._items, name, item)

    def get(self, name: str) -> T:
        """Return the item of that name.

        Raises:
            ParamsError: No such name, or an entry point is broken.
        """
        self._load_entry_points()
        if name not in self._items:
            raise ParamsError(unknown(self._kind, name, self._items, self._hint))
        return self._items[name]

    def names(self) -> tuple[str, ...]:
        """Return every registered name, sorted."""
        self._load_entry_points()
        return tuple(sorted(self._items))

    def _add(self, items: dict[str, T], name: str, item: T) -> None:
        if check_name(self._kind, name) in items:
            raise ParamsError(f"{self._kind} '{name}' is registered already; choose another name")
        items[name] = item

    def _load_entry_points(self) -> None:
        if self._complete:
            return
        # On a copy: a broken entry point must say so at every lookup, not leave half of its items
        # behind.
        items = dict(self._items)
        for point in sorted(
            entry_points(group=self._group), key=lambda point: (point.name, point.value)
        ):
            for name, item in self._resolve(point):
                self._add(items, name, item)
        self._items, self._complete = items, True

    def _resolve(self, point: EntryPoint) -> list[tuple[str, T]]:
        try:
            return list(self._unfold(point.name, point.load()))
        except Exception as error:  # importing somebody else's package can raise anything
            package = f" of package '{point.dist.name}'" if point.dist else ""
            reason = (
                str(error) if isinstance(error, FmnError) else f"{type(error).__name__}: {error}"
            )
            raise ParamsError(
                f"entry point '{point.name}'{package} in group '{self._group}' cannot be used: "
                f"{reason}; mend or uninstall that package"
            ) from error
