"""A store: every result once, under the key of what it depends on."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from fmn.errors import LONGEST, StoreError
from fmn.extras import require
from fmn.schema import address
from fmn.scratch import scratch
from fmn.store.claims import LEASE, Claims
from fmn.store.files import Directory, Files, Patience, Stamp
from fmn.store.memo import NAME as MEMO
from fmn.store.memo import Memo, cache_directory
from fmn.store.mirror import Mirror
from fmn.store.names import VERSIONS, Address, parse_address
from fmn.store.objects import Objects, Output
from fmn.store.records import Made, Record, made, now, parse_record, record_key, who
from fmn.store.runs import RUNS, RunLog, parse_run
from fmn.store.tombstones import TOMBSTONES, Tombstone, parse_tombstone
from fmn.visible import one_line

AT_ONCE = 2_000
"""So many records of a directory are in memory while many are looked up; of a server ten times as
many, for each time costs requests.
"""

FEW = 40
"""So many keys are asked for one by one; more are looked up in a listing."""

NOTICE = "records/v1/a-newer-fmn-writes-here/upgrade-before-gc.json"
"""Versions of fmn that know no other records take this for one that is damaged, and collect no
garbage: they would take the objects of newer records for that.
"""


@dataclass(frozen=True)
class Draft:
    """A result that was just computed.

    Attributes:
        value: plain data.
        files: files and directories, by name.
        read: the content of other results that were read for it, by kind and key.
        device: it was computed on.
        made: by whom and when, if not here and now.
    """

    value: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    read: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
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
        self.mirror = Mirror(files, memo, warn)
        self._told: set[str] = set()
        self._noticed = False

    @cached_property
    def objects(self) -> Objects:
        """The results' files; whoever only reads records does not pay for them."""
        return Objects(self.files, self._cache, self._memo)

    def find(self, kind: str, keys: Iterable[str]) -> dict[str, Record]:
        """Return the records that are there, by key; only those new to this machine are fetched."""
        paths = {path for key in keys for path in Address(kind, key).paths}
        if len(paths) <= FEW * len(VERSIONS):
            bodies = self.files.read(paths)
        else:
            listed = self._listed([kind])
            bodies = self.mirror.read({p: s.tag for p, s in listed.items() if p in paths})
        return {record.key: record for record in self._parsed(bodies).values() if record}

    def current(self, keys: Mapping[str, Sequence[str]]) -> dict[str, set[str]]:
        """Return, by kind, the keys whose records are sound, and made of what is there.

        The records are read, but never all of them in memory.

        Args:
            keys: by kind, each kind after those that its results are made of.
        """
        contents: dict[Address, str] = {}
        current: dict[str, set[str]] = {}
        for kind, wanted in keys.items():
            current[kind] = set()
            for record in self._each(kind, wanted):
                contents[record.address] = record.content
                if record.is_current(contents):
                    current[kind].add(record.key)
        return current

    def _each(self, kind: str, keys: Sequence[str]) -> Iterator[Record]:
        """Iterate over the records of some keys, reading many at a time."""
        if len(keys) <= FEW:
            yield from self.find(kind, keys).values()
            return
        wanted, stamps = set(keys), self._listed([kind])
        versions: dict[str, list[str]] = {}
        for path in stamps:
            if (where := parse_address(path)) and where[1].key in wanted:
                versions.setdefault(where[1].key, []).append(path)
        size = AT_ONCE if isinstance(self.files, Directory) else 10 * AT_ONCE
        ordered = sorted(versions)
        for start in range(0, len(ordered), size):
            paths = [path for key in ordered[start : start + size] for path in versions[key]]
            bodies = self.mirror.read({path: stamps[path].tag for path in paths})
            yield from filter(None, self._parsed(bodies).values())

    def get(self, kind: str, key: str) -> Record | None:
        """Return a record; None if there is none, or a damaged one."""
        return self.find(kind, [key]).get(key)

    def keys(self, kind: str) -> set[str]:
        """Return the keys of every record of a kind: a listing, and nothing is read."""
        return {where[1].key for path in self._listed([kind]) if (where := parse_address(path))}

    def all(self, *kinds: str) -> dict[str, Record | None]:
        """Return every record (of some kinds) by path, as it is now; None for a damaged one.

        Of several versions of a record, the last alone.
        """
        tags = {path: stamp.tag for path, stamp in self._listed(kinds).items()}
        return self._parsed(self.mirror.read(tags))

    def known(self, *kinds: str) -> dict[str, Record | None]:
        """Return every record (of some kinds) by path; from memory, while nothing was written."""
        return self._parsed(self.mirror.unless_changed(_folders(kinds)))

    def get_or_compute(
        self,
        kind: str,
        inputs: Mapping[str, Any],
        compute: Callable[[Path], Draft],
        names: Mapping[str, Any] | None = None,
        *,
        wait: bool = True,
    ) -> Outcome:
        """Return a result, and compute it first if it is not there, not whole, or not current.

        What another process computes just now is waited for.

        Objects go first and the record last, so that a crash leaves no half result; the loser of a
        race takes the winner's.

        Args:
            kind: of result.
            inputs: what it depends on; its key is :func:`record_key` of it.
            compute: is given an empty directory that lasts until its files are stored.
            names: what the inputs are called.
            wait: for another process that computes it.

        Raises:
            ClaimedError: another process computes it, and ``wait`` is False.
            StoreError: the store failed.
        """
        key = record_key(kind, inputs)
        record = self.get(kind, key)
        fault = self._fault(record)
        if record and fault is None:
            return Outcome(record, cached=True)
        with self.claims.hold(kind, key, wait=wait, tell=self.warn) as is_claimed:
            if is_claimed:  # whoever held the claim before may have stored it since
                record = self.get(kind, key)
                fault = self._fault(record)
                if record and fault is None:
                    return Outcome(record, cached=True)
            if fault:
                self.warn(f"{self.url}: {fault}; computing it again")
            computed = self._compute(kind, key, inputs, compute, names or {}, record)
        return Outcome(computed, cached=False)

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

    def replace(self, record: Record, draft: Draft) -> Record:
        """Write another record in place of a wrong one, of a result that has no files."""
        right = record.model_copy(
            update={
                "value": dict(draft.value),
                "read": {kind: dict(contents) for kind, contents in draft.read.items()},
                "made": made(record.made.seconds, draft.device),
            }
        )
        self._write(right)
        return right

    def drop(self, address: Address) -> None:
        """Remove a result's records; its objects go with the next :func:`fmn.store.collect`."""
        for path in address.paths:
            self.files.delete(path)
        self.mirror.changed()

    def hide(self, address: Address, reason: str = "") -> None:
        """Put a tombstone on a result, so that the catalog leaves it out.

        The record itself is never edited. :func:`fmn.store.collect` removes it, with whatever was
        derived from it, once the stone is old enough; until then it can be shown again.
        """
        stone = Tombstone(path=address.path(VERSIONS[0]), reason=reason, by=who(), at=now())
        self.files.write(address.tombstone, stone.to_bytes())

    def unhide(self, address: Address) -> None:
        """Take a tombstone away again."""
        self.files.delete(address.tombstone)

    def tombstones(self) -> dict[Address, Tombstone]:
        """Return every tombstone, by the address of the result that it hides."""
        stones = {
            path: parse_tombstone(path, body)
            for path, body in self.mirror.under(TOMBSTONES).items()
        }
        self.tell_damaged("tombstone", [path for path, stone in stones.items() if stone is None])
        return {stone.address: stone for stone in stones.values() if stone}

    def tell_damaged(self, what: str, paths: Sequence[str], kind: str = "") -> None:
        """Warn, once, of files that cannot be read; ``what`` is what one of them is."""
        new = [path for path in paths if path not in self._told]
        if new:
            self._told.update(new)
            first = f": {new[0]}" if len(new) == 1 else f", the first is {new[0]}"
            many = f"{len(new)} {what}{'s' * (len(new) > 1)}{kind}"
            self.warn(f"{self.url}: left out {many} that cannot be read{first}")

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
        path, content = RunLog.new(run)
        self.files.write(path, content)

    def runs(self, last: int = 20) -> list[RunLog]:
        """Return what the last runs did and when, the newest first; without what is damaged."""
        paths = sorted(self.files.list(RUNS), reverse=True)[:last]
        bodies = self.files.read(paths)
        runs = {path: parse_run(path, bodies[path]) for path in paths if path in bodies}
        self.tell_damaged("log", [path for path, run in runs.items() if run is None], " of runs")
        return [run for run in runs.values() if run]

    def newer(self) -> list[str]:
        """Return the records that only a newer version of fmn can read."""
        return [path for path in self._listed([]) if path != NOTICE and is_foreign(path)]

    def _listed(self, kinds: Sequence[str]) -> dict[str, Stamp]:
        """List the records of some kinds, or of all, in all versions."""
        parts = [self.files.list(folder) for folder in _folders(kinds)]
        return {path: stamp for part in parts for path, stamp in part.items()}

    def _parsed(self, bodies: Mapping[str, bytes]) -> dict[str, Record | None]:
        """Return the last version of each record by path; None for one that is damaged."""
        last = {_address(path): path for path in sorted(bodies) if not is_foreign(path)}
        records = {path: parse_record(path, bodies[path]) for path in last.values()}
        damaged: dict[str, list[str]] = {}
        for path, record in records.items():
            if record is None:
                damaged.setdefault(path.split("/")[2], []).append(path)
        for kind, paths in damaged.items():
            self.tell_damaged("record", paths, f" of the kind {kind}")
        return records

    def _fault(self, record: Record | None) -> str | None:
        """Say why a record is no hit; None if it is one, or there is none."""
        if record is None:
            return None
        if not all(self.objects.is_whole(output) for output in record.outputs.values()):
            return f"an object of {record.kind} {record.key[:12]} is missing or cut off"
        read = [
            each for kind, keys in record.read.items() for each in self.find(kind, keys).values()
        ]
        if not record.is_current({each.address: each.content for each in read}):
            return f"{record.kind} {record.key[:12]} was made of what has been computed again since"
        return None

    def _compute(
        self,
        kind: str,
        key: str,
        inputs: Mapping[str, Any],
        compute: Callable[[Path], Draft],
        names: Mapping[str, Any],
        broken: Record | None,
    ) -> Record:
        with scratch() as folder:
            start = time.perf_counter()
            draft = compute(folder)
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
            read={kind: dict(contents) for kind, contents in draft.read.items()},
            made=draft.made or made(seconds, draft.device),
        )
        return self._publish(record, broken)

    def _publish(self, record: Record, broken: Record | None) -> Record:
        if broken is not None:
            same = ("outputs", "value", "read")
            if all(getattr(broken, name) == getattr(record, name) for name in same):
                return broken
            self._write(record)
            return record
        self._notice()
        if self.files.create(record.path, record.to_bytes()):
            self.mirror.changed()
            return record
        existing = self.get(record.kind, record.key)
        if existing is None:  # damaged: ours is as good as any
            self._write(record)
            return record
        return existing

    def _write(self, record: Record) -> None:
        self._notice()
        self.files.write(record.path, record.to_bytes())
        self.mirror.changed()

    def _notice(self) -> None:
        """Keep earlier versions of fmn from collecting what they do not know."""
        if not self._noticed:
            text = "fmn keeps its records in records/v2 here; use that version for 'fmn store gc'\n"
            self.files.create(NOTICE, text.encode())
            self._noticed = True


def _folders(kinds: Sequence[str]) -> list[str]:
    """Return the folders of records of some kinds, or of all."""
    return [f"records/v{version}/{kind}" for version in VERSIONS for kind in kinds] or ["records"]


def is_foreign(path: str) -> bool:
    """Tell whether what lies among the records is none of a version that is read here."""
    where = parse_address(path)
    return path == NOTICE or (where is not None and where[0] not in VERSIONS)


def _address(path: str) -> Address | str:
    """Return the address of the record at a path; the path, where none lies."""
    where = parse_address(path)
    return where[1] if where else path


def open_store(
    url: str | Path,
    *,
    cache: Path | None = None,
    patience: Patience | None = None,
    lease: float = LEASE,
    warn: Callable[[str], None] = lambda line: warnings.warn(line, stacklevel=4),
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

    def tell(line: str) -> None:  # what a store holds does nothing where it is shown
        warn(one_line(line, LONGEST))

    memo = Memo(cache / MEMO, warn=tell)
    files = _files(address(str(url)), patience or Patience(), tell)
    return Store(files, cache, memo, tell, lease)


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
