"""Tags: names that move from merge to merge.

Every move is a file of its own, so that of two people who move a tag at once one hears of it.
"""

from __future__ import annotations

import json
import re

from fmn.errors import CatalogError
from fmn.recipe import SAFE_NAME
from fmn.schema import Frozen
from fmn.store import Store
from fmn.store.names import Moment, PlainName, Sha256
from fmn.store.records import now, who

TAGS = "tags/v1"
MOVE = re.compile(rf"{TAGS}/({SAFE_NAME.pattern})/([0-9]{{8}})\.json")
LIKE_AN_ID = re.compile(r"[0-9a-f]{4,64}")


class Tag(Frozen):
    """One move of a tag.

    Attributes:
        name: of the tag.
        id: of the merge that has it from then on; None takes it away.
        by: user and machine.
        at: when, UTC, ISO 8601.
    """

    name: PlainName
    id: Sha256 | None
    by: str
    at: Moment


def read_tags(store: Store) -> dict[str, Tag]:
    """Return the last move of every tag, by name; those that were taken away are left out."""
    return {name: tag for name, (_, tag) in _newest(store, TAGS).items() if tag and tag.id}


def move_tag(store: Store, name: str, key: str | None) -> Tag | None:
    """Give a tag to a merge, or take it away with ``key`` None; return what it was before.

    Raises:
        CatalogError: a name that cannot be a tag, no such tag to be taken away, or somebody moved
            it at the same time.
    """
    if not SAFE_NAME.fullmatch(name) or LIKE_AN_ID.fullmatch(name):
        raise CatalogError(
            f"'{name}' cannot be a tag: expected letters, digits, '_', '.', '-', and something "
            "that cannot be taken for an ID"
        )
    number, before = _newest(store, f"{TAGS}/{name}").get(name, (0, None))
    if key is None and (before is None or before.id is None):
        raise CatalogError(
            f"no merge has the tag '{name}'; 'fmn catalog ls' shows the tags there are"
        )
    tag = Tag(name=name, id=key, by=who(), at=now())
    content = (json.dumps(tag.model_dump(), sort_keys=True, ensure_ascii=False) + "\n").encode()
    if not store.files.is_conditional:  # when that comes out, the store says so itself
        store.warn(f"{store.url}: the server cannot order two moves of tag '{name}' at once")
    if not store.files.create(f"{TAGS}/{name}/{number + 1:08}.json", content):
        _, latest = _newest(store, f"{TAGS}/{name}").get(name, (0, None))
        change = (
            f"{latest.by} {f'gave it to {latest.id[:12]}' if latest.id else 'took it away'}"
            if latest
            else "somebody moved it"
        )
        raise CatalogError(
            f"tag '{name}' was not moved: {change} at the same time; look at it, and try again if "
            "you still want to"
        )
    return before if before and before.id else None


def _newest(store: Store, prefix: str) -> dict[str, tuple[int, Tag | None]]:
    """Return the number and content of the last move, by name; a damaged one moves nothing."""
    newest: dict[str, tuple[int, Tag | None]] = {}
    damaged = []
    for path, content in sorted(store.mirror.under(prefix).items()):
        match = MOVE.fullmatch(path)
        tag = _parsed(match[1], content) if match else None
        if tag is None:
            damaged.append(path)
        if match:
            newest[match[1]] = int(match[2]), tag or newest.get(match[1], (0, None))[1]
    store.tell_damaged("move", damaged, " of tags")
    return newest


def _parsed(name: str, content: bytes) -> Tag | None:
    """Read one move of a tag; None if it is damaged, or of another tag."""
    try:
        tag = Tag.model_validate_json(content)
    except (ValueError, RecursionError):
        return None
    return tag if tag.name == name else None
