"""Objects in DVC's own layout, so that a store is a DVC remote; only this knows dvc-data."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fmn.errors import StoreError
from fmn.keys import digest
from fmn.schema import Frozen
from fmn.scratch import scratch
from fmn.store.files import Directory, Files, Stamp
from fmn.store.memo import Memo

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.base import FileSystem

LAYOUT = "files/md5"
ARRIVING = "arriving"
"""Where, in a cache, copies are until they are whole."""

CHUNK = 2**20
READ_ONLY = 0o444


class Output(Frozen):
    """A file or directory of a result.

    Attributes:
        md5: DVC's name for it; that of a directory ends in ``.dir`` and lists its files.
        sha256: of the content; of a directory over relative paths and contents.
        size: bytes; of a directory those of all its files, equal ones once.
        files: how many; None for a single file.
    """

    md5: str
    sha256: str
    size: int
    files: int | None = None


class Gone(Exception):  # noqa: N818 (no error: a miss that is repaired)
    """An object that is missing, cut off, or not what its name says."""


class Objects:
    """The objects of one store, and this machine's copies of them."""

    def __init__(self, files: Files, cache: Path, memo: Memo) -> None:
        """Make them.

        Args:
            files: the store's.
            cache: directory for copies of what lies on a server, which are whole once they have
                left its folder ``arriving``.
            memo: remembers the digests of local files.
        """
        self._files, self._memo = files, memo
        self._is_local = isinstance(files, Directory)
        self.arriving = cache / ARRIVING
        from dvc_data.hashfile.db import get_odb
        from dvc_objects.fs.local import LocalFileSystem

        self._here = LocalFileSystem()
        fs = self._here if self._is_local else _remote(files)
        self._remote: HashFileDB = get_odb(fs, f"{files.root}/{LAYOUT}", hash_name="md5")
        home = Path(files.root) if self._is_local else cache
        self._local: HashFileDB = get_odb(self._here, str(home / LAYOUT), hash_name="md5")

    def add(self, path: Path, *, repair: bool = False) -> Output:
        """Store a file or a directory (links in it are followed).

        Args:
            path: of it.
            repair: write objects that seem to be there, too.
        """
        if path.is_file():
            output = self._digests(path)
            self._put(output.md5, path, repair)
            return output
        files = {
            file.relative_to(path).as_posix(): file
            for file in sorted(path.rglob("*"))
            if file.is_file()
        }
        outputs = {name: self._digests(file) for name, file in files.items()}
        for md5, file in {output.md5: files[name] for name, output in outputs.items()}.items():
            self._put(md5, file, repair)
        from dvc_data.hashfile.hash_info import HashInfo
        from dvc_data.hashfile.meta import Meta
        from dvc_data.hashfile.tree import Tree

        tree = Tree()
        for name, output in outputs.items():
            tree.add(tuple(name.split("/")), Meta(), HashInfo("md5", output.md5))
        tree.digest()
        assert tree.oid is not None
        listing = tree.as_bytes()
        self._files.write(self._path(tree.oid), listing)
        return Output(
            md5=tree.oid,
            sha256=_tree_digest(outputs),
            size=sum({output.md5: output.size for output in outputs.values()}.values()),
            files=len(outputs),
        )

    def fetch(self, output: Output) -> Path:
        """Return a local, verified copy of a file; it is read-only and stays.

        Raises:
            Gone: missing, cut off or corrupt.
            StoreError: the server failed.
        """
        path, digests = self._copy(output.md5)
        if digests != output:
            raise Gone(f"object {output.md5} is not what its record says")
        return path

    def check_out(self, output: Output, dest: Path) -> None:
        """Link a file or directory, which is read-only then, to ``dest``; or copy it.

        Raises:
            Gone, StoreError: see :meth:`fetch`.
        """
        if output.files is None:
            _link(self.fetch(output), dest)
            return
        copies = {name: self._copy(md5) for name, md5 in self.entries(output).items()}
        if _tree_digest({name: digests for name, (_, digests) in copies.items()}) != output.sha256:
            raise Gone(f"object {output.md5} lists other files than its record says")
        dest.mkdir(parents=True, exist_ok=True)
        for name, (path, _) in copies.items():
            target = dest / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)

    def entries(self, output: Output) -> dict[str, str]:
        """Return the files of a directory: relative path to md5.

        Raises:
            Gone: its list is missing or not what its name says.
        """
        path = self._path(output.md5)
        content = self._files.read([path]).get(path)
        if content is None:
            raise Gone(f"object {output.md5} is missing")
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != output.md5.removesuffix(
            ".dir"
        ):
            raise Gone(f"object {output.md5} is corrupt")
        entries = {entry["relpath"]: entry["md5"] for entry in json.loads(content)}
        if strays := [name for name in entries if name.startswith("/") or ".." in name.split("/")]:
            raise StoreError(
                f"object {output.md5} names a file outside of its directory: {strays[0]!r}; "
                "nothing was written"
            )
        return entries

    def is_whole(self, output: Output) -> bool:
        """Tell by a look at its size whether an object is there; :meth:`fetch` reads it."""
        stamp = self._files.stamp(self._path(output.md5))
        if output.files is not None:
            return stamp is not None
        return stamp is not None and stamp.size == output.size

    def parts(self, output: Output) -> set[str]:
        """Return the names of all objects that an output needs.

        Raises:
            Gone: the list of a directory is not there.
        """
        return (
            {output.md5} if output.files is None else {output.md5, *self.entries(output).values()}
        )

    def all(self) -> dict[str, Stamp]:
        """List every object."""
        listed = self._files.list(LAYOUT)
        return {
            path.removeprefix(f"{LAYOUT}/").replace("/", "", 1): stamp
            for path, stamp in listed.items()
        }

    def md5_of(self, oid: str) -> str | None:
        """Read an object as it is in the store, and return its md5; None if it is not there."""
        hasher = hashlib.md5(usedforsecurity=False)

        def read() -> None:
            nonlocal hasher
            hasher = hashlib.md5(usedforsecurity=False)
            with self._remote.fs.open(self._remote.oid_to_path(oid), "rb") as file:
                while chunk := file.read(CHUNK):
                    hasher.update(chunk)

        try:
            self._files.guarded(f"read object {oid}", read, absent=True)
        except FileNotFoundError:
            return None
        return hasher.hexdigest()

    def delete(self, oid: str) -> None:
        """Remove an object from the store."""
        self._files.delete(self._path(oid))

    def _path(self, oid: str) -> str:
        return f"{LAYOUT}/{oid[:2]}/{oid[2:]}"

    def _put(self, md5: str, path: Path, repair: bool) -> None:
        stamp = None if repair else self._files.stamp(self._path(md5))
        if stamp is not None and stamp.size == path.stat().st_size:
            return
        real = str(path.resolve())
        put = lambda: self._remote.add(real, self._here, md5, check_exists=False)  # noqa: E731
        self._files.guarded(f"write object {md5}", put)
        if not self._is_local:
            with contextlib.suppress(OSError):  # a copy here is a convenience
                copy = Path(self._local.oid_to_path(md5))
                if not copy.is_file():
                    self._make_room(copy)
                    self._keep(copy, lambda staged: shutil.copyfile(real, staged))

    def _copy(self, md5: str) -> tuple[Path, Output]:
        """Return a local copy of an object, and its digests."""
        path = Path(self._local.oid_to_path(md5))
        if not path.is_file():
            self._download(md5, path)
        digests = self._digests(path)
        if digests.md5 != md5 and not self._is_local:  # the damage may be in the copy here alone
            path.unlink(missing_ok=True)
            self._download(md5, path)
            digests = self._digests(path)
        if digests.md5 != md5:
            raise Gone(f"object {md5} is corrupt")
        return path, digests

    def _download(self, md5: str, path: Path) -> None:
        if self._is_local:
            raise Gone(f"object {md5} is missing")
        try:
            self._make_room(path)
        except OSError as error:
            raise StoreError(
                f"cannot keep a copy of object {md5} in {path.parent}: {error.strerror}; set "
                "FMN_CACHE to another directory"
            ) from error

        def get() -> None:
            source, fs = self._remote.oid_to_path(md5), self._remote.fs
            self._keep(path, lambda to: fs.get_file(source, str(to), max_concurrency=fs.jobs))

        try:
            self._files.guarded(f"read object {md5}", get, absent=True)
        except FileNotFoundError as error:
            raise Gone(f"object {md5} is missing") from error

    def _keep(self, path: Path, fill: Callable[[Path], object]) -> None:
        """Fill a local copy of an object, which is there whole or not at all."""
        with scratch(self.arriving) as folder:
            copy = folder / path.name
            fill(copy)
            copy.chmod(READ_ONLY)
            copy.replace(path)

    def _make_room(self, path: Path) -> None:
        for folder in (path.parent, self.arriving):
            folder.mkdir(parents=True, exist_ok=True)

    def _digests(self, path: Path) -> Output:
        """Return both digests of a file, remembered by path, size and time."""
        return Output.model_validate(
            self._memo.digest("file", [path], lambda: _digests(path).model_dump())
        )


def _remote(files: Files) -> FileSystem:
    """Return an s3fs file system that is set up already, as dvc-data wants it."""
    from dvc_objects.fs.base import ObjectFileSystem

    class S3(ObjectFileSystem):
        protocol = "s3"
        PARAM_CHECKSUM = "etag"

    return S3(fs=files.filesystem())


def _digests(path: Path) -> Output:
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            md5.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return Output(md5=md5.hexdigest(), sha256=sha256.hexdigest(), size=size)


def _tree_digest(outputs: Mapping[str, Output]) -> str:
    return digest("tree", sorted([name, output.sha256] for name, output in outputs.items()))


def _link(source: Path, dest: Path) -> None:
    """Link a file, or copy it where that cannot be done."""
    with contextlib.suppress(PermissionError):  # a colleague's file in a shared directory
        source.chmod(READ_ONLY)
    try:
        os.link(source, dest)
    except FileExistsError:
        raise
    except OSError:
        shutil.copyfile(source, dest)
