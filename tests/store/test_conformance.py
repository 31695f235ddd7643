"""What every store does, wherever it lies: the suite of the package, and what is ours alone."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import fmn
from fmn.store import Draft, Gone, verify
from fmn.store.records import parse_record
from fmn.testing import StoreSuite
from fmn.testing.stores import (
    Computing,
    compute_in,
    corrupted,
    damage,
    key_of,
    object_path,
    part_of,
)
from tests.store.conftest import KEY, Place


class TestDirectory(StoreSuite):
    @pytest.fixture
    def place(self, directory: Place) -> Place:
        return directory


class TestBucket(StoreSuite):
    @pytest.fixture
    def place(self, bucket: Place) -> Place:
        return bucket


def test_a_record_says_what_was_made_from_what_by_whom(place: Place) -> None:
    store = place.open()
    record = compute_in(store, Computing()).record
    file, tree = record.outputs["file"], record.outputs["tree"]
    assert (record.kind, record.key, record.inputs, record.names) == (
        "trial",
        KEY,
        {"model": "x"},
        {"model": "a name"},
    )
    assert record.value == {"score": 0.5}
    assert (file.size, file.files, len(file.md5), len(file.sha256)) == (500, None, 32, 64)
    assert (tree.size, tree.files, tree.md5[32:], len(tree.sha256)) == (4, 3, ".dir", 64)
    assert "@" in record.made.by and record.made.at.endswith("+00:00") and record.made.seconds >= 0
    assert {"python", "torch"} <= set(record.made.versions)
    assert record.made.versions["fmn"] == fmn.__version__
    assert record.path == f"records/v2/trial/{KEY[:2]}/{KEY}.json"
    assert (
        parse_record(record.path, store.files.read([record.path])[record.path])
        == record
        == store.get("trial", KEY)
    )
    assert store.all() == {record.path: record}


@pytest.mark.parametrize("machine", ["here", "elsewhere"])
def test_a_corrupt_object_is_gone_and_repaired(place: Place, machine: str, tmp_path: Path) -> None:
    compute = Computing()
    before = compute_in(place.open(), compute).record
    file = before.outputs["file"]
    damage(place, file.md5, "corrupt")
    store = place.open(machine)
    if machine == "here" and place.server:
        assert store.path(file).read_bytes() == b"file " * 100  # the copy of this machine is whole
    else:
        with pytest.raises(Gone, match=f"{file.md5} is corrupt"):
            store.path(file)
    assert store.repair(before, compute) == before == store.get("trial", KEY)
    assert (compute.calls, len(place.warnings), verify(store)) == (2, 1, [])
    assert store.path(file).read_bytes() == b"file " * 100


def test_a_corrupt_copy_of_this_machine_alone_is_fetched_again(
    bucket: Place, tmp_path: Path
) -> None:
    store = bucket.open()
    outputs = compute_in(store, Computing()).record.outputs
    for oid in (outputs["file"].md5, part_of(store, outputs["tree"])):
        copy = tmp_path / "caches" / "here" / object_path(oid)
        content = copy.read_bytes()
        copy.chmod(0o644)
        copy.write_bytes(corrupted(content))
    store.objects.check_out(outputs["file"], tmp_path / "file")
    store.objects.check_out(outputs["tree"], tmp_path / "tree")
    assert (tmp_path / "file").read_bytes() == b"file " * 100
    assert (tmp_path / "tree" / "a.txt").read_text() == "a "
    assert bucket.warnings == []


def test_an_object_that_is_there_is_not_sent_again(bucket: Place) -> None:
    assert bucket.server
    compute_in(bucket.open(), Computing())
    bucket.server.reset()
    compute_in(bucket.open("elsewhere"), Computing(), "cd" * 32)
    assert (
        bucket.server.requests()["put"] == 5
    )  # claim, record, mark of the change, notice, and the list of the directory


def test_thousands_of_keys_are_looked_up_in_a_handful_of_listings(place: Place) -> None:
    """Of 1,200 records 300 are asked for, and 4,700 keys that nobody computed."""
    keys = [key_of(str(number)) for number in range(5900)]
    there, keys = keys[:1200], keys[900:]
    store = place.open()
    template = compute_in(store, lambda folder: Draft()).record
    store.drop(template.address)
    records = {
        key: template.model_copy(update={"key": key, "inputs": {"model": str(number)}})
        for number, key in enumerate(there)
    }
    if place.server:
        prefix = store.files.root.partition("/")[2]
        place.server.fill(
            {f"{prefix}/{record.path}": record.to_bytes().decode() for record in records.values()}
        )
    else:
        for record in records.values():
            store.files.write(record.path, record.to_bytes())
    for gets in (300, 0):
        if place.server:
            place.server.reset()
        hits = place.open_again().find("trial", keys)
        assert hits == {key: records[key] for key in there[900:]}
        if place.server:
            asked = place.server.requests()
            assert asked["list"] <= math.ceil(len(there) / 1000) + 5, (
                asked
            )  # and whether there is a pack
            assert asked["get"] == gets
            assert asked["head"] <= 2, asked  # records of version 1 have no folder here
