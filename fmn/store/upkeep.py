"""Looking after a store: what is damaged, and what nobody needs."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fmn import scratch
from fmn.errors import StoreError
from fmn.store.claims import CLAIMS
from fmn.store.names import Address
from fmn.store.objects import Gone, Output, tree_digest
from fmn.store.records import Record
from fmn.store.store import Store

GRACE = 24 * 3600.0
"""Seconds for which an object without a record may belong to a run that is going on."""

MD5 = re.compile(r"^\s*-?\s*md5:\s*([0-9a-f]{32}(?:\.dir)?)\s*$", re.MULTILINE)


NAME = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?:\.dir)?(?![0-9a-f])")


@dataclass(frozen=True)
class Damage:
    """Something that is not as it should be.

    Attributes:
        path: of the record.
        record: None if the record itself is damaged.
        what: is wrong.
    """

    path: str
    record: Record | None
    what: str


@dataclass(frozen=True)
class Garbage:
    """Objects that neither a record nor a DVC revision needs, and records that somebody removed.

    Attributes:
        objects: bytes by name.
        kept: how many objects stay.
        young: how many stay only because they are younger than the grace.
        named_by_dvc: how many stay only because a DVC revision names them.
        unfinished: files and claims that writers which were killed left behind, older than the
            grace.
        records: that tombstones older than the grace hide, after those that were derived from them.
        stones: what those tombstones hide.
    """

    objects: dict[str, int]
    kept: int
    young: int
    named_by_dvc: int
    unfinished: tuple[str, ...] = ()
    records: tuple[Address, ...] = ()
    stones: tuple[Address, ...] = ()


def verify(
    store: Store,
    *,
    read: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Damage]:
    """Check that every record's objects exist and have their digests.

    A corrupt object is removed: nobody can use it, and a run that looks for it computes it again.

    Args:
        store: the store.
        read: read every object; otherwise only their existence and sizes are checked.
        progress: called with the number of records that are done, and of all.

    Raises:
        StoreError: the server failed; that is no damage.
    """
    damages: list[Damage] = []
    store.tombstones()  # those that are damaged are told
    store.runs()
    records = store.all()
    check = _Check(store, read)
    contents = {record.address: record.content for record in records.values() if record}
    for done, (path, record) in enumerate(records.items(), 1):
        if record is None:
            damages.append(Damage(path, None, "the record is damaged"))
        else:
            faults = (next(check(output), None) for output in record.outputs.values())
            damages += [Damage(path, record, what) for what in faults if what]
            if not record.is_current(contents):
                damages.append(Damage(path, record, "it was made of what was computed again since"))
        progress(done, len(records))
    return damages


def garbage(store: Store, repositories: list[Path], grace: float = GRACE) -> Garbage:
    """Find the objects that neither a record nor a DVC revision of these Git repositories needs.

    Raises:
        StoreError: a directory that is no Git repository, or a server that failed.
    """
    if newer := store.newer():
        raise StoreError(
            f"{store.url}: a newer version of fmn wrote {newer[0]}, and what that needs is not "
            "known here; use that version for 'fmn store gc'"
        )
    records = store.all()
    young_from = time.time() - grace
    stones = [where for where, stone in store.tombstones().items() if stone.time <= young_from]
    sound = {record.address: record for record in records.values() if record}
    removed = dict.fromkeys(_removed(sound, stones))
    needed: set[str] = set()
    for where, record in sound.items():
        for output in record.outputs.values() if where not in removed else ():
            needed |= _parts(store, output.md5)
    for oid in _named_by_damaged(store, [path for path, record in records.items() if not record]):
        needed |= _parts(store, oid)
    named: set[str] = set()
    for repository in repositories:
        for oid in dvc_objects(repository):
            named |= _parts(store, oid)
    objects = store.objects.all()
    loose = {oid: stamp for oid, stamp in objects.items() if oid not in needed and oid not in named}
    dropped = {oid: stamp.size for oid, stamp in loose.items() if stamp.modified <= young_from}
    only_dvc = sum(oid in named and oid not in needed for oid in objects)
    unfinished = tuple(
        path
        for path, stamp in (store.files.unfinished() | store.files.list(CLAIMS)).items()
        if stamp.modified <= young_from
    )
    return Garbage(
        dropped,
        len(objects) - len(dropped),
        len(loose) - len(dropped),
        only_dvc,
        unfinished,
        tuple(removed),
        tuple(stones),
    )


def collect(
    store: Store, garbage: Garbage, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Delete garbage, in an order in which no record lacks an object: records, stones, objects."""
    for path in garbage.unfinished:
        store.files.delete(path)
    for where in garbage.records:
        store.drop(where)
    for where in garbage.stones:
        store.unhide(where)
    for oid in sorted(garbage.objects):
        store.objects.delete(oid)
        progress(1)


