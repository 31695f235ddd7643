"""Objects in DVC's own layout, so that a store is a DVC remote; only this knows dvc-data."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Self

from pydantic import BaseModel, NonNegativeInt, TypeAdapter, model_validator

from fmn.errors import StoreError
from fmn.keys import digest
from fmn.schema import Frozen
from fmn.scratch import scratch
from fmn.store.files import Directory, Files, Stamp
from fmn.store.memo import SMALL, Memo
from fmn.store.names import FileMd5, ObjectName, RelativeName, Sha256

if TYPE_CHECKING:
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.base import FileSystem

LAYOUT = "files/md5"
OBJECT = re.compile(rf"{LAYOUT}/([0-9a-f]{{2}})/([0-9a-f]{{30}}(?:\.dir)?)")
ARRIVING = "arriving"
"""Where, in a store's directory or a cache, objects are until they are whole."""

MD5 = re.compile("[0-9a-f]{32}")
"""What a server's tag of an object that came in one piece looks like, and mostly is."""

FEW = 40
"""Objects that are asked for one by one; more are looked up in a listing."""

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

    md5: ObjectName
    sha256: Sha256
    size: NonNegativeInt
    files: NonNegativeInt | None = None

    @model_validator(mode="after")
    def _list_or_file(self) -> Self:
        if self.md5.endswith(".dir") != (self.files is not None):
            raise ValueError("a list of files is named .dir, and a file is not")
        return self


class _Nameless(BaseModel):
    """A file in the list of a directory, as DVC writes it."""

    md5: FileMd5


class _Entry(_Nameless):
    """The same, with its name."""

    relpath: RelativeName


_LIST, _NAMELESS = TypeAdapter(list[_Entry]), TypeAdapter(list[_Nameless])


class Gone(Exception):  # noqa: N818 (no error: a miss that is repaired)
    """An object that is missing, cut off, or not what its name says."""


