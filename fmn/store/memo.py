"""What this machine remembers: digests of files that did not change, and records that never do."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fmn.errors import StoreError

RACY = 2.0
"""Seconds for which a file counts as still being written: a second change within one tick of the
clock would not show.
"""

SCHEMA = """
create table if not exists digests (
    name text primary key, stamp text not null, value text not null);
create table if not exists records (
    store text, path text, tag text not null, body blob not null, primary key (store, path));
create table if not exists listings (
    store text, prefix text, mark text not null, at real not null, files integer not null,
    primary key (store, prefix));
"""


def cache_directory() -> Path:
    """Return ``FMN_CACHE``, or ``fmn`` in this user's directory of caches."""
    if directory := os.environ.get("FMN_CACHE"):
        return Path(directory).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or home_directory() / ".cache") / "fmn"


def home_directory() -> Path:
    """Return this user's home, or where there is none (a container) a temporary directory.

    Raises:
        StoreError: that directory is somebody else's.
    """
    try:
        return Path.home()
    except RuntimeError:
        place = Path(tempfile.gettempdir(), f"fmn-home-{os.getuid()}")
        place.mkdir(mode=0o700, exist_ok=True)
        if place.is_symlink() or place.stat().st_uid != os.getuid():
            raise StoreError(
                f"this user has no home, and {place} is another's; set FMN_CACHE to a directory"
            ) from None
        return place


class Memo:
    """A small database that threads and processes share; in memory, where it cannot be written."""

    def __init__(self, file: Path | None = None) -> None:
        self._lock = threading.Lock()
        try:
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
            self._db = _connect(file or ":memory:")
        except (OSError, sqlite3.Error):
            self._db = _connect(":memory:")

    def digest(self, kind: str, files: Iterable[Path], compute: Callable[[], Any]) -> Any:
        """Return ``compute()``, or what it gave when the files had the same paths, sizes and times.

        Args:
            kind: of digest.
            files: all that it depends on.
            compute: gives plain data.
        """
        paths = sorted(file.absolute() for file in files)
        name = json.dumps([kind, *map(str, paths)])
        stats = [file.stat() for file in paths]
        stamp = json.dumps([[s.st_size, s.st_mtime_ns, s.st_ino] for s in stats])
        with self._lock:
            row = self._db.execute(
                "select value from digests where name = ? and stamp = ?", (name, stamp)
            ).fetchone()
        if row:
            return json.loads(row[0])
        # asked before the files are read: a change meanwhile may not show
        settled = all(abs(time.time() - s.st_mtime) > RACY for s in stats)
        value = compute()
        if settled:
            self._write(
                "insert or replace into digests values (?, ?, ?)",
                [(name, stamp, json.dumps(value))],
            )
        return value

    def records(self, store: str, tags: Mapping[str, str]) -> dict[str, bytes]:
        """Return those records of a store, by path, that are remembered with these tags."""
        with self._lock:
            if len(tags) > 50:
                rows = self._db.execute(
                    "select path, tag, body from records where store = ?", (store,)
                ).fetchall()
            else:
                marks = ",".join("?" * len(tags))
                query = f"select path, tag, body from records where store = ? and path in ({marks})"
                rows = self._db.execute(query, (store, *tags)).fetchall()
        return {path: bytes(body) for path, tag, body in rows if tags.get(path) == tag}

    def remember(self, store: str, records: Mapping[str, tuple[str, bytes]]) -> None:
        """Remember the tag and content of records, by path."""
        rows = [(store, path, tag, body) for path, (tag, body) in records.items()]
        self._write("insert or replace into records values (?, ?, ?, ?)", rows)

    def listing(self, store: str, prefix: str, mark: str, age: float) -> dict[str, bytes] | None:
        """Return all files under a directory, from a listing of this mark that is young enough."""
        with self._lock:
            query = (
                "select files from listings where store = ? and prefix = ? and mark = ? and at > ?"
            )
            row = self._db.execute(query, (store, prefix, mark, time.time() - age)).fetchone()
            query = "select path, body from records where store = ? and path > ? and path < ?"
            rows = (
                self._db.execute(query, (store, f"{prefix}/", f"{prefix}0")).fetchall()
                if row
                else []
            )
        return {path: bytes(body) for path, body in rows} if row and len(rows) == row[0] else None

    def remember_listing(self, store: str, prefix: str, mark: str, tags: Mapping[str, str]) -> None:
        """Remember which files there are under a directory; those that are gone are forgotten."""
        with self._lock:
            query = "select path from records where store = ? and path > ? and path < ?"
            paths = [
                path for (path,) in self._db.execute(query, (store, f"{prefix}/", f"{prefix}0"))
            ]
        gone = [(store, path) for path in paths if path not in tags]
        self._write("delete from records where store = ? and path = ?", gone)
        self._write(
            "insert or replace into listings values (?, ?, ?, ?, ?)",
            [(store, prefix, mark, time.time(), len(tags))],
        )

    def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        # what cannot be remembered is found out again
        with self._lock, suppress(sqlite3.Error), self._db:
            self._db.executemany(statement, rows)


def _connect(target: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(target, timeout=30, check_same_thread=False)
    db.executescript(SCHEMA)
    return db
