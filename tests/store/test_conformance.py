"""What every store does, wherever it lies."""

from __future__ import annotations

import json
import math
import stat
from pathlib import Path

import pytest

import fmn
from fmn.store import Draft, Gone, Record, verify
from fmn.store.objects import READ_ONLY
from tests.store.conftest import KEY, Computing, Place, compute_in, corrupted, object_path, part_of


def test_a_result_is_computed_once_and_then_found_by_every_machine(place: Place) -> None:
    compute = Computing()
    first = compute_in(place.open(), compute)
    again, elsewhere = (
        compute_in(place.open(), compute),
        compute_in(place.open("elsewhere"), compute),
    )
    assert (first.cached, again.cached, elsewhere.cached, compute.calls) == (False, True, True, 1)
    assert first.record == again.record == elsewhere.record
    assert place.warnings == []


def test_another_key_or_kind_is_another_result(place: Place) -> None:
    store, compute = place.open(), Computing()
    compute_in(store, compute)
    compute_in(store, compute, "cd" * 32)
    store.get_or_compute("fisher", KEY, {}, compute)
    assert compute.calls == 3
    assert (store.keys("merge"), store.keys("fisher"), store.keys("evaluate")) == (
        {KEY, "cd" * 32},
        {KEY},
        set(),
    )


def test_a_record_says_what_was_made_from_what_by_whom(place: Place) -> None:
    store = place.open()
    record = compute_in(store, Computing()).record
    file, tree = record.outputs["file"], record.outputs["tree"]
    assert (record.kind, record.key, record.inputs, record.names) == (
        "merge",
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
    assert record.path == f"records/v1/merge/ab/{KEY}.json"
    assert (
        Record.model_validate_json(store.files.read([record.path])[record.path])
        == record
        == store.get("merge", KEY)
    )
    assert store.all() == {record.path: record}


def test_a_value_alone_needs_no_object(place: Place) -> None:
    store = place.open()
    compute_in(store, lambda folder: Draft(value={"accuracy": 1.0}))
    assert compute_in(store, Computing()).record.value == {"accuracy": 1.0}
    assert store.objects.all() == {}


def test_an_error_of_a_computation_stays_what_it_is_and_stores_nothing(place: Place) -> None:
    def fail(folder: Path) -> Draft:
        (folder / "half").touch()
        raise ValueError("a bug")

    store = place.open()
    with pytest.raises(ValueError, match="a bug"):
        compute_in(store, fail)
    assert (store.all(), store.objects.all()) == ({}, {})


@pytest.mark.parametrize("machine", ["here", "elsewhere"])
def test_files_and_directories_come_out_as_they_went_in(
    place: Place, tmp_path: Path, machine: str
) -> None:
    outputs = compute_in(place.open(), Computing()).record.outputs
    store = place.open(machine)
    store.objects.check_out(outputs["file"], tmp_path / "file")
    store.objects.check_out(outputs["tree"], tmp_path / "tree")
    assert (tmp_path / "file").read_bytes() == b"file " * 100
    found = {
        path.relative_to(tmp_path / "tree").as_posix(): path
        for path in (tmp_path / "tree").rglob("*")
        if path.is_file()
    }
    assert {name: path.read_text() for name, path in found.items()} == {
        "a.txt": "a ",
        "deep/b.txt": "b ",
        "empty": "",
    }
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "file", *found.values())} == {
        READ_ONLY
    }


def test_what_is_checked_out_is_a_link_and_not_a_copy(place: Place, tmp_path: Path) -> None:
    store = place.open()
    file = compute_in(store, Computing()).record.outputs["file"]
    store.objects.check_out(file, tmp_path / "one")
    store.objects.check_out(file, tmp_path / "two")
    assert (tmp_path / "one").samefile(tmp_path / "two") and (tmp_path / "one").samefile(
        store.path(file)
    )
    with pytest.raises(FileExistsError):
        store.objects.check_out(file, tmp_path / "one")


