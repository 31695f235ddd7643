"""Temporary folders that are known to be left over once the process that made them is dead.

Each is locked as long as it is in use. The system gives the lock back however a process ends, so a
folder without one belongs to nobody, on this machine or, where the file system passes locks on, on
any other.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: folders are not locked, and none is taken for left over
    fcntl = None  # type: ignore[assignment]

PREFIX = "fmn-scratch-"
PRIVATE = 0o700

_mine: set[Path] = set()
_swept: set[tuple[Path, str]] = set()


@contextmanager
def scratch(
    parent: Path | None = None, prefix: str = PREFIX, mode: int = PRIVATE
) -> Iterator[Path]:
    """Give an empty folder that is removed at the end.

    Before the first of its kind, those that dead processes left beside it are removed.

    Args:
        parent: where; None is the system's place for temporary files.
        prefix: of its name.
        mode: its permissions, before this process's mask.
    """
    place = (parent or Path(tempfile.gettempdir())).absolute()
    if (place, prefix) not in _swept:
        _swept.add((place, prefix))
        sweep(place, prefix)
    folder, lock = _locked(place, prefix, mode)
    _mine.add(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _mine.discard(folder)
        if lock is not None:
            os.close(lock)


def sweep(parent: Path | None = None, prefix: str = PREFIX) -> int:
    """Remove the folders that dead processes of this user left in a place; return their bytes.

    Whatever cannot be looked at or removed stays.
    """
    place = parent or Path(tempfile.gettempdir())
    name, size = re.compile(re.escape(prefix) + "[0-9a-f]{12}"), 0
    with suppress(OSError):
        for entry in os.scandir(place):
            if name.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                size += _remove_if_dead(Path(entry.path))
    return size


def remove_all() -> None:
    """Remove this process's folders, for it is about to end."""
    for folder in list(_mine):
        shutil.rmtree(folder, ignore_errors=True)


def _locked(place: Path, prefix: str, mode: int) -> tuple[Path, int | None]:
    """Make a folder, and return it with the descriptor that holds its lock, if it can be locked."""
    while True:
        folder = place / f"{prefix}{os.urandom(6).hex()}"
        folder.mkdir(mode)
        try:
            lock = _lock(folder, wait=True)
        except FileNotFoundError:  # swept before it was locked
            continue
        if lock is None or folder.is_dir():
            return folder, lock
        os.close(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """Lock a folder of this user; return None if somebody else has, or it cannot be locked.

    Raises:
        FileNotFoundError: it is not there any more.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    with suppress(OSError):
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            return descriptor
    os.close(descriptor)
    return None


def _remove_if_dead(folder: Path) -> int:
    with suppress(OSError):
        lock = _lock(folder, wait=False)
        if lock is not None:
            try:
                size = sum(path.lstat().st_size for path in folder.rglob("*"))
                shutil.rmtree(folder, ignore_errors=True)
                return size
            finally:
                os.close(lock)
    return 0


def _forget() -> None:
    """A forked child works in no folder of its parent's."""
    _mine.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
