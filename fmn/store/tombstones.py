"""Tombstones: each hides a record, which is never edited, that a person wants to be rid of."""

from __future__ import annotations

import json
from datetime import datetime

from pydantic import ValidationError

from fmn.schema import Frozen
from fmn.store.records import ROOT

TOMBSTONES = "tombstones/v1"


class Tombstone(Frozen):
    """What hides a record.

    Attributes:
        path: of the record.
        reason: why, in a person's words.
        by: user and machine.
        at: when, UTC, ISO 8601.
    """

    path: str
    reason: str = ""
    by: str
    at: str

    @property
    def time(self) -> float:
        """When, in seconds since 1970."""
        return datetime.fromisoformat(self.at).timestamp()

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        return (
            json.dumps(self.model_dump(), sort_keys=True, indent=1, ensure_ascii=False) + "\n"
        ).encode()


def tombstone_path(record: str) -> str:
    """Return where the tombstone of the record at a path lies."""
    return f"{TOMBSTONES}/{record.removeprefix(f'{ROOT}/')}"


def parse_tombstone(content: bytes) -> Tombstone | None:
    """Read a tombstone's file; None if it is damaged, for then it hides nothing."""
    try:
        return Tombstone.model_validate_json(content)
    except ValidationError:
        return None
