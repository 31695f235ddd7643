"""Looking after a store: what is damaged, and what nobody needs."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fmn.errors import StoreError
from fmn.store.claims import CLAIMS
from fmn.store.objects import Gone, Output
from fmn.store.records import Record
from fmn.store.store import Store
from fmn.store.tombstones import tombstone_path

GRACE = 24 * 3600.0
"""Seconds for which an object without a record may belong to a run that is going on."""

MD5 = re.compile(r"^\s*-?\s*md5:\s*([0-9a-f]{32}(?:\.dir)?)\s*$", re.MULTILINE)


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
        stones: paths of those tombstones.
    """

    objects: dict[str, int]
    kept: int
    young: int
    named_by_dvc: int
    unfinished: tuple[str, ...] = ()
    records: tuple[str, ...] = ()
    stones: tuple[str, ...] = ()


def verify(
    store: Store,
    *,
    read: bool = True,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Damage]:
    """Check that every record's objects exist and have their digests.

    Args:
        store: the store.
        read: read every object; otherwise only their existence and sizes are checked.
        progress: called with the number of records that are done, and of all.

    Raises:
        StoreError: the server failed; that is no damage.
    """
    damages: list[Damage] = []
    records, sizes = store.all(), {oid: stamp.size for oid, stamp in store.objects.all().items()}
    checked: dict[str, str | None] = {}
    for done, (path, record) in enumerate(records.items(), 1):
        if record is None:
            damages.append(Damage(path, None, "the record is damaged"))
        else:
            wrong = (
                _wrong(store, output, sizes, checked, read) for output in record.outputs.values()
            )
            damages += [Damage(path, record, what) for what in wrong if what]
        progress(done, len(records))
    return damages


def garbage(store: Store, repositories: list[Path], grace: float = GRACE) -> Garbage:
    """Find the objects that neither a record nor a DVC revision of these Git repositories needs.

    Raises:
        StoreError: a directory that is no Git repository, or a server that failed.
    """
    records = store.all()
    if damaged := [path for path, record in records.items() if record is None]:
        raise StoreError(
            f"{store.url}: {damaged[0]} is damaged, so what it needs is not known; run 'fmn store "
            "verify' first"
        )
    young_from = time.time() - grace
    stones = [path for path, stone in store.tombstones().items() if stone.time <= young_from]
    removed = dict.fromkeys(
        _removed({path: record for path, record in records.items() if record}, stones)
    )
    needed: set[str] = set()
    for path, record in records.items():
        for output in record.outputs.values() if record and path not in removed else ():
            needed |= _parts(store, output)
    named: set[str] = set()
    for repository in repositories:
        for oid in dvc_objects(repository):
            named |= _parts(
                store, Output(md5=oid, sha256="", size=0, files=0 if oid.endswith(".dir") else None)
            )
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
        tuple(map(tombstone_path, stones)),
    )


def collect(
    store: Store, garbage: Garbage, progress: Callable[[int], None] = lambda done: None
) -> None:
    """Delete garbage, in an order in which no record lacks an object: records, stones, objects."""
    for path in (*garbage.unfinished, *garbage.records, *garbage.stones):
        store.files.delete(path)
    if garbage.records:
        store.mirror.changed()
    for oid in sorted(garbage.objects):
        store.objects.delete(oid)
        progress(1)


def _removed(records: Mapping[str, Record], stones: Sequence[str]) -> list[str]:
    """Return the records that tombstones hide, after those that were derived from them."""
    hidden = dict.fromkeys(path for path in stones if path in records)
    keys = {records[path].key for path in hidden}
    derived = [
        path
        for path, record in records.items()
        if record.inputs.get("merge") in keys and path not in hidden
    ]
    return [*derived, *hidden]


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


def _parts(store: Store, output: Output) -> set[str]:
    try:
        return store.objects.parts(output)
    except Gone:
        return {output.md5}


def _wrong(
    store: Store, output: Output, sizes: dict[str, int], checked: dict[str, str | None], read: bool
) -> str | None:
    """Return what is wrong with the first bad object of an output."""
    return next(filter(None, _faults(store, output, sizes, checked, read)), None)


def _faults(
    store: Store, output: Output, sizes: dict[str, int], checked: dict[str, str | None], read: bool
) -> Iterator[str | None]:
    if output.md5 not in sizes:
        yield f"object {output.md5} is missing"
        return
    if output.files is None and sizes[output.md5] != output.size:
        yield f"object {output.md5} has {sizes[output.md5]} bytes, not {output.size}"
        return
    try:
        parts = sorted(store.objects.parts(output))
    except Gone as error:
        yield str(error)
        return
    for oid in parts:
        if oid not in sizes:
            yield f"object {oid} is missing"
        elif read:
            if oid not in checked:
                checked[oid] = store.objects.md5_of(oid)
            if checked[oid] != oid.removesuffix(".dir"):
                yield f"object {oid} is corrupt"
