"""Canonical JSON and tagged hashes: equal meaning gives equal bytes gives equal keys."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    """Serialise to the one form that is hashed: sorted keys, no spaces, UTF-8, no NaN.

    Raises:
        ValueError: NaN or infinity, which have no canonical form.
    """
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def digest(kind: str, value: Any) -> str:
    """Sha256 (hex) of the canonical JSON of ``[kind, value]``; kinds never share a digest."""
    return hashlib.sha256(canonical_json([kind, value])).hexdigest()
