"""What this machine remembers: digests of files that did not change, and records that never do."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Any

from fmn.errors import StoreError

RACY = 2.0
"""Seconds for which a file counts as still being written: a second change within one tick of the
clock would not show.
"""

SMALL = 16 * 2**20
"""Bytes up to which files are read each time: what they hold is then what is known of them."""

NAME = "memo-2.sqlite"
"""Of the file: earlier versions of fmn keep theirs in ``memo.sqlite``, without checks."""

SCHEMA = """
create table if not exists digests (
    name text primary key, stamp text not null, value text not null, seal blob not null);
create table if not exists records (
    store text, path text, tag text not null, body blob not null, seal blob not null,
    primary key (store, path));
create table if not exists listings (
    store text, prefix text, mark text not null, at real not null, files integer not null,
    seal blob not null, primary key (store, prefix));
"""

DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""What SQLite answers where the file is not what it should be; anything else passes."""

FAILURES = (sqlite3.Error, UnicodeError)
"""What sqlite3 raises: its messages may quote a damaged file, which it cannot decode."""

Row = tuple[Any, ...]


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


def memo_file() -> Path:
    """Return the file of this user's memo."""
    return cache_directory() / NAME


class Memo:
    """A small database that threads and processes share; in memory, where it cannot be written.

    It is a cache: each row has a seal, and where one does not fit, or the file is damaged, all is
    thrown away with one warning.
    """

    def __init__(
        self,
        file: Path | None = None,
        *,
        small: int = SMALL,
        warn: Callable[[str], None] = lambda line: warnings.warn(line, stacklevel=2),
    ) -> None:
        """Open it.

        Args:
            file: that holds it; None for memory alone.
            small: bytes of files up to which their content is their stamp.
            warn: is given the line that says that it was thrown away.
        """
        self._lock, self._file = threading.RLock(), file
        self._small, self._warn = small, warn
        self._db = self._opened()

    def digest(self, kind: str, files: Iterable[Path], compute: Callable[[], Any]) -> Any:
        """Return ``compute()``, or what it gave when the files were the same.

        Small files are the same if their content is; large ones if their paths, sizes, times and
        inodes are, which a bit that flips on a disk does not change.

        Args:
            kind: of digest.
            files: all that it depends on.
            compute: gives plain data.
        """
        paths = sorted(file.absolute() for file in files)
        stats = [file.stat() for file in paths]
        is_small = sum(stat.st_size for stat in stats) <= self._small
        if is_small:
            names = [path.name for path in paths]
            stamp = json.dumps([sha256(path.read_bytes()).hexdigest() for path in paths])
        else:
            names = [str(path) for path in paths]
            stamp = json.dumps([[s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino] for s in stats])
        name = json.dumps([kind, *names])
        query = "select name, stamp, value, seal from digests where name = ? and stamp = ?"
        if rows := self._read(query, (name, stamp)):
            return json.loads(rows[0][2])
        # asked before the files are read: a change meanwhile may not show
        settled = is_small or all(abs(time.time() - s.st_mtime) > RACY for s in stats)
        value = compute()
        if settled:
            self._write("digests", [(name, stamp, json.dumps(value))])
        return value

    def records(self, store: str, tags: Mapping[str, str]) -> dict[str, bytes]:
        """Return those records of a store, by path, that are remembered with these tags."""
        query = "select store, path, tag, body, seal from records where store = ?"
        if len(tags) > 50:
            rows = self._read(f"{query} and path between ? and ?", (store, min(tags), max(tags)))
        else:
            marks = ",".join("?" * len(tags))
            rows = self._read(f"{query} and path in ({marks})", (store, *tags))
        return {path: bytes(body) for _, path, tag, body in rows if tags.get(path) == tag}

    def remember(self, store: str, records: Mapping[str, tuple[str, bytes]]) -> None:
        """Remember the tag and content of records, by path."""
        self._write("records", [(store, path, tag, body) for path, (tag, body) in records.items()])

    def listing(self, store: str, prefix: str, mark: str, age: float) -> dict[str, bytes] | None:
        """Return all files under a directory, from a listing of this mark that is young enough."""
        with self._lock:
            query = (
                "select store, prefix, mark, at, files, seal from listings "
                "where store = ? and prefix = ? and mark = ? and at > ?"
            )
            listed = self._read(query, (store, prefix, mark, time.time() - age))
            rows = self._under(store, prefix) if listed else []
        if not listed or len(rows) != listed[0][4]:
            return None
        return {path: bytes(body) for _, path, _, body in rows}

    def remember_listing(self, store: str, prefix: str, mark: str, tags: Mapping[str, str]) -> None:
        """Remember which files there are under a directory; those that are gone are forgotten."""
        gone = [(store, row[1]) for row in self._under(store, prefix) if row[1] not in tags]
        self._run("delete from records where store = ? and path = ?", gone)
        self._write("listings", [(store, prefix, mark, time.time(), len(tags))])

    def _under(self, store: str, prefix: str) -> list[Row]:
        query = (
            "select store, path, tag, body, seal from records "
            "where store = ? and path > ? and path < ?"
        )
        return self._read(query, (store, f"{prefix}/", f"{prefix}0"))

    def _read(self, query: str, parameters: Row) -> list[Row]:
        """Return rows without their seals, the last column; none where something is wrong."""
        with self._lock:
            try:
                rows = self._db.execute(query, parameters).fetchall()
            except FAILURES as error:
                self._look_into(error)
                return []
            if any(_seal(row[:-1]) != row[-1] for row in rows):
                self._throw_away()
                return []
        return [row[:-1] for row in rows]

    def _write(self, table: str, rows: list[Row]) -> None:
        marks = ", ".join("?" * (len(rows[0]) + 1)) if rows else ""
        sealed = [(*row, _seal(row)) for row in rows]
        self._run(f"insert or replace into {table} values ({marks})", sealed)

    def _run(self, statement: str, rows: list[Row]) -> None:
        # what cannot be remembered is found out again
        if rows:
            with self._lock:
                try:
                    with self._db:
                        self._db.executemany(statement, rows)
                except FAILURES as error:
                    self._look_into(error)

    def _opened(self) -> sqlite3.Connection:
        if self._file is not None:
            try:
                self._file.parent.mkdir(parents=True, exist_ok=True)
                return _connect(self._file)
            except (OSError, *FAILURES) as error:
                if _is_damage(error):
                    return self._thrown_away(self._file)
        return _connect(":memory:")

    def _look_into(self, error: Exception) -> None:
        """Throw the file away if it is damaged; a database that is busy or full only forgets."""
        if _is_damage(error):
            self._throw_away()

    def _throw_away(self) -> None:
        self._db.close()
        self._db = self._thrown_away(self._file) if self._file else _connect(":memory:")

    def _thrown_away(self, file: Path) -> sqlite3.Connection:
        self._warn(f"{file} is damaged and was thrown away: digests are computed again")
        try:
            for suffix in ("", "-journal", "-wal", "-shm"):
                file.with_name(file.name + suffix).unlink(missing_ok=True)
            return _connect(file)
        except (OSError, sqlite3.Error):
            return _connect(":memory:")


def _seal(row: Row) -> bytes:
    """Return a digest of a row."""
    hasher = blake2b(digest_size=16)
    for value in row:
        content = value if isinstance(value, bytes) else repr(value).encode("utf-8", "replace")
        hasher.update(b"%d:" % len(content) + content)
    return hasher.digest()


def _is_damage(error: Exception) -> bool:
    if isinstance(error, UnicodeError):  # text that is none
        return True
    code = getattr(error, "sqlite_errorcode", None)
    return (code is None and isinstance(error, sqlite3.Error)) or (code or 0) & 0xFF in DAMAGE


def _connect(target: Path | str) -> sqlite3.Connection:
    db = sqlite3.connect(target, timeout=30, check_same_thread=False)
    try:
        db.executescript(SCHEMA)
    except FAILURES:
        db.close()
        raise
    return db
