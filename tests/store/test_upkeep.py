"""What is damaged, and what nobody needs."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fmn.errors import StoreError
from fmn.store import Address, Draft, Record, Store, collect, garbage, verify
from fmn.store.upkeep import dvc_objects
from tests.store.conftest import (
    KEY,
    Computing,
    Place,
    Refused,
    compute_in,
    corrupted,
    object_path,
    part_of,
)


def overwrite(store: Store, path: str, change: Callable[[bytes], bytes]) -> None:
    store.files.write(path, change(store.files.read([path])[path]))


def damage(store: Store, record: Record, how: str) -> str:
    """Damage a store; return what verifying should say."""
    file, tree = record.outputs["file"].md5, record.outputs["tree"].md5
    part = part_of(store, record.outputs["tree"])
    if how == "record":
        store.files.write(record.path, b"{}")
        return "the record is damaged"
    if how == "truncated":
        overwrite(store, object_path(file), lambda content: content[:-1])
        return f"object {file} has 499 bytes, not 500"
    state, _, what = how.partition(" ")
    oid = {"": file, "part": part, "list": tree}[what]
    if state == "missing":
        store.objects.delete(oid)
    else:
        overwrite(store, object_path(oid), corrupted)
    return f"object {oid} is {state}"


HOW = [
    "record",
    "truncated",
    "missing",
    "corrupt",
    "missing part",
    "corrupt part",
    "missing list",
    "corrupt list",
]


@pytest.mark.parametrize("how", HOW)
def test_damage_is_found_with_the_record_that_it_is_of(place: Place, how: str) -> None:
    store = place.open()
    compute_in(store, Computing("another"), "cd" * 32)
    record = compute_in(store, Computing()).record
    assert verify(store) == []
    what = damage(store, record, how)
    assert [
        (entry.path, entry.record, entry.what) for entry in verify(place.open("elsewhere"))
    ] == [(record.path, None if how == "record" else record, what)]


def test_a_quick_check_reads_no_objects(bucket: Place) -> None:
    assert bucket.server
    store = bucket.open()
    record = compute_in(
        store, lambda folder: Draft(files={"file": Computing()(folder).files["file"]})
    ).record
    overwrite(store, object_path(record.outputs["file"].md5), corrupted)
    bucket.server.reset()
    assert verify(store, read=False) == []
    assert bucket.server.requests()["get"] == 2  # the record and the notice
    assert len(verify(store)) == 1


def test_progress_is_told(directory: Place) -> None:
    store = directory.open()
    for key in (KEY, "cd" * 32):
        compute_in(store, Computing(), key)
    counts: list[tuple[int, int]] = []
    verify(store, progress=lambda done, total: counts.append((done, total)))
    assert counts == [(1, 2), (2, 2)]


def test_garbage_is_what_no_record_needs_and_only_that_goes(place: Place) -> None:
    store = place.open()
    dropped, kept = (
        compute_in(store, Computing("old")).record,
        compute_in(store, Computing("new"), "cd" * 32).record,
    )
    before = store.objects.all()
    assert garbage(store, [], grace=-60).objects == {}
    store.drop(dropped.address)
    waste = garbage(store, [], grace=-60)
    expected = store.objects.parts(dropped.outputs["tree"].md5) | {dropped.outputs["file"].md5}
    expected -= store.objects.parts(kept.outputs["tree"].md5)  # the empty file is of both
    assert waste.objects == {oid: before[oid].size for oid in expected}
    assert (waste.kept, waste.young, waste.named_by_dvc) == (len(before) - len(expected), 0, 0)
    assert store.objects.all() == before  # to look deletes nothing
    counts: list[int] = []
    collect(store, waste, counts.append)
    assert set(store.objects.all()) == set(before) - expected
    assert (len(counts), verify(store), garbage(store, [], grace=-60).objects) == (
        len(expected),
        [],
        {},
    )
    assert compute_in(store, Computing(), "cd" * 32).cached


def test_what_killed_writers_left_goes_when_it_is_old(directory: Place) -> None:
    store = directory.open()
    compute_in(store, Computing())
    left = [
        Path(store.files.root, "records/v2/fisher/ab/.x.json.partial-1-2"),
        Path(store.files.root, "files/md5/ab/.y.tmp"),
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    before = {*store.objects.all(), *store.all()}
    assert garbage(store, []).unfinished == ()
    waste = garbage(store, [], grace=-60)
    assert len(waste.unfinished) == 2
    collect(store, waste)
    assert not any(path.exists() for path in left)
    assert {*store.objects.all(), *store.all()} == before


def test_what_is_young_may_belong_to_a_run_that_goes_on(place: Place) -> None:
    store = place.open()
    store.drop(compute_in(store, Computing()).record.address)
    waste = garbage(store, [])
    assert (waste.objects, waste.young, waste.kept) == ({}, 5, 5)


def test_what_is_old_goes(directory: Place) -> None:
    store = directory.open()
    record = compute_in(store, Computing()).record
    store.drop(record.address)
    file = record.outputs["file"].md5
    os.utime(Path(directory.url, object_path(file)), (time.time() - 25 * 3600,) * 2)
    assert garbage(store, []).objects == {file: 500}


def test_what_a_damaged_record_names_stays_and_other_garbage_goes(place: Place) -> None:
    store = place.open()
    record = compute_in(store, Computing()).record
    loose = compute_in(store, Computing("loose"), "y").record
    overwrite(store, record.path, lambda content: content.replace(b"a name", b"a nAme"))
    store.drop(loose.address)
    needed = {record.outputs["file"].md5} | store.objects.parts(record.outputs["tree"].md5)
    collect(store, garbage(store, [], grace=-60))
    assert set(store.objects.all()) == needed
    assert ["1 record of the kind trial that cannot be read" in line for line in place.warnings]
    assert compute_in(place.open("elsewhere"), Computing()).record.outputs == record.outputs


def test_nothing_is_garbage_where_a_newer_version_has_written(
    place: Place, refused: Refused
) -> None:
    store = place.open()
    store.files.write(Address("trial", KEY).path(3), b"of another form")
    assert "use that version for 'fmn store gc'" in refused(StoreError, garbage, store, [], -60)
    assert (store.all(), store.get("trial", KEY), verify(store)) == ({}, None, [])
    assert not compute_in(store, Computing()).cached
    assert place.warnings == []


@pytest.mark.parametrize("part", ["file", "part"])
def test_a_corrupt_object_that_verifying_found_is_computed_again(place: Place, part: str) -> None:
    store, compute = place.open(), Computing()
    record = compute_in(store, compute).record
    tree = record.outputs["tree"]
    oid = record.outputs["file"].md5 if part == "file" else part_of(store, tree)
    overwrite(store, object_path(oid), corrupted)
    assert [damage.what for damage in verify(store)] == [f"object {oid} is corrupt"]
    assert oid not in store.objects.all()
    assert (compute_in(place.open("elsewhere"), compute).record, compute.calls) == (record, 2)
    assert verify(store) == []


@pytest.mark.parametrize("how", ["missing", "truncated", "another's"])
def test_a_file_of_a_directory_that_is_lost_or_foreign_is_computed_again(
    place: Place, how: str
) -> None:
    store, compute = place.open(), Computing()
    record = compute_in(store, compute).record
    oid = part_of(store, record.outputs["tree"])
    if how == "missing":
        store.objects.delete(oid)
    else:
        store.files.write(object_path(oid), b"" if how == "truncated" else b"of another size")
    assert len(verify(store)) == 1
    outcome = compute_in(place.open("elsewhere"), compute)
    assert (outcome.record, outcome.cached, compute.calls, verify(store)) == (record, False, 2, [])


def test_what_was_made_of_a_result_that_came_out_otherwise_is_made_again(place: Place) -> None:
    store = place.open()
    source = compute_in(store, Computing("one")).record

    def made_of_it(folder: Path) -> Draft:
        now = store.get("trial", KEY)
        assert now
        return Draft(value={"of": now.content}, read={"trial": {now.key: now.content}})

    made = compute_in(store, made_of_it, "made of it").record
    assert compute_in(store, made_of_it, "made of it").cached
    store.objects.delete(source.outputs["file"].md5)
    assert compute_in(store, Computing("two")).record.content != source.content
    damages = [damage for damage in verify(store) if damage.record == made]
    assert [damage.what for damage in damages] == ["it was made of what was computed again since"]
    again = compute_in(store, made_of_it, "made of it")
    assert (again.cached, again.record.value == made.value, verify(store)) == (False, False, [])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    (path / ".dvc").mkdir(parents=True)
    (path / ".dvc" / "config").write_text("[core]\n")
    git(path, "init", "-q", "-b", "main")
    git(path, "config", "user.email", "tester@example.com")
    git(path, "config", "user.name", "tester")
    commit(path, {"README.md": "hello"})
    return path


def git(repository: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", repository, *arguments], check=True, capture_output=True)


def commit(repository: Path, files: dict[str, str | None]) -> None:
    for name, text in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink() if text is None else path.write_text(text)
    git(repository, "add", "--all")
    git(repository, "commit", "-q", "-m", "change")


def lock(md5: str) -> str:
    outs = f"    outs:\n    - path: out\n      hash: md5\n      md5: {md5}\n      size: 3\n"
    return f"schema: '2.0'\nstages:\n  merge:\n    cmd: fmn merge\n{outs}"


def test_what_any_revision_of_a_repository_names_stays(place: Place, repository: Path) -> None:
    """A file that only an old commit names, a directory and all its parts that only another branch
    does."""
    store = place.open()
    record, loose = (
        compute_in(store, Computing()).record,
        compute_in(store, Computing("loose"), "cd" * 32).record,
    )
    file, tree = record.outputs["file"].md5, record.outputs["tree"]
    named = {file} | store.objects.parts(tree.md5)
    commit(repository, {"sub/dvc.lock": lock(file)})
    commit(repository, {"sub/dvc.lock": lock("0" * 32)})
    git(repository, "checkout", "-q", "-b", "other")
    commit(repository, {"data.dvc": f"outs:\n- md5: {tree.md5}\n  nfiles: 3\n  path: data\n"})
    git(repository, "checkout", "-q", "main")
    for dropped in (record, loose):
        store.drop(dropped.address)
    objects = set(store.objects.all())
    waste = garbage(store, [repository], grace=-60)
    assert set(waste.objects) == objects - named
    assert (waste.named_by_dvc, waste.kept) == (len(named), len(named))
    collect(store, waste)
    assert set(store.objects.all()) == named
    assert set(garbage(store, [], grace=-60).objects) == named


def test_of_a_merge_both_sides_are_named_and_the_tree_as_it_is(repository: Path) -> None:
    """Also a side whose changes the merge threw away, and a branch that is gone since."""
    assert dvc_objects(repository) == set()
    git(repository, "checkout", "-q", "-b", "side")
    commit(repository, {"dvc.lock": lock("a" * 32)})
    git(repository, "checkout", "-q", "main")
    commit(repository, {"dvc.lock": lock("b" * 32)})
    git(repository, "merge", "-q", "-s", "ours", "-m", "merge", "side")
    git(repository, "branch", "-q", "-D", "side")
    (repository / "dvc.lock").write_text(lock("c" * 32))
    (repository / "new.dvc").write_text(f"outs:\n- md5: {'d' * 32}.dir\n  path: new\n")
    git(repository, "add", "new.dvc")
    assert dvc_objects(repository) == {"a" * 32, "b" * 32, "c" * 32, "d" * 32 + ".dir"}


def test_a_repository_without_commits_names_what_lies_in_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    assert dvc_objects(tmp_path) == set()
    (tmp_path / "dvc.lock").write_text(lock("a" * 32))
    assert dvc_objects(tmp_path) == {"a" * 32}


def test_a_directory_that_is_no_repository_is_refused(
    directory: Place, tmp_path: Path, refused: Refused
) -> None:
    (tmp_path / "plain").mkdir()
    assert "name a Git repository" in refused(
        StoreError, garbage, directory.open(), [tmp_path / "plain"]
    )
