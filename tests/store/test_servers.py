"""Servers that are slow, broken, restarted, old, or not ours to write to."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fmn.errors import StoreError
from fmn.store import Draft, Store, open_store, verify
from tests.store.conftest import KEY, QUICK, Computing, Place, Refused, compute_in
from tests.store.s3 import NO_CONDITIONS, READ_ONLY, READING, WRITING, Fault

MANY = [f"{number:064x}" for number in range(100)]

FAULTS = {
    "503": Fault(status=503, code="SlowDown"),
    "503 of another maker": Fault(status=503, code="ServerNotReady"),
    "500": Fault(status=500, code="InternalError"),
    "502 of a proxy": Fault(status=502, code=""),
    "429": Fault(status=429, code="TooManyRequests"),
    "a reset": Fault(drop=True),
    "silence": Fault(hang=3.0),
}


def never(folder: Path) -> Draft:
    raise AssertionError("a failing server is no miss")


def failing(name: str, *kinds: str, times: int | None = None, path: str = "") -> Fault:
    return replace(FAULTS[name], kinds=kinds, path=path, times=times)


def impatient(place: Place, cache: str = "impatient") -> Store:
    return open_store(
        place.url,
        cache=place.tmp / cache,
        patience=replace(QUICK, read=1.0),
        warn=place.warnings.append,
    )


@pytest.fixture
def filled(bucket: Place) -> Place:
    """A store with one result."""
    compute_in(bucket.open(), Computing())
    return bucket


@pytest.mark.soak(again=1)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_failure_that_passes_is_not_noticed(filled: Place, fault: str, tmp_path: Path) -> None:
    """Every operation of a life: a hit, a miss, a fetch, a look-up of many, a check."""
    assert filled.server
    store = impatient(filled) if fault == "silence" else filled.open("elsewhere")
    compute = Computing()
    filled.server.control(
        *(
            failing(fault, kind, times=1 if fault == "silence" else 2)
            for kind in (*READING, *WRITING)
        )
    )
    hit, miss = compute_in(store, compute), compute_in(store, compute, "cd" * 32)
    store.objects.check_out(miss.record.outputs["tree"], tmp_path / "tree")
    assert set(store.find("trial", [*MANY, KEY])) == {KEY}
    assert (hit.cached, miss.cached, compute.calls, verify(store), filled.warnings) == (
        True,
        False,
        1,
        [],
        [],
    )


@pytest.mark.soak(again=1)
@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "silence"])
def test_a_failure_that_stays_is_told_and_is_never_a_miss(
    filled: Place, fault: str, refused: Refused
) -> None:
    assert filled.server
    store = filled.open("elsewhere")
    record = store.get("trial", KEY)
    assert record
    asking: dict[str, Callable[[], object]] = {
        "get": lambda: compute_in(store, never),
        "head": lambda: compute_in(store, never),
        "list": lambda: store.find("merge", MANY),
    }
    for kind, ask in asking.items():
        filled.server.control(failing(fault, kind))
        line = refused(StoreError, ask)
        assert line.startswith(f"{filled.url}: cannot ") and "(4 attempts)" in line, line
        assert "check the network" in line and "what was stored stays, run again" in line
    for look in (lambda: store.path(record.outputs["file"]), lambda: verify(store)):
        filled.server.control(failing(fault, "get", "head", "list"))
        assert "check the network" in refused(StoreError, look)
    filled.server.control()
    assert compute_in(store, never).record == record


def test_a_server_that_says_nothing_is_given_up(filled: Place, refused: Refused) -> None:
    assert filled.server
    store = impatient(filled)
    filled.server.control(Fault(kinds=("get",), hang=3.0))
    assert "check the network" in refused(StoreError, compute_in, store, never)


@pytest.mark.parametrize("fault", ["500", "a reset"])
def test_what_could_not_be_stored_is_told_and_leaves_no_record(
    bucket: Place, fault: str, refused: Refused
) -> None:
    assert bucket.server
    store, compute = bucket.open(), Computing()
    for path in ("files/md5", "records/v2"):
        bucket.server.control(failing(fault, "put", path=path))
        assert "check the network" in refused(StoreError, compute_in, store, compute)
        assert store.get("trial", KEY) is None
    bucket.server.control()
    assert not compute_in(store, compute).cached
    assert (bucket.warnings, verify(store)) == ([], [])


def test_a_record_whose_answer_was_lost_is_ours(bucket: Place) -> None:
    """The server wrote it, the connection broke: the second try must not take its own record for
    another's."""
    assert bucket.server
    bucket.server.control(Fault(kinds=("put",), path="records/v1", late=True, times=1))
    store = bucket.open()
    assert store.files.create("records/v1/x/ab/abc.json", b"ours")
    assert not store.files.create("records/v1/x/ab/abc.json", b"another's")
    assert store.files.read(["records/v1/x/ab/abc.json"]) == {"records/v1/x/ab/abc.json": b"ours"}


