"""Claims: who computes a result just now, and what becomes of it when its process does not end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fmn.store import ClaimedError, Draft, Store, collect, garbage, open_store, verify
from fmn.store.claims import CLAIMS, _machine, parse_owner
from fmn.store.claims import Owner as Claimer
from fmn.testing.stores import QUICK, Place
from tests.store import workers
from tests.store.conftest import Computing, compute_in
from tests.store.conftest import Place as OurPlace
from tests.store.s3 import NO_CONDITIONS, WRITING, Fault

LEASE = 1.5
KEY = workers.key(0)


def opened(place: Place, lease: float = LEASE, machine: str = "waiting") -> Store:
    return open_store(
        place.url,
        cache=place.tmp / "caches" / machine,
        patience=QUICK,
        lease=lease,
        warn=place.warnings.append,
    )


def claims(store: Store) -> list[str]:
    return [*store.files.list(CLAIMS)]


class Owner:
    """A process that holds the claim of a result until a test lets it end."""

    def __init__(self, place: OurPlace, lease: float = LEASE) -> None:
        self.events, sender = multiprocessing.Pipe(duplex=False)
        self.may_end = workers.context().Event()
        tmp = place.tmp / "owner"
        tmp.mkdir()
        self.process = workers.start(
            workers.claim, place.url, place.environment, tmp, lease, sender, self.may_end
        )
        sender.close()
        assert self.events.recv() == "computing"

    def signal(self, number: int) -> None:
        assert self.process.pid
        os.kill(self.process.pid, number)

    def end(self) -> Any:
        """Let it end; return by which process the record is that it took."""
        self.may_end.set()
        by = self.events.recv()
        self.process.join(30)
        assert self.process.exitcode == 0
        return by


@pytest.fixture
def owning(place: OurPlace) -> Iterator[Callable[[], Owner]]:
    owners: list[Owner] = []

    def start() -> Owner:
        owners.append(Owner(place))
        return owners[-1]

    yield start
    for owner in owners:
        owner.process.kill()
        owner.process.join()
        owner.events.close()


def compute(folder: Path) -> Draft:
    return Draft(value={"by": os.getpid()})


def never(folder: Path) -> Draft:
    raise AssertionError("another process computes it")


def test_a_living_claim_is_put_off_or_waited_for_well_beyond_the_lease(
    place: OurPlace, owning: Callable[[], Owner]
) -> None:
    owner, store = owning(), opened(place)
    with pytest.raises(ClaimedError, match=f"process {owner.process.pid}"):
        store.get_or_compute("trial", {"number": 0}, never, wait=False)
    end = time.monotonic() + 2 * LEASE
    while time.monotonic() < end:
        with pytest.raises(ClaimedError):
            store.get_or_compute("trial", {"number": 0}, never, wait=False)
        time.sleep(0.1)
    owner.may_end.set()
    outcome = store.get_or_compute("trial", {"number": 0}, never)
    assert (outcome.cached, outcome.record.value["by"]) == (True, owner.end())
    assert claims(store) == []


def test_a_killed_owners_claim_is_taken_over_at_once_on_its_machine(
    place: OurPlace, owning: Callable[[], Owner]
) -> None:
    owner, store = owning(), opened(place, lease=600)
    owner.signal(signal.SIGKILL)
    owner.process.join()
    assert len(claims(store)) == 1
    assert not store.get_or_compute("trial", {"number": 0}, compute, wait=False).cached
    assert claims(store) == []


def test_what_ended_is_gone_even_while_nobody_has_asked_for_its_end() -> None:
    """As in a container whose first process does not."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = Claimer("somebody", _machine(), process.pid)
    assert not owner.is_gone
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert Path("/proc", str(process.pid)).exists()
    assert owner.is_gone
    process.communicate()
    assert owner.is_gone


def test_a_claim_without_a_sign_of_life_is_taken_over_after_the_lease_and_its_owner_does_no_harm(
    place: OurPlace, owning: Callable[[], Owner]
) -> None:
    owner, store = owning(), opened(place)
    owner.signal(signal.SIGSTOP)
    start = time.monotonic()

    def wake(folder: Path) -> Draft:
        (claim,) = [path for path in claims(store) if path.endswith(".2.json")]
        owner.signal(signal.SIGCONT)
        time.sleep(LEASE)  # it would renew its claim, if it still were its own
        assert parse_owner(store.files.read([claim])[claim]).pid == os.getpid()
        with pytest.raises(ClaimedError, match=f"process {os.getpid()}"):
            opened(place, machine="third").get_or_compute("trial", {"number": 0}, never, wait=False)
        return Draft(value={"by": os.getpid()})

    outcome = store.get_or_compute("trial", {"number": 0}, wake)
    assert LEASE <= time.monotonic() - start < 4 * LEASE + 2
    assert (outcome.cached, outcome.record.value["by"]) == (False, os.getpid())
    assert owner.end() == os.getpid()  # its own record lost
    assert (claims(store), verify(store)) == ([], [])
    assert ["waiting for" in line for line in place.warnings] in ([], [True])


