"""A store: every result once, under the key of what it depends on."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from fmn.errors import StoreError
from fmn.extras import require
from fmn.store.claims import LEASE, Claims
from fmn.store.files import Directory, Files, Patience
from fmn.store.memo import Memo, cache_directory
from fmn.store.mirror import Mirror
from fmn.store.objects import Objects, Output
from fmn.store.records import ROOT, Made, Record, made, now, parse_record, record_path, who
from fmn.store.tombstones import TOMBSTONES, Tombstone, parse_tombstone, tombstone_path

FEW = 40
"""So many keys are asked for one by one; more are looked up in a listing."""

RUNS = "runs/v1"
RUN_TIME = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class Draft:
    """A result that was just computed.

    Attributes:
        value: plain data.
        files: files and directories, by name.
        device: it was computed on.
        made: by whom and when, if not here and now.
    """

    value: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    device: str = "cpu"
    made: Made | None = None


@dataclass(frozen=True)
class Outcome:
    """What was asked for.

    Attributes:
        record: the result.
        cached: it was in the store.
    """

    record: Record
    cached: bool


class Store:
    """Records and objects behind one URL."""

    def __init__(
        self,
        files: Files,
        cache: Path,
        memo: Memo,
        warn: Callable[[str], None],
        lease: float = LEASE,
    ) -> None:
        self.url, self.files = files.url, files
        self.claims = Claims(files, lease)
        self._cache, self._memo, self.warn = cache, memo, warn
        self.mirror = Mirror(files, memo)

    @cached_property
    def objects(self) -> Objects:
        """The results' files; whoever only reads records does not pay for them."""
        return Objects(self.files, self._cache, self._memo)

    def find(self, kind: str, keys: Iterable[str]) -> dict[str, Record]:
        """Return the records that are there, by key; only those new to this machine are fetched."""
        paths = {record_path(kind, key): key for key in keys}
        if len(paths) <= FEW:
            bodies = self.files.read(paths)
        else:
            bodies = self.mirror.read(
                {p: s.tag for p, s in self.files.list(f"{ROOT}/{kind}").items() if p in paths}
            )
        records = {paths[path]: parse_record(path, body) for path, body in bodies.items()}
        return {key: record for key, record in records.items() if record}

    def get(self, kind: str, key: str) -> Record | None:
        """Return a record; None if there is none, or a damaged one."""
        return self.find(kind, [key]).get(key)

    def keys(self, kind: str) -> set[str]:
        """Return the keys of every record of a kind: a listing, and nothing is read."""
        return {
            path.rpartition("/")[2].removesuffix(".json")
            for path in self.files.list(f"{ROOT}/{kind}")
        }

    def all(self, *kinds: str) -> dict[str, Record | None]:
        """Return every record (of some kinds) by path, as it is now; None for a damaged one."""
        return _parsed([self.mirror.under(prefix) for prefix in _prefixes(kinds)])

    def known(self, *kinds: str) -> dict[str, Record | None]:
        """Return every record (of some kinds) by path; from memory, while nothing was written."""
        return _parsed([self.mirror.unless_changed(prefix) for prefix in _prefixes(kinds)])

    def get_or_compute(
        self,
        kind: str,
        key: str,
        inputs: Mapping[str, Any],
        compute: Callable[[Path], Draft],
        names: Mapping[str, Any] | None = None,
        *,
        wait: bool = True,
    ) -> Outcome:
        """Return a result, and compute it first if it is not there, or not whole.

        What another process computes just now is waited for.

        Objects go first and the record last, so that a crash leaves no half result; the loser of a
        race takes the winner's.

        Args:
            kind: of result.
            key: of what it depends on.
            inputs: what it depends on.
            compute: is given an empty directory that lasts until its files are stored.
            names: what the inputs are called.
            wait: for another process that computes it.

        Raises:
            ClaimedError: another process computes it, and ``wait`` is False.
            StoreError: the store failed.
        """
        record = self.get(kind, key)
        if record and self._is_whole(record):
            return Outcome(record, cached=True)
        with self.claims.hold(kind, key, wait=wait, tell=self.warn) as is_claimed:
            if is_claimed:  # whoever held the claim before may have stored it since
                record = self.get(kind, key)
                if record and self._is_whole(record):
                    return Outcome(record, cached=True)
            if record:
                self.warn(
                    f"{self.url}: an object of {kind} {key[:12]} is missing or cut off; computing "
                    "it again"
                )
            record = self._compute(kind, key, inputs, compute, names or {}, record)
        return Outcome(record, cached=False)

    def repair(
        self,
        record: Record,
        compute: Callable[[Path], Draft],
    ) -> Record:
        """Compute a result again whose object is corrupt; its record stays if the bytes agree."""
        self.warn(
            f"{self.url}: an object of {record.kind} {record.key[:12]} is corrupt; computing it "
            "again"
        )
        return self._compute(record.kind, record.key, record.inputs, compute, record.names, record)

    def path(self, output: Output) -> Path:
        """Return a local, verified, read-only copy of a file, see :meth:`Objects.fetch`."""
        return self.objects.fetch(output)

    def drop(self, record: Record) -> None:
        """Remove a record; its objects go with the next :func:`fmn.store.collect`."""
        self.files.delete(record.path)
        self.mirror.changed()

    def hide(self, record: Record, reason: str = "") -> None:
        """Put a tombstone on a record, so that the catalog leaves it out.

        The record itself is never edited. :func:`fmn.store.collect` removes it, with whatever was
        derived from it, once the stone is old enough; until then it can be shown again.
        """
        stone = Tombstone(path=record.path, reason=reason, by=who(), at=now())
        self.files.write(tombstone_path(record.path), stone.to_bytes())

    def unhide(self, record: Record) -> None:
        """Take a tombstone away again."""
        self.files.delete(tombstone_path(record.path))

    def tombstones(self) -> dict[str, Tombstone]:
        """Return every tombstone, by the path of the record that it hides."""
        bodies = self.mirror.under(TOMBSTONES).values()
        return {stone.path: stone for stone in map(parse_tombstone, bodies) if stone}

    def check_writable(self) -> None:
        """Write and remove a small file.

        Raises:
            StoreError: it cannot be written to.
        """
        probe = f"probes/{os.urandom(8).hex()}"
        try:
            self.files.write(probe, b"{}")
            self.files.delete(probe)
        except StoreError as error:
            raise StoreError(
                f"{error}; nothing was computed: this store can only be read, choose another "
                "(store: in params.yaml) or ask for the right to write"
            ) from error

    def log_run(self, run: Mapping[str, Any]) -> None:
        """Keep what a run did, beside the records; runs are no results and have no keys."""
        name = f"{datetime.now(UTC).strftime(RUN_TIME)}-{os.urandom(4).hex()}"
        self.files.write(
            f"{RUNS}/{name}.json", (json.dumps(run, sort_keys=True, indent=1) + "\n").encode()
        )

    def runs(self, last: int = 20) -> list[dict[str, Any]]:
        """Return what the last runs did and when, the newest first; without what is damaged."""
        paths = sorted(self.files.list(RUNS), reverse=True)[:last]
        bodies = self.files.read(paths)
        runs = []
        for path in paths:
            with contextlib.suppress(ValueError, KeyError):
                moment = datetime.strptime(Path(path).name.partition("-")[0], RUN_TIME).replace(
                    tzinfo=UTC
                )
                runs.append({"at": moment.isoformat(), **json.loads(bodies[path])})
        return runs

    def _is_whole(self, record: Record) -> bool:
        return all(self.objects.is_whole(output) for output in record.outputs.values())

    def _compute(
        self,
        kind: str,
        key: str,
        inputs: Mapping[str, Any],
        compute: Callable[[Path], Draft],
        names: Mapping[str, Any],
        broken: Record | None,
    ) -> Record:
        with tempfile.TemporaryDirectory(prefix="fmn-") as folder:
            start = time.perf_counter()
            draft = compute(Path(folder))
            seconds = round(time.perf_counter() - start, 3)
            outputs = {
                name: self.objects.add(path, repair=broken is not None)
                for name, path in sorted(draft.files.items())
            }
        record = Record(
            kind=kind,
            key=key,
            inputs=dict(inputs),
            names=dict(names),
            value=dict(draft.value),
            outputs=outputs,
            made=draft.made or made(seconds, draft.device),
        )
        return self._publish(record, broken)

    def _publish(self, record: Record, broken: Record | None) -> Record:
        if broken is not None:
            if broken.outputs == record.outputs and broken.value == record.value:
                return broken
            self._write(record)
            return record
        if self.files.create(record.path, record.to_bytes()):
            self.mirror.changed()
            return record
        existing = self.get(record.kind, record.key)
        if existing is None:  # damaged: ours is as good as any
            self.warn(f"{self.url}: record {record.path} is damaged; writing it again")
            self._write(record)
            return record
        return existing

    def _write(self, record: Record) -> None:
        self.files.write(record.path, record.to_bytes())
        self.mirror.changed()