def test_a_copy_is_made_where_nothing_can_be_linked(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.open()
    file = compute_in(store, Computing()).record.outputs["file"]

    def refuse(*args: object) -> None:
        raise PermissionError(1, "not yours")

    monkeypatch.setattr(Path, "chmod", refuse)  # a colleague's file in a shared directory
    store.objects.check_out(file, tmp_path / "linked")
    monkeypatch.setattr("fmn.store.objects.os.link", refuse)
    store.objects.check_out(file, tmp_path / "copied")
    assert (
        (tmp_path / "linked").read_bytes() == (tmp_path / "copied").read_bytes() == b"file " * 100
    )
    assert not (tmp_path / "copied").samefile(store.path(file))


def damage(place: Place, oid: str, how: str) -> None:
    files, path = place.open().files, object_path(oid)
    content = files.read([path])[path]
    if how == "missing":
        files.delete(path)
    else:
        files.write(path, {"truncated": content[:-1], "corrupt": corrupted(content)}[how])


@pytest.mark.parametrize("how", ["missing", "truncated"])
def test_an_object_that_is_not_whole_is_computed_again(place: Place, how: str) -> None:
    compute = Computing()
    before = compute_in(place.open(), compute).record
    damage(place, before.outputs["file"].md5, how)
    store = place.open("elsewhere")
    after = compute_in(store, compute)
    assert (after.record, after.cached, compute.calls) == (before, False, 2)
    assert store.get("merge", KEY) == before
    assert [KEY[:12] in line and "missing or cut off" in line for line in place.warnings] == [True]
    assert verify(store) == []
    assert store.path(before.outputs["file"]).read_bytes() == b"file " * 100
    assert compute_in(store, compute).cached


def test_the_missing_list_of_a_directory_is_computed_again(place: Place) -> None:
    compute = Computing()
    before = compute_in(place.open(), compute).record
    damage(place, before.outputs["tree"].md5, "missing")
    assert compute_in(place.open(), compute).record == before
    assert (compute.calls, len(place.warnings), verify(place.open())) == (2, 1, [])


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
    assert store.repair(before, compute) == before == store.get("merge", KEY)
    assert (compute.calls, len(place.warnings), verify(store)) == (2, 1, [])
    assert store.path(file).read_bytes() == b"file " * 100


@pytest.mark.parametrize("how", ["missing", "truncated", "corrupt"])
@pytest.mark.parametrize("part", ["deep/b.txt", "the list"])
def test_a_damaged_directory_is_gone_puts_nothing_anywhere_and_is_repaired(
    place: Place, tmp_path: Path, how: str, part: str
) -> None:
    compute = Computing()
    before = compute_in(place.open(), compute).record
    tree = before.outputs["tree"]
    damage(place, tree.md5 if part == "the list" else part_of(place.open(), tree, part), how)
    store = place.open("elsewhere")
    with pytest.raises(Gone):
        store.objects.check_out(tree, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()
    assert store.repair(before, compute) == before
    assert (len(place.warnings), verify(store)) == (1, [])
    store.objects.check_out(tree, tmp_path / "tree")
    assert (tmp_path / "tree" / "deep" / "b.txt").read_text() == "b "


def test_a_repair_with_other_bytes_gives_another_record(place: Place) -> None:
    store = place.open()
    before = compute_in(store, Computing("one")).record
    damage(place, before.outputs["file"].md5, "missing")
    after = compute_in(store, Computing("two")).record
    assert after.outputs != before.outputs
    assert store.get("merge", KEY) == after
    assert verify(store) == []


@pytest.mark.parametrize("garbage", [b"", b"{", b'{"kind": "merge"}', b"\xff\xfe", "another's"])
def test_a_damaged_record_is_a_miss_and_is_written_again(
    place: Place, garbage: bytes | str
) -> None:
    compute = Computing()
    before = compute_in(place.open(), compute).record
    other = before.model_copy(update={"key": "cd" * 32}).to_bytes()
    place.open().files.write(before.path, other if isinstance(garbage, str) else garbage)
    store = place.open()
    assert store.get("merge", KEY) is None
    after = compute_in(store, compute)
    assert (after.cached, after.record.outputs, compute.calls) == (False, before.outputs, 2)
    assert ["damaged" in line for line in place.warnings] == [True]
    assert store.get("merge", KEY) == after.record
    assert compute_in(place.open("elsewhere"), compute).cached


def test_a_record_that_was_dropped_is_a_miss(place: Place) -> None:
    store, compute = place.open(), Computing()
    store.drop(compute_in(store, compute).record)
    assert store.get("merge", KEY) is None
    assert not compute_in(store, compute).cached
    assert place.warnings == []


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
        bucket.server.requests()["put"] == 3
    )  # the record, the mark of the change, and the list of the directory


def test_two_names_of_one_content_are_one_object(place: Place, tmp_path: Path) -> None:
    def twins(folder: Path) -> Draft:
        (folder / "tree").mkdir()
        for path in (folder / "one", folder / "tree" / "two", folder / "tree" / "three"):
            path.write_text("same")
        (folder / "tree" / "link").symlink_to(folder / "one")
        return Draft(files={"one": folder / "one", "tree": folder / "tree"})

    store = place.open()
    outputs = compute_in(store, twins).record.outputs
    assert set(store.objects.all()) == {outputs["one"].md5, outputs["tree"].md5}
    store.objects.check_out(outputs["tree"], tmp_path / "tree")
    found = {path.name: path.read_text() for path in (tmp_path / "tree").iterdir()}
    assert found == dict.fromkeys(("two", "three", "link"), "same")


def test_runs_are_kept_beside_the_records_the_newest_first(place: Place) -> None:
    store = place.open()
    for number in range(3):
        store.files.write(
            f"runs/v1/2026010{number}T000000Z-0.json", json.dumps({"run": number}).encode()
        )
    store.log_run({"run": 3})
    store.check_writable()
    assert [run["run"] for run in store.runs(last=3)] == [3, 2, 1]
    assert store.all() == {}


def test_thousands_of_keys_are_looked_up_in_a_handful_of_listings(place: Place) -> None:
    """Of 1,200 records 300 are asked for, and 4,700 keys that nobody computed."""
    numbers = [f"{number * 7919:064x}"[::-1] for number in range(5900)]
    there, keys = numbers[:1200], numbers[900:]
    store = place.open()
    template = compute_in(store, lambda folder: Draft()).record
    store.drop(template)
    records = {key: template.model_copy(update={"key": key}) for key in there}
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
        found = place.open_again().find("merge", keys)
        assert found == {key: records[key] for key in there[900:]}
        if place.server:
            asked = place.server.requests()
            assert asked["list"] <= math.ceil(len(there) / 1000) + 4, (
                asked
            )  # and whether there is a pack
            assert asked["get"] == gets
            assert asked["head"] <= 1, asked


def test_a_record_that_changed_is_read_again_and_not_remembered(place: Place) -> None:
    store = place.open()
    template = compute_in(store, lambda folder: Draft(value={"x": 1})).record
    keys = [f"{number:064x}" for number in range(60)] + [KEY]
    assert store.find("merge", keys)[KEY].value == {"x": 1}
    changed = template.model_copy(update={"value": {"x": 2}})
    store.files.write(changed.path, changed.to_bytes())
    assert store.find("merge", keys) == {KEY: changed}


def test_an_empty_directory_comes_out_empty(place: Place, tmp_path: Path) -> None:
    def nothing(folder: Path) -> Draft:
        (folder / "tree").mkdir()
        return Draft(files={"tree": folder / "tree"})

    store = place.open()
    tree = compute_in(store, nothing).record.outputs["tree"]
    store.objects.check_out(tree, tmp_path / "out" / "tree")
    assert (tree.files, list((tmp_path / "out" / "tree").iterdir())) == (0, [])
