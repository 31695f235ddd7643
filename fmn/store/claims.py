"""Claims: what a process computes just now, so that runs at the same time share the work.

A claim is a small file under a result's key and a number, created on the condition that there is
none. Its owner writes it anew every few seconds; whoever has watched it unchanged for the length of
a lease, on a clock of its own, takes over by creating the next number, which only one can. No
result depends on claims: without them, work is done twice, and the first record counts. A process
of the same machine that is there no more need not be watched.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fmn.errors import FmnError, StoreError
from fmn.store.files import Files
from fmn.store.records import who

CLAIMS = "claims/v1"

LEASE = 60.0
"""Seconds without a sign of life after which a claim is another's to take."""

BEATS = 6
"""Signs of life in a lease."""

FIRST_LOOK, LONGEST = 0.05, 2.0
"""Seconds between looks at another's claim: the first, and at most."""

PATIENT = 2.0
"""Seconds of waiting after which a person is told."""

NAME = re.compile(r"([0-9a-f]{64})\.([0-9]{1,8})\.json")


class ClaimedError(FmnError):
    """Another process computes this result just now."""


@dataclass(eq=False)
class Claim:
    """One that this process holds.

    Attributes:
        files: of the store.
        path: of the claim.
        following: path of the one by which another would take over.
        lease: its length in seconds.
        older: paths of the claims that it took over from.
        renewed: when it was written last, on this process's clock.
        beats: how often it was renewed.
    """

    files: Files
    path: str
    following: str
    lease: float
    older: tuple[str, ...] = ()
    renewed: float = field(default_factory=time.monotonic)
    beats: int = 0
    _token: str = field(default_factory=lambda: os.urandom(8).hex())

    def content(self) -> bytes:
        """Return the file's content, which no two claims and no two beats have alike."""
        owner = {
            "owner": self._token,
            "by": who(),
            "pid": os.getpid(),
            "machine": _machine(),
            "beat": self.beats,
        }
        return (json.dumps(owner, sort_keys=True) + "\n").encode()

    def create(self) -> bool:
        """Write it, if no other has that number."""
        return self.files.create(self.path, self.content())

    def renew(self) -> bool:
        """Write it anew; return False, and leave it, if another took over."""
        if self.is_lost():
            return False
        self.beats += 1
        start = time.monotonic()
        self.files.write(self.path, self.content())
        self.renewed = start
        return True

    def is_lost(self) -> bool:
        """Tell whether another took over."""
        return self.files.stamp(self.path) is None or self.files.stamp(self.following) is not None

    def remove(self) -> None:
        """Remove it with those before it, unless they are another's to remove."""
        # nobody takes over what was renewed within the lease, and that saves two requests
        if time.monotonic() - self.renewed < self.lease or not self.is_lost():
            for path in (*self.older, self.path):
                self.files.delete(path)


@dataclass(frozen=True)
class Owner:
    """Who holds a claim.

    Attributes:
        name: user, machine and process, for people.
        machine: names what its processes' numbers are of; empty if unknown.
        pid: of the process.
    """

    name: str = "another process"
    machine: str = ""
    pid: int = 0

    @property
    def is_gone(self) -> bool:
        """Whether it was a process of this machine that is there no more."""
        return self.machine == _machine() != "" and not _lives(self.pid)