def sweep(store: Store) -> int:
    """Remove what killed processes of this machine left among temporary files; return its bytes."""
    return scratch.sweep() + scratch.sweep(store.objects.arriving)


def _removed(records: Mapping[Address, Record], stones: Sequence[Address]) -> list[Address]:
    """Return the results that tombstones hide, after those that were derived from them."""
    hidden = dict.fromkeys(where for where in stones if where in records)
    keys = {where.key for where in hidden}
    derived = [
        where
        for where, record in records.items()
        if record.inputs.get("merge") in keys and where not in hidden
    ]
    return [*derived, *hidden]


def _named_by_damaged(store: Store, paths: Sequence[str]) -> set[str]:
    """Return what may be names of objects in damaged records, which may be theirs still."""
    bodies = store.files.read(paths)
    return {name for body in bodies.values() for name in NAME.findall(body.decode(errors="ignore"))}


def dvc_objects(repository: Path) -> set[str]:
    """Return the objects that any commit, the index or the working tree names for DVC.

    Raises:
        StoreError: no Git repository.
    """
    named: set[str] = set()
    changes = (
        "diff-tree",
        "--stdin",
        "-r",
        "-m",
        "--root",
        "--no-commit-id",
        "--",
        "*dvc.lock",
        "*.dvc",
    )
    raw = _git(repository, *changes, stdin=_git(repository, "rev-list", "--all"))
    blobs = {
        blob
        for line in raw.splitlines()
        if line.rstrip('"').endswith((".dvc", "dvc.lock"))
        for blob in line.split()[2:4]
    }
    named |= set(
        MD5.findall(_git(repository, "cat-file", "--batch", stdin="\n".join(sorted(blobs))))
    )
    for file in (*repository.rglob("dvc.lock"), *repository.rglob("*.dvc")):
        if file.is_file() and ".dvc" not in file.relative_to(repository).parts[:-1]:
            named |= set(MD5.findall(file.read_text(encoding="utf-8")))
    return named


def _git(repository: Path, *arguments: str, stdin: str = "") -> str:
    command = ["git", "-C", str(repository), *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise StoreError(
            f"{repository}: git {arguments[0]} failed ({' '.join(done.stderr.split())}); name a "
            "Git repository"
        )
    return done.stdout


def _parts(store: Store, oid: str) -> set[str]:
    try:
        return store.objects.parts(oid)
    except Gone:
        return {oid}


class _Check:
    """Says what is wrong with outputs; an object is read once."""

    def __init__(self, store: Store, read: bool) -> None:
        self._objects, self._reads = store.objects, read
        self._sizes = {oid: stamp.size for oid, stamp in store.objects.all().items()}
        self._digests: dict[str, Output | None] = {}

    def __call__(self, output: Output) -> Iterator[str]:
        if output.md5 not in self._sizes:
            yield f"object {output.md5} is missing"
            return
        if output.files is None:
            yield from self._file(output)
            return
        try:
            entries = self._objects.entries(output.md5)
        except Gone as error:
            yield str(error)
            return
        names = sorted(set(entries.values()))
        yield from (f"object {name} is missing" for name in names if name not in self._sizes)
        size = sum(self._sizes.get(name, 0) for name in names)
        if size != output.size:
            yield f"the files of {output.md5} have {size} bytes, not {output.size}"
        if self._reads:
            digests = {name: self._read(name) for name in names}
            yield from (f"object {name} is corrupt" for name in names if digests[name] is None)
            parts = {path: digest for path, md5 in entries.items() if (digest := digests[md5])}
            if len(parts) == len(entries) and tree_digest(parts) != output.sha256:
                yield f"object {output.md5} lists other files than its record says"

    def _file(self, output: Output) -> Iterator[str]:
        if self._sizes[output.md5] != output.size:
            yield f"object {output.md5} has {self._sizes[output.md5]} bytes, not {output.size}"
        elif self._reads:
            digests = self._read(output.md5)
            if digests is None:
                yield f"object {output.md5} is corrupt"
            elif digests != output:
                yield f"object {output.md5} is not what its record says"

    def _read(self, name: str) -> Output | None:
        """Return the digests of an object.

        None for a corrupt one, which is removed: it is nothing that anybody could use, and a run
        that looks for it computes it again.
        """
        if name not in self._digests:
            digests = self._objects.read(name)
            if digests is not None and digests.md5 != name:
                digests = self._objects.read(name)  # a fault of reading would pass
            if digests is not None and digests.md5 != name:
                digests = None
                with suppress(StoreError):  # a store that can only be read
                    self._objects.delete(name)
            self._digests[name] = digests
        return self._digests[name]