def _prefixes(kinds: Sequence[str]) -> list[str]:
    return [f"{ROOT}/{kind}" for kind in kinds] or [ROOT]


def _parsed(parts: Iterable[Mapping[str, bytes]]) -> dict[str, Record | None]:
    bodies = {path: body for part in parts for path, body in part.items()}
    return {path: parse_record(path, body) for path, body in sorted(bodies.items())}


def open_store(
    url: str | Path,
    *,
    cache: Path | None = None,
    patience: Patience | None = None,
    lease: float = LEASE,
    warn: Callable[[str], None] = lambda line: warnings.warn(line, stacklevel=3),
) -> Store:
    """Open a store.

    Args:
        url: a directory, which is made when something is stored, or ``s3://bucket/prefix``.
        cache: this machine's directory for copies and digests; None for :func:`cache_directory`.
        patience: how long a failing server is asked again.
        lease: seconds after which what a process without a sign of life computes is taken over by
            another; 0 to share no work with others.
        warn: is given a line that a person should read.

    Raises:
        StoreError: no such bucket, no answer, or an address of another kind.
        FmnError: the extra ``store`` is not installed.
    """
    require("store", f"the store {url}")
    cache = cache or cache_directory()
    memo = Memo(cache / "memo.sqlite")
    return Store(_files(str(url), patience or Patience(), warn), cache, memo, warn, lease)


def _files(url: str, patience: Patience, warn: Callable[[str], None]) -> Files:
    scheme, separator, _ = url.partition("://")
    if scheme == "s3" and separator:
        from fmn.store.bucket import Bucket

        return Bucket(url, patience, warn)
    if separator and scheme != "file":
        raise StoreError(f"store '{url}': expected a directory or s3://bucket/prefix")
    path = Path(url.removeprefix("file://"))
    if path.expanduser().is_file():
        raise StoreError(f"store {url} is a file; expected a directory or s3://bucket/prefix")
    return Directory(path)
