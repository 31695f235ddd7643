"""What may come from a store and become a path or an address: types that hold nothing else.

A store is written by others. Each digest, kind and relative name that is read from it is one of
these before anything is opened, written or deleted by it.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, StringConstraints

from fmn.errors import StoreError
from fmn.recipe import SAFE_NAME, task_name
from fmn.visible import one_line

CURRENT = 2
"""The version of records that is written."""

VERSIONS = (1, CURRENT)
"""Those that are read; the last one wins."""

OWN = ("files", "records", "tombstones", "tags", "runs", "packs", "mark", "probes", "claims")
"""The folders of a store. Nothing else in its place is fmn's to delete."""

LONGEST = 1000
"""Characters of a relative name."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A key, or a digest of content."""

Kind = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
"""Of result. Another version may write kinds that this one does not know, and they are kept."""

ObjectName = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}(\.dir)?$")]
"""DVC's name of an object: an MD5, of a list of files with ``.dir``."""

FileMd5 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""DVC's name of a file in a list."""


def relative(name: str) -> str:
    """Return a name of a file under a directory, whichever that is.

    Raises:
        ValueError: it could name something else.
    """
    parts = name.split("/")
    if (
        not 0 < len(name) <= LONGEST
        or any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or re.match("[A-Za-z]:", name)
        or one_line(name, LONGEST) != name
    ):
        raise ValueError("not the name of a file under a directory")
    return name


RelativeName = Annotated[str, AfterValidator(relative)]
"""Of a file under a directory."""


def _plain(name: str) -> str:
    if not SAFE_NAME.fullmatch(name):
        raise ValueError("expected letters, digits, '_', '.', '-'")
    return name


def _task(task: str) -> str:
    _plain(task_name(task))
    return task


TaskName = Annotated[str, AfterValidator(_task)]
"""Of a task: a name, or a file that is called like one."""

PlainName = Annotated[str, AfterValidator(_plain)]
"""Of a model in a merge, or of a tag: the name of a file or directory."""


def _aware(text: str) -> str:
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError("a time without its zone")
    return text


Moment = Annotated[str, AfterValidator(_aware)]
"""When something was done, ISO 8601 with its zone."""

RECORD = re.compile(r"records/v([1-9])/([a-z][a-z0-9-]{0,31})/([0-9a-f]{2})/([0-9a-f]{64})\.json")


class Address(NamedTuple):
    """Where a result is: its kind and its key.

    Attributes:
        kind: of result.
        key: sha256 of what it depends on.
    """

    kind: str
    key: str

    def path(self, version: int = CURRENT) -> str:
        """Return where its record of a version lies in a store."""
        return f"records/v{version}/{self.kind}/{self.key[:2]}/{self.key}.json"

    @property
    def paths(self) -> list[str]:
        """Return where its records of all versions lie, the one that wins last."""
        return [self.path(version) for version in VERSIONS]

    @property
    def tombstone(self) -> str:
        """Where the tombstone that hides it lies."""
        return f"tombstones/v1/{self.kind}/{self.key[:2]}/{self.key}.json"


def parse_address(path: str) -> tuple[int, Address] | None:
    """Return the version and the address of the record at a path; None if no record lies there."""
    match = RECORD.fullmatch(path)
    if match is None or not match[4].startswith(match[3]):
        return None
    return int(match[1]), Address(match[2], match[4])


def _record(path: str) -> str:
    if parse_address(path) is None:
        raise ValueError("not the path of a record")
    return path


RecordPath = Annotated[str, AfterValidator(_record)]
"""Of a record in a store."""


def inside(path: str) -> str:
    """Return the path of a file in the store.

    Raises:
        StoreError: it would be elsewhere.
    """
    try:
        return relative(path)
    except ValueError as error:
        raise StoreError(f"{path!r} is not a file of the store; nothing was done to it") from error


def own(path: str) -> PurePosixPath:
    """Return the path of a file in one of the store's folders, of which alone files are deleted.

    Raises:
        StoreError: it would be elsewhere.
    """
    parsed = PurePosixPath(inside(path))
    if parsed.parts[0] not in OWN or len(parsed.parts) < 2:
        raise StoreError(f"{path!r} is not in a folder of the store; nothing was done to it")
    return parsed