def test_a_listing_that_breaks_half_way_is_no_listing(bucket: Place, refused: Refused) -> None:
    assert bucket.server
    store = bucket.open()
    prefix = store.files.root.partition("/")[2]
    bucket.server.fill(
        {f"{prefix}/records/v1/trial/00/{number:064x}.json": "" for number in range(1100)}
    )
    assert len(store.keys("trial")) == 1100
    bucket.server.control(Fault(kinds=("list",), token=True, status=503))
    assert "cannot list records/v1/trial" in refused(StoreError, store.keys, "trial")


def test_a_server_without_conditional_puts_works_with_one_warning(bucket: Place) -> None:
    assert bucket.server
    bucket.server.control(NO_CONDITIONS)
    store, compute = bucket.open(), Computing()
    for model in ("x", "y", "z"):
        assert not compute_in(store, compute, model).cached
        assert compute_in(store, compute, model).cached
    assert ["no conditional puts" in line for line in bucket.warnings] == [True]
    assert not store.files.create(f"records/v2/trial/{KEY[:2]}/{KEY}.json", b"another's")
    assert verify(store) == []


def test_a_store_that_can_only_be_read_is_read_and_told_of_before_any_work(
    filled: Place, refused: Refused
) -> None:
    assert filled.server
    filled.server.control(READ_ONLY)
    store = filled.open("elsewhere")
    line = refused(StoreError, store.check_writable)
    assert line.startswith(f"{filled.url}: cannot write ") and "check what the credentials" in line
    assert "nothing was computed: this store can only be read, choose another" in line
    assert compute_in(store, never).cached
    assert "check what the credentials" in refused(
        StoreError, compute_in, store, Computing(), "cd" * 32
    )


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"])
def test_wrong_credentials_are_told_at_once(bucket: Place, code: str, refused: Refused) -> None:
    assert bucket.server
    bucket.server.reset()
    bucket.server.control(Fault(status=403, code=code))
    line = refused(StoreError, open_store, bucket.url, cache=bucket.tmp, patience=QUICK)
    assert (
        line.startswith(f"{bucket.url}: cannot look into it: ")
        and "check what the credentials" in line
    )
    assert bucket.server.requests().total() == 1


def test_missing_credentials_are_told_at_once(
    bucket: Place, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(bucket.tmp / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(bucket.tmp / "none"))
    line = refused(StoreError, open_store, bucket.url, cache=bucket.tmp, patience=QUICK)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE" in line


def test_a_bucket_that_is_not_there_is_told(bucket: Place, refused: Refused) -> None:
    line = refused(
        StoreError, open_store, "s3://no-such-bucket/x", cache=bucket.tmp, patience=QUICK
    )
    assert line == (
        "s3://no-such-bucket/x: there is no bucket 'no-such-bucket'; make it, or check the name "
        "and AWS_ENDPOINT_URL"
    )
    for url in ("s3://", "s3:///x"):
        assert "names no bucket" in refused(StoreError, open_store, url, cache=bucket.tmp)


def test_a_bucket_that_went_away_is_no_empty_store(filled: Place, refused: Refused) -> None:
    assert filled.server
    store = filled.open()
    filled.server.remove()
    asking: list[Callable[[], object]] = [
        lambda: compute_in(store, never),
        lambda: store.find("merge", MANY),
        lambda: verify(store),
        store.check_writable,
    ]
    for ask in asking:
        assert "bucket does not exist" in refused(StoreError, ask)


def test_a_server_that_is_not_there_is_asked_again_and_told(
    bucket: Place, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    line = refused(StoreError, open_store, bucket.url, cache=bucket.tmp, patience=QUICK)
    assert "(4 attempts); check the network, AWS_ENDPOINT_URL and the server" in line


def test_a_cache_that_cannot_be_written_is_told_where_it_is_needed(
    filled: Place, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "file").touch()
    store = impatient(filled, "file/cache")
    record = compute_in(store, never).record
    assert not compute_in(store, Computing("new"), "cd" * 32).cached
    assert "set FMN_CACHE to another directory" in refused(
        StoreError, store.path, record.outputs["file"]
    )


def test_a_full_disk_of_this_machine_is_not_laid_to_the_server(
    filled: Place, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert filled.server
    store = filled.open("elsewhere")
    record = store.get("trial", KEY)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.objects, "_keep", full)
    assert record
    line = refused(StoreError, store.path, record.outputs["file"])
    assert "No space left on device; make room on this machine's disk" in line
