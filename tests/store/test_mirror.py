"""A machine's copies of a server's records: what is asked of the server, and that nothing is
missed."""

from __future__ import annotations

import gzip
import re

import pytest

from fmn.store import Address, Draft, Store
from fmn.store.mirror import MANY, MARK, PACKS
from fmn.store.store import NOTICE
from fmn.testing.stores import key_of
from tests.store.conftest import Place, compute_in


def fill(store: Store, count: int, start: int = 0) -> None:
    for number in range(start, start + count):
        compute_in(store, lambda folder, number=number: Draft({"number": number}), str(number))


def numbers(store: Store) -> list[int]:
    return sorted(record.value["number"] for record in store.known("trial").values() if record)


@pytest.fixture
def team(bucket: Place) -> Place:
    fill(bucket.open("writer"), 3)
    assert bucket.server
    bucket.server.reset()
    return bucket


def test_while_nobody_writes_one_request_is_enough(team: Place) -> None:
    reader = team.open("reader")
    assert numbers(reader) == [0, 1, 2]
    team.server.reset()
    assert numbers(reader) == [0, 1, 2]
    assert numbers(team.open_again("reader")) == [0, 1, 2]  # in another process of the same machine
    asked = team.server.requests()
    assert (asked["head"], asked["get"], asked["put"]) == (2, 0, 0)
    assert asked["list"] <= 1  # the second process looks whether there is a bucket


def test_what_others_write_is_seen_at_once(team: Place) -> None:
    reader = team.open("reader")
    assert numbers(reader) == [0, 1, 2]
    fill(team.open("writer"), 1, start=3)
    team.server.reset()
    assert numbers(reader) == [0, 1, 2, 3]
    assert team.server.requests()["get"] == 1  # only what is new


def test_what_is_removed_is_gone_at_once(team: Place) -> None:
    reader, writer = team.open("reader"), team.open("writer")
    assert numbers(reader) == [0, 1, 2]
    writer.drop(Address("trial", key_of("1")))
    assert numbers(reader) == [0, 2]
    assert numbers(reader) == [0, 2]


def test_what_is_repaired_is_read_again(team: Place) -> None:
    reader, writer = team.open("reader"), team.open("writer")
    assert numbers(reader) == [0, 1, 2]
    writer.repair(writer.get("trial", key_of("1")), lambda folder: Draft({"number": 11}))
    assert numbers(reader) == [0, 2, 11]


def test_a_record_whose_writer_was_killed_before_it_left_a_mark_is_seen_after_a_while(
    team: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = team.open("reader"), team.open("writer")
    assert numbers(reader) == [0, 1, 2]
    monkeypatch.setattr(writer.mirror, "changed", lambda: None)
    fill(writer, 1, start=3)
    assert numbers(reader) == [0, 1, 2]
    monkeypatch.setattr("fmn.store.mirror.FRESH", 0.0)
    assert numbers(reader) == [0, 1, 2, 3]


def test_all_asks_the_server_whatever_is_known(team: Place) -> None:
    reader, writer = team.open("reader"), team.open("writer")
    assert numbers(reader) == [0, 1, 2]
    writer.files.delete(Address("trial", key_of("1")).path())  # behind everybody's back
    assert len(reader.all("trial")) == 2


def test_a_store_without_a_mark_is_listed(team: Place) -> None:
    team.open("writer").files.delete(MARK)
    reader = team.open("reader")
    for _ in range(2):
        team.server.reset()
        assert numbers(reader) == [0, 1, 2]
        assert team.server.requests()["list"] >= 1


def bodies(place: Place, count: int) -> None:
    """Put many records there quickly."""
    assert place.server
    store, files = place.open("writer"), {}
    template = compute_in(store, lambda folder: Draft({"number": 0}), "0").record
    for number in range(1, count):
        model = {"key": key_of(str(number)), "inputs": {"model": str(number)}}
        record = template.model_copy(update={**model, "value": {"number": number}})
        path = f"{store.files.root}/{record.path}".partition("/")[2]
        files[path] = record.to_bytes().decode()
    place.server.fill(files)
    store.mirror.changed()


def test_a_machine_that_has_nothing_fetches_a_pack(bucket: Place) -> None:
    writer, count = bucket.open("writer"), MANY + 20
    bodies(bucket, count)
    writer.mirror.pack()
    fill(writer, 2, start=count)  # not in the pack
    overwritten = writer.get("trial", key_of("5")).model_copy(update={"value": {"number": 5000}})
    writer.files.write(overwritten.path, overwritten.to_bytes())
    bucket.server.reset()
    values = numbers(bucket.open("reader"))
    assert values == sorted({*range(count + 2)} - {5} | {5000})
    assert (
        bucket.server.requests()["get"] == 4
    )  # the pack, the two new ones, and the one that is not what the pack has


def test_a_pack_is_written_only_where_it_is_worth_it(bucket: Place) -> None:
    writer = bucket.open("writer")
    fill(writer, 3)
    writer.mirror.pack()
    assert writer.files.list(PACKS) == {}
    bodies(bucket, MANY + 5)
    writer.mirror.pack()
    (first,) = writer.files.list(PACKS)
    writer.mirror.pack()
    assert list(writer.files.list(PACKS)) == [first]
    bodies(bucket, 2 * MANY + 10)
    writer.mirror.pack()
    (second,) = writer.files.list(PACKS)
    assert second != first


def test_a_damaged_pack_costs_time_and_nothing_else(bucket: Place) -> None:
    writer, count = bucket.open("writer"), MANY + 1
    bodies(bucket, count)
    writer.mirror.pack()
    (pack,) = writer.files.list(PACKS)
    writer.files.write(pack, writer.files.read([pack])[pack][:-50])
    assert numbers(bucket.open("reader")) == list(range(count))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (gzip.compress(bytes(100_000_000)), "more than .* bytes when unpacked"),
        (gzip.compress(b"[" * 900), "nested more than 32 deep"),
        (gzip.compress(b'{"a": "", "a": ""}'), "the key 'a' twice"),
        (b"no gzip", "is not gzip"),
    ],
    ids=["a bomb", "deep", "a key twice", "no gzip"],
)
def test_a_pack_that_would_be_more_than_the_records_is_ignored(
    bucket: Place, content: bytes, why: str
) -> None:
    writer, count = bucket.open("writer"), MANY + 1
    bodies(bucket, count)
    for name in ("999999-00000000.json.gz", "no-pack.json.gz"):
        writer.files.write(f"{PACKS}/{name}", content)
    assert numbers(bucket.open("reader")) == list(range(count))
    (line,) = bucket.warnings
    assert re.search(why, line) and line.endswith("its records are fetched one by one")


def test_a_directory_needs_neither_marks_nor_packs(directory: Place) -> None:
    store = directory.open()
    fill(store, 3)
    store.mirror.pack()
    written = {record.path for record in store.known().values() if record}
    assert set(store.files.list("")) == {*written, NOTICE}