def parse_owner(content: bytes) -> Owner:
    """Read a claim's file; one that is damaged, or another program's, is held by nobody known."""
    try:
        owner = json.loads(content)
        by, machine, pid = str(owner["by"]), str(owner["machine"]), int(owner["pid"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return Owner()
    name = "".join(letter for letter in by if letter.isprintable())[:80]
    return Owner(f"{name} (process {pid})", machine, pid)


@cache
def _machine() -> str:
    """Return a name of this boot's process numbers, which containers do not share; Linux has it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _lives(pid: int) -> bool:
    """Tell whether there is a process, and not only its end for a parent that never asks."""
    try:
        state = Path("/proc", str(pid), "stat").read_bytes().rpartition(b")")[2].split()
    except FileNotFoundError:
        return False
    except OSError:  # another's, of whom this user sees no more than that it is there
        return Path("/proc", str(pid)).exists()
    return state[:1] not in ([b"Z"], [b"X"])


@dataclass(frozen=True)
class Watch:
    """Another's claim, as this process sees it.

    Attributes:
        path: of the claim.
        tag: of its content.
        since: when it was first seen with this tag, on this process's clock.
        owner: of the claim.
    """

    path: str
    tag: str
    since: float
    owner: Owner

    def is_over(self, lease: float) -> bool:
        """Tell whether it showed no sign of life for a lease, or its process is gone."""
        return time.monotonic() - self.since >= lease or self.owner.is_gone


class Heart:
    """A thread that renews every claim of this process, while there are any."""

    def __init__(self) -> None:
        self._held: set[Claim] = set()
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def add(self, claim: Claim) -> None:
        """Renew a claim from now on."""
        with self._change:
            self._held.add(claim)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
                self._thread.start()
            self._change.notify()

    def drop(self, claim: Claim) -> None:
        """Renew it no more; what is being written is waited for."""
        with self._change:
            self._held.discard(claim)
            self._change.notify()

    def _beat(self) -> None:
        with self._change:
            due: dict[Claim, float] = {}
            while True:
                due = {
                    claim: due.get(claim, claim.renewed + claim.lease / BEATS)
                    for claim in self._held
                }
                now = time.monotonic()
                for claim in [claim for claim, moment in due.items() if moment <= now]:
                    self._renew(claim)
                    due[claim] = time.monotonic() + claim.lease / BEATS
                # between two steps there is none for a moment; the thread stays for the next
                self._change.wait(max(0.0, min(due.values()) - time.monotonic()) if due else None)

    def _renew(self, claim: Claim) -> None:
        # the next beat may pass; else others take over, which is waste and no harm
        with suppress(StoreError):
            if not claim.renew():
                self._held.discard(claim)


_heart = Heart()


def _after_fork() -> None:
    global _heart
    _heart = Heart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Claims:
    """Claims of a store's results."""

    def __init__(self, files: Files, lease: float = LEASE) -> None:
        """Take where they are.

        Args:
            files: of the store.
            lease: seconds without a sign of life after which a claim is another's; 0 for none.
        """
        self._files, self._lease = files, lease
        self._watched: dict[tuple[str, str], Watch] = {}

    @contextmanager
    def hold(
        self, kind: str, key: str, *, wait: bool, tell: Callable[[str], None]
    ) -> Iterator[bool]:
        """Hold a claim while the context lasts; yield whether others may have held one before.

        That is False only where there are no claims: by choice, or because the store fails, or has
        no conditions.

        Args:
            kind: of result.
            key: of it.
            wait: until it is free.
            tell: is given a line when that takes long.

        Raises:
            ClaimedError: another holds it, and ``wait`` is False.
        """
        claim = self._take_or_wait(kind, key, tell) if wait else self._take(kind, key)
        if claim is None:
            yield False
            return
        _heart.add(claim)
        try:
            yield True
        finally:
            _heart.drop(claim)
            with suppress(StoreError):  # then it expires
                claim.remove()

    def _take_or_wait(self, kind: str, key: str, tell: Callable[[str], None]) -> Claim | None:
        start, pause, is_told = time.monotonic(), FIRST_LOOK, False
        while True:
            try:
                return self._take(kind, key)
            except ClaimedError as error:
                if not is_told and time.monotonic() - start >= PATIENT:
                    is_told = True
                    tell(f"{self._files.url}: waiting for {error}")
            time.sleep(pause)
            pause = min(LONGEST, self._lease / BEATS, 1.5 * pause)

    def _take(self, kind: str, key: str) -> Claim | None:
        """Return a claim that is this process's now; None where there are none."""
        if not (self._lease and self._files.is_conditional):
            return None
        try:
            return self._taken(kind, key)
        except StoreError:  # what reads and writes results will say it
            return None

    def _taken(self, kind: str, key: str) -> Claim | None:
        claim = self._claim(kind, key, 1)
        # what is watched is there, and a look is cheaper
        if (kind, key) in self._watched or not claim.create():
            numbered = self._numbered(kind, key)
            last = max(numbered, default=0)
            if last:
                watch = self._watch(kind, key, *numbered[last])
                if not watch.is_over(self._lease):
                    raise ClaimedError(f"{kind} {key[:12]}, which {watch.owner.name} computes")
            older = tuple(path for path, _ in numbered.values())
            claim = self._claim(kind, key, last + 1, older)
            if not claim.create():
                raise ClaimedError(f"{kind} {key[:12]}, which another process computes")
            self._watched.pop((kind, key), None)
        if not self._files.is_conditional:  # as the server has just said
            self._files.delete(claim.path)
            return None
        return claim

    def _claim(self, kind: str, key: str, number: int, older: tuple[str, ...] = ()) -> Claim:
        stem = f"{_folder(kind, key)}/{key}"
        return Claim(
            self._files, f"{stem}.{number}.json", f"{stem}.{number + 1}.json", self._lease, older
        )

    def _numbered(self, kind: str, key: str) -> dict[int, tuple[str, str]]:
        """Return path and tag of a result's claims, by number."""
        numbered = {}
        for path, stamp in self._files.list(_folder(kind, key)).items():
            match = NAME.fullmatch(path.rpartition("/")[2])
            if match and match[1] == key:
                numbered[int(match[2])] = path, stamp.tag
        return numbered

    def _watch(self, kind: str, key: str, path: str, tag: str) -> Watch:
        """Note what a claim is like now; return since when it has been like that."""
        before = self._watched.get((kind, key))
        if before is None or before.path != path:
            body = self._files.read([path]).get(path, b"")
            watch = Watch(path, tag, time.monotonic(), parse_owner(body))
        elif before.tag != tag:
            watch = Watch(path, tag, time.monotonic(), before.owner)
        else:
            watch = before
        self._watched[kind, key] = watch
        return watch


def _folder(kind: str, key: str) -> str:
    return f"{CLAIMS}/{kind}/{key[:2]}"
