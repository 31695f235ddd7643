"""Records: what was computed, from what, with what, by whom; a small immutable file each."""

from __future__ import annotations

import getpass
import json
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import Field, ValidationError

from fmn import __version__
from fmn.errors import StoreError
from fmn.schema import Frozen
from fmn.store.objects import Output

FORMAT = 1
ROOT = f"records/v{FORMAT}"
PACKAGES = ("torch", "transformers", "numpy")
"""Whose versions records hold, beside those of Python and fmn."""


class Made(Frozen):
    """Who made a result, when, and with what: nothing that the result depends on.

    Attributes:
        by: user and machine.
        at: end, UTC, ISO 8601.
        seconds: of computing.
        device: it was computed on.
        versions: of packages.
    """

    by: str
    at: str
    seconds: float
    device: str
    versions: dict[str, str]


class Record(Frozen):
    """One result.

    Attributes:
        kind: ``fisher``, ``merge``, ``evaluate`` or ``publish``.
        key: sha256 of what it depends on.
        inputs: all that it depends on: digests and parameters.
        names: what the inputs were called; for people.
        value: the result, if it is small.
        outputs: the result's files and directories, by name.
        made: who, when, with what.
    """

    kind: str
    key: str
    inputs: dict[str, Any]
    names: dict[str, Any] = Field(default_factory=dict)
    value: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Output] = Field(default_factory=dict)
    made: Made

    @property
    def path(self) -> str:
        """Where it lies in a store."""
        return record_path(self.kind, self.key)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return (
            json.dumps(self.model_dump(), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        ).encode()


def record_path(kind: str, key: str) -> str:
    """Return where the record of a result lies in a store."""
    return f"{ROOT}/{kind}/{key[:2]}/{key}.json"


def parse_record(path: str, content: bytes) -> Record | None:
    """Read a record's file; None if it is damaged, or not the one that its path says."""
    try:
        record = Record.model_validate_json(content)
    except ValidationError:
        return None
    return record if record.path == path else None


def made(seconds: float, device: str) -> Made:
    """Say who made a result, just now."""
    return Made(by=who(), at=now(), seconds=seconds, device=device, versions=_versions())


def now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def who() -> str:
    """Return the user and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{platform.node()}"


@cache
def _versions() -> dict[str, str]:
    versions: dict[str, str] = {"python": platform.python_version(), "fmn": __version__}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError as error:
            raise StoreError(
                f"package {package} is not installed; install fmn with its dependencies"
            ) from error
    return versions
