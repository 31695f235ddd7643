"""Files and directories that appear finished or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fmn.errors import OutputError


def check_new(dest: Path, need_bytes: int = 0) -> None:
    """Check, before any expensive work, that ``dest`` does not exist, can be made, and that there is room for it.

    Raises:
        OutputError: with what to do, in one line.
    """
    if dest.exists() or dest.is_symlink():
        raise OutputError(f"{dest} exists already; remove it or choose another output")
    parent = next(folder for folder in dest.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {dest}: {parent} is not a directory that this user can write to")
    free = shutil.disk_usage(parent).free
    if free < need_bytes:
        raise OutputError(f"{dest} needs {need_bytes / 1e6:,.0f} MB but {parent} has {free / 1e6:,.0f} MB free; make room first")


@contextmanager
def new_directory(dest: Path) -> Iterator[Path]:
    """Give a hidden directory beside ``dest`` to fill; rename it to ``dest`` at the end, or remove it after an error.

    A process that is killed leaves at most the hidden directory ``.NAME.partial-…``, never ``dest``.

    Raises:
        OutputError: ``dest`` exists, cannot be made, or the disk is full.
    """
    check_new(dest)
    with _readable_os_errors(dest):
        dest.absolute().parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{dest.name}.partial-", dir=dest.absolute().parent))
        try:
            staging.chmod(0o777 & ~_umask())
            yield staging
            staging.rename(dest)  # fails if somebody else made a non-empty dest meanwhile
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


@contextmanager
def new_file(dest: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a path that does not exist yet, beside ``dest``; rename it to ``dest`` at the end, or remove it after an error.

    Raises:
        OutputError: ``dest`` exists (unless ``replace``), cannot be made, or the disk is full.
    """
    if not replace:
        check_new(dest)
    with _readable_os_errors(dest):
        dest.absolute().parent.mkdir(parents=True, exist_ok=True)
        staging = dest.with_name(f".{dest.name}.partial-{os.getpid()}-{os.urandom(4).hex()}")
        try:
            yield staging
            staging.rename(dest)
        finally:
            staging.unlink(missing_ok=True)


@contextmanager
def _readable_os_errors(dest: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutputError(
                f"the disk is full: {dest} could not be finished and was removed; make room and run again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY):
            raise OutputError(f"cannot write {dest}: {error.strerror or error}") from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
