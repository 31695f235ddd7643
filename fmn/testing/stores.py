"""What every store does, wherever it lies.

A store of another kind inherits it by giving a fixture ``place``::

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def place(self, tmp_path):
            return Place("my://address", tmp_path)
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fmn.store import (
    Draft,
    Gone,
    Outcome,
    Output,
    Patience,
    Store,
    open_store,
    record_key,
    verify,
)
from fmn.store.objects import READ_ONLY

QUICK = Patience(attempts=4, first=0.02, longest=0.1, read=20.0, connect=5.0)


def key_of(model: str) -> str:
    """Return the key of the result of a model."""
    return record_key("trial", {"model": model})


KEY = key_of("x")


@dataclass
class Place:
    """Where a store is.

    Attributes:
        url: its address.
        tmp: this machine's files.
        warnings: of all stores opened here.
        opened: by machine.
    """

    url: str
    tmp: Path
    warnings: list[str] = field(default_factory=list)
    opened: dict[str, Store] = field(default_factory=dict)

    def open(self, machine: str = "here") -> Store:
        """Open the store as one machine does, with a cache of its own.

        It is opened once, as a client of a server takes long to make.
        """
        if machine not in self.opened:
            self.opened[machine] = self.open_again(machine)
        return self.opened[machine]

    def open_again(self, machine: str = "here") -> Store:
        """Open the store as another process of a machine does."""
        cache = self.tmp / "caches" / machine
        return open_store(self.url, cache=cache, patience=QUICK, warn=self.warnings.append)


class Computing:
    """A computation that counts its calls and gives a value, a file and a directory."""

    def __init__(self, seed: str = "") -> None:
        self.calls, self._seed = 0, seed

    def __call__(self, folder: Path) -> Draft:
        """Compute."""
        self.calls += 1
        assert list(folder.iterdir()) == []
        file, tree = folder / "out.bin", folder / "tree"
        file.write_bytes(f"file {self._seed}".encode() * 100)
        (tree / "deep").mkdir(parents=True)
        (tree / "a.txt").write_text(f"a {self._seed}")
        (tree / "deep" / "b.txt").write_text(f"b {self._seed}")
        (tree / "empty").touch()
        return Draft(value={"score": 0.5}, files={"file": file, "tree": tree}, device="cpu")


def compute_in(store: Store, compute: Callable[[Path], Draft], model: str = "x") -> Outcome:
    """Ask a store for a result, of a model."""
    return store.get_or_compute("trial", {"model": model}, compute, {"model": "a name"})


def object_path(oid: str) -> str:
    """Return where an object lies in a store."""
    return f"files/md5/{oid[:2]}/{oid[2:]}"


def corrupted(content: bytes) -> bytes:
    """Return it with a bit flipped."""
    return bytes([content[0] ^ 1]) + content[1:]


def part_of(store: Store, tree: Output, name: str = "a.txt") -> str:
    """Return the object of a file in a directory."""
    return store.objects.entries(tree.md5)[name]


def damage(place: Place, oid: str, how: str) -> None:
    """Remove, cut off or flip a bit of an object."""
    files, path = place.open().files, object_path(oid)
    content = files.read([path])[path]
    if how == "missing":
        files.delete(path)
    else:
        files.write(path, {"truncated": content[:-1], "corrupt": corrupted(content)}[how])


class StoreSuite:
    """What every store does."""

    def test_a_result_is_computed_once_and_then_found_by_every_machine(self, place: Place) -> None:
        compute = Computing()
        first = compute_in(place.open(), compute)
        again, elsewhere = (
            compute_in(place.open(), compute),
            compute_in(place.open("elsewhere"), compute),
        )
        assert (first.cached, again.cached, elsewhere.cached, compute.calls) == (
            False,
            True,
            True,
            1,
        )
        assert first.record == again.record == elsewhere.record
        assert place.warnings == []

    def test_another_key_or_kind_is_another_result(self, place: Place) -> None:
        store, compute = place.open(), Computing()
        compute_in(store, compute)
        other = compute_in(store, compute, "y").record
        another = store.get_or_compute("trial-2", {"model": "x"}, compute).record
        assert compute.calls == 3
        assert (store.keys("trial"), store.keys("trial-2"), store.keys("trial-3")) == (
            {KEY, other.key},
            {another.key},
            set(),
        )

    def test_a_value_alone_needs_no_object(self, place: Place) -> None:
        store = place.open()
        compute_in(store, lambda folder: Draft(value={"accuracy": 1.0}))
        assert compute_in(store, Computing()).record.value == {"accuracy": 1.0}
        assert store.objects.all() == {}

    def test_an_error_of_a_computation_stays_what_it_is_and_stores_nothing(
        self, place: Place
    ) -> None:
        def fail(folder: Path) -> Draft:
            (folder / "half").touch()
            raise ValueError("a bug")

        store = place.open()
        with pytest.raises(ValueError, match="a bug"):
            compute_in(store, fail)
        assert (store.all(), store.objects.all()) == ({}, {})

    @pytest.mark.parametrize("machine", ["here", "elsewhere"])
    def test_files_and_directories_come_out_as_they_went_in(
        self, place: Place, tmp_path: Path, machine: str
    ) -> None:
        outputs = compute_in(place.open(), Computing()).record.outputs
        store = place.open(machine)
        store.objects.check_out(outputs["file"], tmp_path / "file")
        store.objects.check_out(outputs["tree"], tmp_path / "tree")
        assert (tmp_path / "file").read_bytes() == b"file " * 100
        paths = {
            path.relative_to(tmp_path / "tree").as_posix(): path
            for path in (tmp_path / "tree").rglob("*")
            if path.is_file()
        }
        assert {name: path.read_text() for name, path in paths.items()} == {
            "a.txt": "a ",
            "deep/b.txt": "b ",
            "empty": "",
        }
        assert {
            stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "file", *paths.values())
        } == {READ_ONLY}

    def test_what_is_checked_out_is_a_link_and_not_a_copy(
        self, place: Place, tmp_path: Path
    ) -> None:
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
        self, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
            (tmp_path / "linked").read_bytes()
            == (tmp_path / "copied").read_bytes()
            == b"file " * 100
        )
        assert not (tmp_path / "copied").samefile(store.path(file))

    @pytest.mark.parametrize("how", ["missing", "truncated"])
    def test_an_object_that_is_not_whole_is_computed_again(self, place: Place, how: str) -> None:
        compute = Computing()
        before = compute_in(place.open(), compute).record
        damage(place, before.outputs["file"].md5, how)
        store = place.open("elsewhere")
        after = compute_in(store, compute)
        assert (after.record, after.cached, compute.calls) == (before, False, 2)
        assert store.get("trial", KEY) == before
        assert [KEY[:12] in line and "missing or cut off" in line for line in place.warnings] == [
            True
        ]
        assert verify(store) == []
        assert store.path(before.outputs["file"]).read_bytes() == b"file " * 100
        assert compute_in(store, compute).cached

    def test_the_missing_list_of_a_directory_is_computed_again(self, place: Place) -> None:
        compute = Computing()
        before = compute_in(place.open(), compute).record
        damage(place, before.outputs["tree"].md5, "missing")
        assert compute_in(place.open(), compute).record == before
        assert (compute.calls, len(place.warnings), verify(place.open())) == (2, 1, [])

    @pytest.mark.parametrize("how", ["missing", "truncated", "corrupt"])
    @pytest.mark.parametrize("part", ["deep/b.txt", "the list"])
    def test_a_damaged_directory_is_gone_puts_nothing_anywhere_and_is_repaired(
        self, place: Place, tmp_path: Path, how: str, part: str
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

    def test_a_repair_with_other_bytes_gives_another_record(self, place: Place) -> None:
        store = place.open()
        before = compute_in(store, Computing("one")).record
        damage(place, before.outputs["file"].md5, "missing")
        after = compute_in(store, Computing("two")).record
        assert after.outputs != before.outputs
        assert store.get("trial", KEY) == after
        assert verify(store) == []

    @pytest.mark.parametrize("garbage", [b"", b"{", b'{"kind": "merge"}', b"\xff\xfe", "another's"])
    def test_a_damaged_record_is_a_miss_and_is_written_again(
        self, place: Place, garbage: bytes | str
    ) -> None:
        compute = Computing()
        before = compute_in(place.open(), compute).record
        other = compute_in(place.open(), compute, "y").record.to_bytes()
        place.open().files.write(before.path, other if isinstance(garbage, str) else garbage)
        store = place.open()
        assert store.get("trial", KEY) is None
        after = compute_in(store, compute)
        assert (after.cached, after.record.outputs, compute.calls) == (False, before.outputs, 3)
        assert ["cannot be read" in line for line in place.warnings] == [True]
        assert store.get("trial", KEY) == after.record
        assert compute_in(place.open("elsewhere"), compute).cached

    def test_a_record_that_was_dropped_is_a_miss(self, place: Place) -> None:
        store, compute = place.open(), Computing()
        store.drop(compute_in(store, compute).record.address)
        assert store.get("trial", KEY) is None
        assert not compute_in(store, compute).cached
        assert place.warnings == []

    def test_two_names_of_one_content_are_one_object(self, place: Place, tmp_path: Path) -> None:
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
        contents = {path.name: path.read_text() for path in (tmp_path / "tree").iterdir()}
        assert contents == dict.fromkeys(("two", "three", "link"), "same")

    def test_runs_are_kept_beside_the_records_the_newest_first(self, place: Place) -> None:
        store = place.open()
        for number in range(3):
            store.files.write(
                f"runs/v1/2026010{number}T000000Z-0.json", json.dumps({"wall": number}).encode()
            )
        store.log_run({"wall": 3})
        store.check_writable()
        assert [run.wall for run in store.runs(last=3)] == [3, 2, 1]
        assert store.all() == {}

    def test_a_record_that_changed_is_read_again_and_not_remembered(self, place: Place) -> None:
        store = place.open()
        template = compute_in(store, lambda folder: Draft(value={"x": 1})).record
        keys = [f"{number:064x}" for number in range(60)] + [KEY]
        assert store.find("trial", keys)[KEY].value == {"x": 1}
        changed = template.model_copy(update={"value": {"x": 2}})
        store.files.write(changed.path, changed.to_bytes())
        assert store.find("trial", keys) == {KEY: changed}

    def test_an_empty_directory_comes_out_empty(self, place: Place, tmp_path: Path) -> None:
        def nothing(folder: Path) -> Draft:
            (folder / "tree").mkdir()
            return Draft(files={"tree": folder / "tree"})

        store = place.open()
        tree = compute_in(store, nothing).record.outputs["tree"]
        store.objects.check_out(tree, tmp_path / "out" / "tree")
        assert (tree.files, list((tmp_path / "out" / "tree").iterdir())) == (0, [])
