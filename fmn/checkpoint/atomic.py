"""Files and directories that appear finished or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fmn.errors import OutputError
from fmn.scratch import scratch

PUBLIC = 0o777
"""Permissions of what people get, before their mask."""


def check_new(dest: Path, need_bytes: int = 0) -> None:
    """Check, before any expensive work, that ``dest`` is new, can be made, and has room.

    Raises:
        OutputError: with what to do, in one line.
    """
    with _making(dest):
        if dest.exists() or dest.is_symlink():
            raise OutputError(f"{dest} exists already; remove it or choose another output")
    _check_writable(dest, need_bytes)


def _check_writable(dest: Path, need_bytes: int = 0) -> None:
    with _making(dest):
        parent = next(folder for folder in dest.absolute().parents if folder.exists())
        free = shutil.disk_usage(parent).free
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"cannot write {dest}: {parent} is not a directory that this user can write to"
        )
    if free < need_bytes:
        raise OutputError(
            f"{dest} needs {need_bytes / 1e6:,.0f} MB but {parent} has {free / 1e6:,.0f} MB free; "
            "make room first"
        )


@contextmanager
def new_directory(dest: Path) -> Iterator[Path]:
    """Give a hidden directory to fill, which becomes ``dest`` at the end.

    It is removed after an error. A process that is killed leaves at most the hidden directory
    ``.NAME.partial-…`` beside ``dest``, never ``dest``; who makes ``dest`` next removes it.

    Raises:
        OutputError: ``dest`` exists, cannot be made, or the disk is full.
    """
    dest = dest.absolute()  # the body may change the working directory
    check_new(dest)
    with _staging(dest) as staging:
        with _filling(dest):
            yield staging
        with _making(dest):
            staging.rename(dest)  # fails if somebody else made a non-empty dest meanwhile


@contextmanager
def new_file(dest: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a hidden path for a file to be written, which becomes ``dest`` at the end.

    It is removed after an error, and after a kill by who makes ``dest`` next.

    Raises:
        OutputError: ``dest`` exists (unless ``replace``), cannot be made, or the disk is full.
    """
    dest = dest.absolute()
    (_check_writable if replace else check_new)(dest)
    with _staging(dest) as folder:
        staging = folder / dest.name
        with _filling(dest):
            yield staging
        with _making(dest):
            (Path.replace if replace else _rename_to_new)(staging, dest)


@contextmanager
def _staging(dest: Path) -> Iterator[Path]:
    """Give a hidden folder beside ``dest`` that nobody else uses, and remove what is left of it."""
    with ExitStack() as stack:
        with _making(dest):
            dest.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(scratch(dest.parent, f".{dest.name}.partial-", PUBLIC))
        yield folder


def _rename_to_new(file: Path, dest: Path) -> None:
    try:
        os.link(file, dest)  # unlike a rename, it fails if somebody else made dest meanwhile
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        check_new(dest)
        file.rename(dest)


@contextmanager
def _making(dest: Path) -> Iterator[None]:
    """Say in one line why ``dest`` cannot be made."""
    try:
        with _filling(dest):
            yield
    except OSError as error:
        raise OutputError(f"cannot write {dest}: {error.strerror or error}") from error


@contextmanager
def _filling(dest: Path) -> Iterator[None]:
    """Say in one line that the disk is full; any other error may be about another file."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OutputError(
            f"the disk is full: {dest} could not be finished and was removed; make room and run "
            "again"
        ) from error