def test_of_many_who_wait_for_a_dead_claim_one_takes_over(place: OurPlace) -> None:
    store = opened(place, lease=0.3)
    dead = store.claims._claim("trial", KEY, 1)
    assert dead.create()
    watchers = [store, *(opened(place, lease=0.3, machine=str(number)) for number in range(3))]
    for watcher in watchers:
        with pytest.raises(ClaimedError):
            watcher.get_or_compute("trial", {"number": 0}, never, wait=False)
    time.sleep(0.4)
    takers = 0
    with store.claims.hold("trial", KEY, wait=False, tell=place.warnings.append):
        for watcher in watchers[1:]:
            try:
                watcher.get_or_compute("trial", {"number": 0}, never, wait=False)
            except ClaimedError:
                takers += 1
    assert takers == 3
    assert claims(store) == []


def test_a_claim_that_nobody_can_read_counts_until_the_lease_ends(place: OurPlace) -> None:
    store = opened(place, lease=0.5)
    for content in (b"", b"\xff\x00", b"[" * 100_000, b'{"by": {}, "pid": "x"}', b"null"):
        store.files.write(f"{CLAIMS}/trial/{KEY[:2]}/{KEY}.1.json", content)
        with pytest.raises(ClaimedError, match="which another process computes"):
            store.get_or_compute("trial", {"number": 0}, never, wait=False)
        store.files.delete(f"{CLAIMS}/trial/{KEY[:2]}/{KEY}.1.json")
    store.files.write(f"{CLAIMS}/trial/{KEY[:2]}/{KEY}.7.json", b"")
    store.files.write(f"{CLAIMS}/trial/{KEY[:2]}/README", b"")
    assert not store.get_or_compute("trial", {"number": 0}, compute).cached
    assert claims(store) == [f"{CLAIMS}/trial/{KEY[:2]}/README"]


def test_an_error_and_a_keypress_give_the_claim_back(place: OurPlace) -> None:
    store = opened(place)
    for error in (ValueError, KeyboardInterrupt):

        def fail(folder: Path, error: type[BaseException] = error) -> Draft:
            assert len(claims(store)) == 1
            raise error

        with pytest.raises(error):
            store.get_or_compute("trial", {"number": 0}, fail)
        assert claims(store) == []


def test_a_hit_makes_no_claim(bucket: OurPlace) -> None:
    assert bucket.server
    store = opened(bucket)
    store.get_or_compute("trial", {"number": 0}, compute)
    bucket.server.reset()
    assert store.get_or_compute("trial", {"number": 0}, never).cached
    assert bucket.server.requests() == {"get": 2}


def test_a_server_that_fails_at_claims_fails_no_run(bucket: OurPlace) -> None:
    assert bucket.server
    store = opened(bucket, lease=0.3)

    def compute(folder: Path) -> Draft:
        assert bucket.server
        bucket.server.control(Fault(kinds=WRITING, path=CLAIMS, status=403, code="AccessDenied"))
        time.sleep(0.5)  # several beats
        return Draft()

    assert not store.get_or_compute("trial", {"number": 0}, compute).cached
    assert not compute_in(store, Computing(), "ef" * 32).cached
    assert bucket.warnings == []


def test_without_conditional_puts_there_are_no_claims(bucket: OurPlace) -> None:
    assert bucket.server
    bucket.server.control(NO_CONDITIONS)
    store = opened(bucket)

    def compute(folder: Path) -> Draft:
        assert claims(store) == []
        return Draft()

    assert not store.get_or_compute("trial", {"number": 0}, compute).cached
    assert ["do not share their work" in line for line in bucket.warnings] == [True]


def test_old_claims_are_collected(place: OurPlace) -> None:
    store = opened(place)
    assert store.claims._claim("trial", KEY, 1).create()
    assert garbage(store, []).unfinished == ()
    old = garbage(store, [], grace=-1)
    assert old.unfinished == (f"{CLAIMS}/trial/{KEY[:2]}/{KEY}.1.json",)
    collect(store, old)
    assert (claims(store), verify(store)) == ([], [])
