"""Bits that flip in records: each is a miss with a warning, and mended by the next writer."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from fmn.store import Draft, Record, record_key
from fmn.store.records import parse_record
from tests.soak import SOAK
from tests.store.conftest import KEY, Computing, Place, compute_in

FLIPS = 300 * SOAK


def old_bytes(record: Record) -> bytes:
    """Return a record as fmn wrote it before records had digests."""
    plain = record.model_dump(exclude={"read"})
    return (json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


@pytest.fixture
def record(directory: Place) -> Record:
    return compute_in(directory.open(), Computing()).record


@pytest.mark.soak
def test_no_flipped_bit_of_a_record_goes_unnoticed(record: Record) -> None:
    content = record.to_bytes()
    assert parse_record(record.path, content) == record
    chance = random.Random(5)
    bits = chance.sample(range(8 * len(content)), min(FLIPS, 8 * len(content)))
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        assert parse_record(record.path, bytes(flipped)) is None, bit


def test_a_cut_record_and_one_with_something_behind_it_are_damaged(record: Record) -> None:
    content = record.to_bytes()
    for length in range(0, len(content), 7):
        assert parse_record(record.path, content[:length]) is None
    assert parse_record(record.path, content + b" ") is None


def test_a_flipped_score_is_a_miss_with_a_warning_and_mended(place: Place) -> None:
    store = place.open()
    score = compute_in(store, lambda folder: Draft(value={"score": 56.67})).record
    content = store.files.read([score.path])[score.path]
    store.files.write(score.path, content.replace(b"56.67", b"76.67"))
    reader = place.open("elsewhere")
    assert reader.get("trial", KEY) is None
    assert [score.path in line for line in place.warnings] == [True]
    again = compute_in(reader, lambda folder: Draft(value={"score": 56.67}))
    assert (again.cached, again.record.value) == (False, {"score": 56.67})
    assert store.get("trial", KEY) == again.record


def test_records_of_the_first_version_are_read_and_never_written(directory: Place) -> None:
    store = directory.open()
    record = compute_in(store, Computing()).record
    store.drop(record.address)
    first, content = Path(directory.url, record.address.path(1)), old_bytes(record)
    first.parent.mkdir(parents=True, exist_ok=True)
    first.write_bytes(content)
    assert compute_in(store, Computing()).cached
    assert (store.keys("trial"), store.get("trial", KEY)) == ({KEY}, record)
    store.objects.delete(record.outputs["file"].md5)
    assert compute_in(store, Computing()).record == record  # mended, and the bytes agree
    assert not Path(directory.url, record.path).exists()
    store.objects.delete(record.outputs["file"].md5)
    other = compute_in(store, Computing("other")).record
    assert store.all() == {other.path: other}  # the second version wins
    assert first.read_bytes() == content


@pytest.mark.parametrize("key", ["inputs", "key"])
def test_a_record_whose_key_is_not_that_of_its_inputs_is_damaged(record: Record, key: str) -> None:
    other = {"inputs": {"model": "another"}, "key": record_key("trial", {"model": "z"})}[key]
    changed = record.model_copy(update={key: other})
    for version, content in ((1, old_bytes(changed)), (2, changed.to_bytes())):
        assert parse_record(changed.address.path(version), content) is None