class Objects:
    """The objects of one store, and this machine's copies of them."""

    def __init__(self, files: Files, cache: Path, memo: Memo) -> None:
        """Make them.

        Args:
            files: the store's.
            cache: directory for copies of what lies on a server.
            memo: remembers the digests of local files.
        """
        self._files, self._memo = files, memo
        self._is_local = isinstance(files, Directory)
        home = Path(files.root) if self._is_local else cache
        self.arriving = home / ARRIVING
        from dvc_data.hashfile.db import get_odb
        from dvc_objects.fs.local import LocalFileSystem

        self._here = LocalFileSystem()
        fs = self._here if self._is_local else _remote(files)
        self._remote: HashFileDB = get_odb(fs, f"{files.root}/{LAYOUT}", hash_name="md5")
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
            sha256=tree_digest(outputs),
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
        copies = {name: self._copy(md5) for name, md5 in self.entries(output.md5).items()}
        if tree_digest({name: digests for name, (_, digests) in copies.items()}) != output.sha256:
            raise Gone(f"object {output.md5} lists other files than its record says")
        dest.mkdir(parents=True, exist_ok=True)
        for name, (path, _) in copies.items():
            target = dest / name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(path, target)

    def entries(self, name: str) -> dict[str, str]:
        """Return the files of a directory, by the name of its list: relative path to MD5.

        Raises:
            Gone: the list is missing, not what its name says, or names what cannot be in it.
        """
        try:
            listed = _LIST.validate_json(self._list(name))
        except ValueError as error:
            raise Gone(f"object {name} is not a list of files in a directory") from error
        entries = {entry.relpath: entry.md5 for entry in listed}
        folders = {str(folder) for path in entries for folder in PurePosixPath(path).parents}
        if len(entries) < len(listed) or folders & entries.keys():
            raise Gone(f"object {name} lists a name twice")
        return entries

    def is_whole(self, output: Output) -> bool:
        """Tell by sizes whether each object of an output is there; fetching reads them."""
        try:
            files = self.parts(output.md5) - ({output.md5} if output.files is not None else set())
        except Gone:
            return False
        stamps = [self._files.stamp(self._path(name)) for name in sorted(files)]
        return None not in stamps and sum(stamp.size for stamp in stamps if stamp) == output.size

    def lost(self, files: Sequence[Output]) -> set[str]:
        """Return the names of those files that are not there, or cut off.

        Many on a server are looked up in a listing, and not one by one.
        """
        if self._is_local or len(files) <= FEW:
            return {file.md5 for file in files if not self.is_whole(file)}
        sizes = {name: stamp.size for name, stamp in self.all().items()}
        return {file.md5 for file in files if sizes.get(file.md5) != file.size}

    def parts(self, name: str) -> set[str]:
        """Return the names of all objects that an object needs, itself included.

        Raises:
            Gone: the list of a directory is not there.
        """
        if not name.endswith(".dir"):
            return {name}
        try:  # what DVC keeps may have files that fmn would not write
            return {name, *(entry.md5 for entry in _NAMELESS.validate_json(self._list(name)))}
        except ValueError as error:
            raise Gone(f"object {name} is not a list of files") from error

    def _list(self, name: str) -> bytes:
        path = self._path(name)
        content = self._files.read([path]).get(path)
        if content is None:
            raise Gone(f"object {name} is missing")
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != name.removesuffix(".dir"):
            raise Gone(f"object {name} is corrupt")
        return content

    def all(self) -> dict[str, Stamp]:
        """List every object."""
        listed = self._files.list(LAYOUT)
        named = ((OBJECT.fullmatch(path), stamp) for path, stamp in listed.items())
        return {match[1] + match[2]: stamp for match, stamp in named if match}

    def read(self, name: str) -> Output | None:
        """Read an object as it is in the store, for its digests; None if it is not there."""

        def read() -> Output:
            with self._remote.fs.open(self._remote.oid_to_path(name), "rb") as file:
                return _digests_of(file)

        try:
            return self._files.guarded(f"read object {name}", read, absent=True)
        except FileNotFoundError:
            return None

    def delete(self, oid: str) -> None:
        """Remove an object from the store."""
        self._files.delete(self._path(oid))

    def _path(self, oid: str) -> str:
        return f"{LAYOUT}/{oid[:2]}/{oid[2:]}"

    def _put(self, md5: str, path: Path, repair: bool) -> None:
        if not repair and self._is_there(md5, path.stat().st_size):
            return
        real, copy = path.resolve(), Path(self._local.oid_to_path(md5))

        def keep() -> None:
            self._make_room(copy)
            self._keep(copy, lambda staged: shutil.copyfile(real, staged))

        def send() -> None:
            self._remote.add(str(real), self._here, md5, check_exists=False)

        self._files.guarded(f"write object {md5}", keep if self._is_local else send)
        if not self._is_local and not copy.is_file():
            with contextlib.suppress(OSError):  # a copy here is a convenience
                keep()

    def _is_there(self, md5: str, size: int) -> bool:
        """Tell whether the store has an object, and as far as that is cheap, not a corrupt one."""
        stamp = self._files.stamp(self._path(md5))
        if stamp is None or stamp.size != size:
            return False
        if self._is_local:
            return self._digests(Path(self._local.oid_to_path(md5))).md5 == md5
        return not MD5.fullmatch(stamp.tag) or stamp.tag == md5

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
        """Return both digests of a file; those of a large one may be remembered."""
        if path.stat().st_size <= SMALL:
            return _digests(path)
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
    with path.open("rb") as file:
        return _digests_of(file)


def _digests_of(file: BinaryIO) -> Output:
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        md5.update(chunk)
        sha256.update(chunk)
        size += len(chunk)
    return Output(md5=md5.hexdigest(), sha256=sha256.hexdigest(), size=size)


def tree_digest(outputs: Mapping[str, Output]) -> str:
    """Return the digest of a directory: of names and contents."""
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
