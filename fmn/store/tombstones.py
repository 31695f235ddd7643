"""Tombstones: each hides a record, which is never edited, that a person wants to be rid of."""

from __future__ import annotations

import json
from datetime import datetime

from fmn.schema import Frozen
from fmn.store.names import Address, Moment, RecordPath, parse_address

TOMBSTONES = "tombstones/v1"


class Tombstone(Frozen):
    """What hides a result.

    Attributes:
        path: of the first version of its record, which all versions of fmn know.
        reason: why, in a person's words.
        by: user and machine.
        at: when, UTC, ISO 8601.
    """

    path: RecordPath
    reason: str = ""
    by: str
    at: Moment

    @property
    def address(self) -> Address:
        """Of the result."""
        where = parse_address(self.path)
        assert where is not None
        return where[1]

    @property
    def time(self) -> float:
        """When, in seconds since 1970."""
        return datetime.fromisoformat(self.at).timestamp()

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return (
            json.dumps(self.model_dump(), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        ).encode()


def parse_tombstone(path: str, content: bytes) -> Tombstone | None:
    """Read a tombstone's file.

    None if it is damaged, or not the one that its path says: then it hides nothing.
    """
    try:
        stone = Tombstone.model_validate_json(content)
    except (ValueError, RecursionError):
        return None
    return stone if stone.address.tombstone == path else None
