"""A store in a directory."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from fmn.errors import StoreError
from fmn.store import Gone, Store, open_store, verify
from tests.store.conftest import KEY, Computing, Place, Refused, compute_in

MANY = [f"{number:064x}" for number in range(100)]


def never(folder: Path) -> object:
    raise AssertionError("nothing may be computed")


def test_it_is_made_when_something_is_stored_and_not_before(directory: Place) -> None:
    store = directory.open()
    assert (store.get("trial", KEY), store.find("merge", MANY), store.all(), verify(store)) == (
        None,
        {},
        {},
        [],
    )
    assert not Path(directory.url).exists()
    compute_in(store, Computing())
    assert sorted(path.name for path in Path(directory.url).iterdir()) == [
        "arriving",
        "claims",
        "files",
        "records",
    ]


def test_an_address_may_be_relative_or_a_file_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    compute = Computing()
    for url in ("store", Path("store"), f"file://{tmp_path}/store", tmp_path / "store"):
        store = open_store(url, cache=tmp_path / "cache")
        os.chdir("/")
        compute_in(store, compute)
        os.chdir(tmp_path)
    assert compute.calls == 1


def test_a_store_that_is_a_file_is_refused(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "store").touch()
    assert "store is a file; expected a directory or s3://bucket/prefix" in refused(
        StoreError, open_store, tmp_path / "store"
    )


@pytest.mark.parametrize("url", ["gs://bucket/x", "https://host/store", "s4://bucket"])
def test_an_address_of_another_kind_is_refused(url: str, refused: Refused) -> None:
    assert (
        refused(StoreError, open_store, url)
        == f"store '{url}': expected a directory or s3://bucket/prefix"
    )


@pytest.fixture(params=["below a file", "in the kernel's", "its own file", "read-only"])
def unwritable(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Places that not even root can write to; and one that others cannot."""
    (tmp_path / "file").touch()
    if request.param == "its own file":
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "probes").touch()
        (tmp_path / "store" / "records").touch()
        return str(tmp_path / "store")
    if request.param == "read-only":
        if os.geteuid() == 0:
            pytest.skip("NOT TESTED: root writes to every directory; the other places stand for it")
        (tmp_path / "store").mkdir(mode=0o555)
        return str(tmp_path / "store")
    return {"below a file": str(tmp_path / "file" / "store"), "in the kernel's": "/proc/fmn/store"}[
        request.param
    ]


def test_a_store_that_cannot_be_written_is_told_of_before_any_work(
    unwritable: str, tmp_path: Path, refused: Refused
) -> None:
    store = open_store(unwritable, cache=tmp_path / "cache")
    line = refused(StoreError, store.check_writable)
    assert (
        line.startswith(f"{unwritable}: cannot write ")
        and "choose another (store: in params.yaml)" in line
    )


def test_a_write_that_fails_is_an_error_and_no_answer(
    unwritable: str, tmp_path: Path, refused: Refused
) -> None:
    files = open_store(unwritable, cache=tmp_path / "cache").files
    for write in (files.write, files.create):
        assert refused(StoreError, write, "records/x.json", b"").startswith(
            f"{unwritable}: cannot write records/x.json: "
        )


def test_what_cannot_be_read_is_no_miss(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "file").touch()
    store = open_store(tmp_path / "file" / "store", cache=tmp_path / "cache")
    for look in (
        lambda: compute_in(store, never),  # type: ignore[arg-type]
        lambda: store.find("merge", MANY),
        store.all,
        lambda: verify(store),
        lambda: store.files.stamp("x"),
    ):
        assert "Not a directory" in refused(StoreError, look)


def test_a_part_that_cannot_be_listed_is_no_empty_part(
    directory: Place, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = directory.open()
    compute_in(store, Computing())
    scandir = os.scandir

    def scan(path: str) -> object:
        if Path(path).name == KEY[:2]:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert "cannot list records: Permission denied" in refused(StoreError, verify, store)


def test_a_file_system_without_hard_links_will_do(
    directory: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*args: object) -> None:
        raise PermissionError(1, "no hard links on this file system")

    monkeypatch.setattr("fmn.store.files.os.link", no_links)
    compute = Computing()
    assert not compute_in(directory.open(), compute).cached
    assert compute_in(directory.open(), compute).cached
    assert not directory.open().files.create(f"records/v2/trial/{KEY[:2]}/{KEY}.json", b"another")
    assert [path.name for path in Path(directory.url).rglob("*.partial-*")] == []


def test_files_that_a_killed_writer_left_are_nothing(directory: Place) -> None:
    store = directory.open()
    record = compute_in(store, Computing()).record
    before = store.objects.all()
    for left in (
        f"{record.path}.partial-1-ab",
        f"files/md5/{record.outputs['file'].md5[:2]}/x.tmp",
    ):
        path = Path(directory.url, left)
        path.with_name(f".{path.name}").write_bytes(b"half")
    assert (store.all(), store.objects.all(), verify(store)) == ({record.path: record}, before, [])


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", "a//b", "a\x1bb", ""])
def test_a_list_that_leads_outside_is_none(directory: Place, tmp_path: Path, name: str) -> None:
    store = directory.open()
    tree = compute_in(store, Computing()).record.outputs["tree"]
    evil = tree.model_copy(update={"md5": listed(store, {name: "0" * 32})})
    with pytest.raises(Gone, match="is not a list of files in a directory"):
        store.objects.check_out(evil, tmp_path / "out" / "tree")
    assert not (tmp_path / "out").exists()


def listed(store: Store, files: dict[str, str]) -> str:
    """Write the list of a directory into a store; return its name."""
    content = json.dumps([{"md5": md5, "relpath": path} for path, md5 in files.items()]).encode()
    oid = hashlib.md5(content, usedforsecurity=False).hexdigest() + ".dir"
    store.files.write(f"files/md5/{oid[:2]}/{oid[2:]}", content)
    return oid


@pytest.mark.parametrize(
    "path", ["../out", "/etc/out", "files/../../out", "report/index.html", "files", "x\x00"]
)
def test_nothing_outside_of_the_folders_of_a_store_is_deleted(
    directory: Place, refused: Refused, path: str
) -> None:
    store = directory.open()
    compute_in(store, Computing())
    assert "nothing was done to it" in refused(StoreError, store.files.delete, path)


def test_a_link_that_leads_out_of_a_store_is_not_followed_to_delete(
    directory: Place, tmp_path: Path, refused: Refused
) -> None:
    store = directory.open()
    record = compute_in(store, Computing()).record
    folder = Path(directory.url, record.path).parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert "cannot delete" in refused(StoreError, store.drop, record.address)
    assert (tmp_path / "elsewhere" / Path(record.path).name).is_file()
