"""Where a store's bytes are: what any such place does, and a directory that does it."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from fmn.errors import StoreError
from fmn.store.names import OWN, inside, own

T = TypeVar("T")

LARGEST = 64 * 2**20
"""Bytes of a file that is read at once, at most; of a larger one so many and one more are read."""


@dataclass(frozen=True)
class Stamp:
    """What a listing tells of a file.

    Attributes:
        size: bytes.
        modified: seconds since 1970.
        tag: differs whenever the content does (an ETag, or the time in nanoseconds).
    """

    size: int
    modified: float
    tag: str


@dataclass(frozen=True)
class Patience:
    """How long a server that fails is asked again.

    Attributes:
        attempts: requests in all.
        first: seconds before the second; each further wait is twice as long.
        longest: seconds between two at most.
        connect: seconds that a connection may take.
        read: seconds without a byte.
    """

    attempts: int = 7
    first: float = 0.25
    longest: float = 8.0
    connect: float = 10.0
    read: float = 60.0

    def wait(self, attempt: int) -> None:
        """Sleep after that many failed attempts."""
        time.sleep(min(self.longest, self.first * 2 ** (attempt - 1)))


class Files(ABC):
    """Files by relative path, each under the store.

    A path that is not there is None or absent; every other failure is a :class:`StoreError`, a path
    that leads out of the store too.
    """

    url: str
    is_conditional = True
    """Whether :meth:`create` keeps its promise when several write at once, as far as is known."""

    @abstractmethod
    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Return the content of those that are there."""

    @abstractmethod
    def write(self, path: str, content: bytes, media_type: str | None = None) -> None:
        """Write whole or not at all, in place of what was there; servers keep the media type."""

    @abstractmethod
    def create(self, path: str, content: bytes) -> bool:
        """Write a new file; return False, and change nothing, if there is one already."""

    @abstractmethod
    def list(self, prefix: str) -> dict[str, Stamp]:
        """Return every file under a directory, in alphabetical order."""

    def unfinished(self) -> dict[str, Stamp]:
        """Return what writers that were killed left behind; a server of objects has none of it."""
        return {}

    @abstractmethod
    def stamp(self, path: str) -> Stamp | None:
        """Return what a listing would tell of one file."""

    def delete(self, path: str) -> None:
        """Remove a file from one of the store's own folders, if it is there."""
        self._delete(own(path))

    @abstractmethod
    def _delete(self, path: PurePosixPath) -> None:
        """Remove a file, if it is there."""

    @abstractmethod
    def filesystem(self) -> Any:
        """Return the fsspec file system."""

    @property
    @abstractmethod
    def root(self) -> str:
        """Where the file system has the store."""

    def guarded(self, what: str, operation: Callable[[], T], *, absent: bool = False) -> T:
        """Run an operation of the file system; say what failed, and what to check, if it does.

        Args:
            what: it does.
            operation: to run.
            absent: a file that is not there is an answer.

        Raises:
            FileNotFoundError: as the operation does, with ``absent``.
            StoreError: anything else.
        """
        try:
            return operation()
        except StoreError:
            raise
        except OSError as error:
            if absent and isinstance(error, FileNotFoundError):
                raise
            raise StoreError(f"{self.url}: cannot {what}: {error.strerror or error}") from error


DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)


class Directory(Files):
    """A directory that several processes may use at once."""

    def __init__(self, path: Path) -> None:
        self._path = path.expanduser().absolute()
        self.url = str(path)

    @property
    def root(self) -> str:
        """The directory."""
        return str(self._path)

    def filesystem(self) -> Any:
        """Return fsspec's local file system."""
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    def read(self, paths: Iterable[str]) -> dict[str, bytes]:
        """Read files."""
        contents = {}
        for path in paths:
            with suppress(FileNotFoundError):
                contents[path] = self.guarded(
                    f"read {path}", partial(_head, self._at(path)), absent=True
                )
        return contents

    def write(self, path: str, content: bytes, media_type: str | None = None) -> None:
        """Write beside the file, then rename."""
        dest = self._at(path)
        self.guarded(f"write {path}", lambda: _staged(dest, content).replace(dest))

    def create(self, path: str, content: bytes) -> bool:
        """Write beside the file, then link, which fails where a file is (or rename)."""
        dest = self._at(path)

        def link() -> bool:
            if dest.exists():
                return False
            staged = _staged(dest, content)
            try:
                os.link(staged, dest)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                staged.replace(dest)
            finally:
                staged.unlink(missing_ok=True)
            return True

        return self.guarded(f"write {path}", link)

    def list(self, prefix: str) -> dict[str, Stamp]:
        """Walk a directory."""
        return self._walked(prefix, hidden=False)

    def unfinished(self) -> dict[str, Stamp]:
        """Walk the store's folders for the hidden files that are renamed once they are whole."""
        walked = [self._walked(folder, hidden=True) for folder in OWN]
        return {path: stamp for part in walked for path, stamp in part.items()}

    def _walked(self, prefix: str, *, hidden: bool) -> dict[str, Stamp]:
        def refuse(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise error

        def walk() -> dict[str, Stamp]:
            stamps = {}
            for folder, _, names in os.walk(self._path / prefix, onerror=refuse):
                for name in names:
                    if name.startswith(".") == hidden:
                        path = Path(folder, name)
                        with suppress(FileNotFoundError):
                            stamps[path.relative_to(self._path).as_posix()] = _stamp(path)
            return dict(sorted(stamps.items()))

        return self.guarded(f"list {prefix or 'it'}", walk)

    def stamp(self, path: str) -> Stamp | None:
        """Look at one file."""
        with suppress(FileNotFoundError):
            return self.guarded(f"look at {path}", lambda: _stamp(self._at(path)), absent=True)
        return None

    def _delete(self, path: PurePosixPath) -> None:
        """Remove a file, going down folder by folder: a link among them leads out, and fails."""

        def unlink() -> None:
            with ExitStack() as stack:
                folder = os.open(self._path, DIRECTORY)
                stack.callback(os.close, folder)
                for name in path.parts[:-1]:
                    folder = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                    stack.callback(os.close, folder)
                os.unlink(path.name, dir_fd=folder)

        with suppress(FileNotFoundError):
            self.guarded(f"delete {path}", unlink, absent=True)

    def _at(self, path: str) -> Path:
        return self._path / inside(path)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LARGEST + 1)


def _staged(dest: Path, content: bytes) -> Path:
    dest.parent.mkdir(parents=True, exist_ok=True)
    staged = dest.with_name(f".{dest.name}.partial-{os.getpid()}-{os.urandom(4).hex()}")
    try:
        staged.write_bytes(content)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return staged


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return Stamp(stat.st_size, stat.st_mtime, str(stat.st_mtime_ns))
