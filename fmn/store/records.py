"""Records: what was computed, from what, with what, by whom; a small immutable file each."""

from __future__ import annotations

import getpass
import json
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import Field

from fmn import __version__
from fmn.errors import StoreError
from fmn.keys import digest
from fmn.schema import Frozen
from fmn.store.contents import is_sound
from fmn.store.names import Address, Kind, Moment, Sha256, parse_address
from fmn.store.objects import Output

KEY_FORMAT = 1
"""Of keys; it rises when a change makes results that were stored before wrong or different."""

LARGEST = 4 * 2**20
"""Bytes of a record at most."""

HEAD = re.compile(rb'\{\n "digest": "([0-9a-f]{64})",\n')

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
    at: Moment
    seconds: float
    device: str
    versions: dict[str, str]


class Record(Frozen):
    """One result.

    Attributes:
        kind: ``fisher``, ``merge``, ``evaluate`` or ``publish``.
        key: sha256 of what it depends on, see :func:`record_key`.
        inputs: all that it depends on: digests and parameters.
        names: what the inputs were called; for people.
        value: the result, if it is small.
        outputs: the result's files and directories, by name.
        read: the content of other results that were read for it, by kind and key.
        made: who, when, with what.
    """

    kind: Kind
    key: Sha256
    inputs: dict[str, Any]
    names: dict[str, Any] = Field(default_factory=dict)
    value: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Output] = Field(default_factory=dict)
    read: dict[Kind, dict[Sha256, Sha256]] = Field(default_factory=dict)
    made: Made

    @property
    def address(self) -> Address:
        """Where it is in a store."""
        return Address(self.kind, self.key)

    @property
    def path(self) -> str:
        """Where it is written in a store."""
        return self.address.path()

    @property
    def content(self) -> str:
        """Digest of the result itself: its value and its files."""
        outputs = {name: output.sha256 for name, output in self.outputs.items()}
        return digest("content", [self.value, outputs])

    def is_current(self, contents: Mapping[Address, str]) -> bool:
        """Tell whether all that was read for it is still what it was, as far as that is known.

        A statistic that was damaged may have come out otherwise when it was computed again.
        """
        return all(
            contents.get(Address(kind, key), content) == content
            for kind, read in self.read.items()
            for key, content in read.items()
        )

    def to_bytes(self) -> bytes:
        """Return the file's content: the digest of all that follows it, and the record."""
        plain = self.model_dump(exclude=None if self.read else {"read"})
        text = json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        body = text.encode().removeprefix(b"{\n")
        return b'{\n "digest": "%s",\n' % sha256(body).hexdigest().encode() + body


def record_key(kind: str, inputs: Mapping[str, Any]) -> str:
    """Return the key of a result: the sha256 of its kind, the format and all it depends on."""
    return digest(kind, {"format": KEY_FORMAT, "inputs": inputs})


def parse_record(path: str, content: bytes) -> Record | None:
    """Read a record's file.

    None if it is damaged, not the one that its path says, or holds what a result of its kind does
    not: its digest (of versions since 2) is that of its bytes, and its key that of its inputs.
    """
    where = parse_address(path)
    if where is None or len(content) > LARGEST:
        return None
    version, address = where
    if version > 1:
        head = HEAD.match(content)
        body = content[head.end() :] if head else b""
        if head is None or sha256(body).hexdigest().encode() != head[1]:
            return None
        content = b"{" + body
    record = sound_record(content)
    return record if record and record.address == address else None


def sound_record(content: bytes | str) -> Record | None:
    """Read a record without its digest; None if its key or content is not that of its kind."""
    try:
        record = Record.model_validate_json(content)
        if record_key(record.kind, record.inputs) != record.key:
            return None
    # ValueError: what pydantic refuses, what has no canonical form, what is no text
    except (ValueError, RecursionError):
        return None
    return record if is_sound(record) else None


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
