"""This machine's copies of a server's records: only what is new is fetched, in bulk if much is."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress

from fmn.errors import TextError
from fmn.reading import read_json, unpacked
from fmn.store.files import LARGEST, Directory, Files
from fmn.store.memo import Memo

RECORDS = "records"
MARK = "mark/v1"
"""A small file that every writer of records writes anew: while it stays, there is nothing new, and
nothing is listed.
"""

FRESH = 600.0
"""Seconds after which records are listed even so: a writer that was killed may have written a
record, and not the mark.
"""

PACKS = "packs/v1"
"""Copies of many records in one file, for machines that have none yet; what is in it counts only
where it is what is listed.
"""

PACK = re.compile(rf"{PACKS}/(\d{{1,9}})-[0-9a-f]{{8}}\.json\.gz")
"""The address of a pack, with the number of its records."""

ESCAPED, BESIDE = 2, 300
"""Bytes that a byte of a record may take in a pack, and those that its address does."""

MANY = 300
"""So many records that are new to this machine are worth a pack."""


class Mirror:
    """Small files of a store, through this machine's memory."""

    def __init__(
        self, files: Files, memo: Memo, warn: Callable[[str], None] = warnings.warn
    ) -> None:
        self._files, self._memo, self._warn = files, memo, warn
        self._is_local = isinstance(files, Directory)

    def under(self, prefix: str) -> dict[str, bytes]:
        """Return every file under a directory, by path."""
        return self.read({path: stamp.tag for path, stamp in self._files.list(prefix).items()})

    def unless_changed(self, prefixes: Iterable[str]) -> dict[str, bytes]:
        """Return every record's file under directories; one request while nothing was written."""
        if self._is_local:
            return {path: body for prefix in prefixes for path, body in self.under(prefix).items()}
        # before the listing: what is written after it changes the mark
        mark = self._files.stamp(MARK)
        contents: dict[str, bytes] = {}
        for prefix in prefixes:
            known = self._memo.listing(self._files.url, prefix, mark.tag, FRESH) if mark else None
            if known is None:
                tags = {path: stamp.tag for path, stamp in self._files.list(prefix).items()}
                known = self.read(tags)
                if mark:
                    self._memo.remember_listing(self._files.url, prefix, mark.tag, tags)
            contents |= known
        return contents

    def read(self, tags: Mapping[str, str]) -> dict[str, bytes]:
        """Return listed files, from memory where this machine has seen them with the same tags."""
        if self._is_local:
            return self._files.read(tags)
        known = self._memo.records(self._files.url, tags)
        new = {path: tag for path, tag in tags.items() if path not in known}
        read = self._unpacked(new) if len(new) >= MANY else {}
        read |= self._files.read([path for path in new if path not in read])
        self._memo.remember(
            self._files.url, {path: (tags[path], body) for path, body in read.items()}
        )
        return known | read

    def changed(self) -> None:
        """Tell all machines that a record was written or removed."""
        if not self._is_local:
            self._files.write(MARK, os.urandom(8).hex().encode())

    def pack(self) -> None:
        """Write a pack of all records, if a machine without any would fetch many singly."""
        if self._is_local:
            return
        tags = {path: stamp.tag for path, stamp in self._files.list(RECORDS).items()}
        packs = self._packs()
        if len(tags) - max(packs.values(), default=0) < max(MANY, len(tags) // 5):
            return
        bodies = {}
        for path, body in sorted(self.read(tags).items()):
            with suppress(UnicodeDecodeError):  # a damaged one
                bodies[path] = body.decode()
        content = gzip.compress(
            json.dumps(bodies, ensure_ascii=False).encode(), compresslevel=6, mtime=0
        )
        self._files.write(f"{PACKS}/{len(bodies)}-{os.urandom(4).hex()}.json.gz", content)
        for path in packs:
            self._files.delete(path)

    def _packs(self) -> dict[str, int]:
        """Return how many records each pack has."""
        names = map(PACK.fullmatch, self._files.list(PACKS))
        return {name[0]: int(name[1]) for name in names if name}

    def _unpacked(self, tags: Mapping[str, str]) -> dict[str, bytes]:
        """Return what the largest pack has of some files, where the MD5 is the server's tag."""
        packs = self._packs()
        if not packs:
            return {}
        largest = max(packs, key=lambda path: packs[path])
        content = self._files.read([largest]).get(largest)
        if content is None:  # removed meanwhile
            return {}
        sizes = [min(stamp.size, LARGEST) for stamp in self._files.list(RECORDS).values()]
        limit = ESCAPED * sum(sizes) + BESIDE * len(sizes)
        what = f"{self._files.url}/{largest}"
        try:
            bodies = read_json(unpacked(content, what, limit), what, largest=limit)
        except TextError as error:
            self._warn(f"{error}; its records are fetched one by one")
            return {}
        bodies = bodies if isinstance(bodies, dict) else {}
        contents = {p: bodies[p].encode() for p in tags if isinstance(bodies.get(p), str)}
        return {
            p: b
            for p, b in contents.items()
            if hashlib.md5(b, usedforsecurity=False).hexdigest() == tags[p]
        }
