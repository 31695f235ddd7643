"""Digests that are computed once."""

from __future__ import annotations

import os
import random
import re
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from fmn.store import Memo, cache_directory
from tests.soak import SOAK


class Digest:
    """A digest of files that counts how often it is computed."""

    def __init__(self, memo: Memo, *files: Path) -> None:
        self.memo, self.files, self.calls = memo, files, 0

    def __call__(self) -> str:
        return str(self.memo.digest("text", self.files, self._compute))

    def _compute(self) -> str:
        self.calls += 1
        return "".join(file.read_text() for file in self.files)


def old(path: Path, text: str, age: float = 1000.0) -> Path:
    path.write_text(text)
    os.utime(path, (time.time() - age,) * 2)
    return path


def large(file: Path | None) -> Memo:
    """Return a memo that takes all files for large ones."""
    return Memo(file, small=-1, warn=pytest.fail)


@pytest.fixture
def memo(tmp_path: Path) -> Memo:
    return large(tmp_path / "cache" / "memo.sqlite")


def test_a_file_that_does_not_change_is_read_once_even_by_another_process(
    memo: Memo, tmp_path: Path
) -> None:
    digest = Digest(memo, old(tmp_path / "a", "one"))
    assert (digest(), digest(), digest.calls) == ("one", "one", 1)
    digest.memo = large(tmp_path / "cache" / "memo.sqlite")
    assert (digest(), digest.calls) == ("one", 1)


def test_of_several_files_every_one_counts(memo: Memo, tmp_path: Path) -> None:
    digest = Digest(memo, old(tmp_path / "a", "one"), old(tmp_path / "b", "two"))
    assert (digest(), digest(), digest.calls) == ("onetwo", "onetwo", 1)
    old(tmp_path / "b", "2.0", age=500)
    assert (digest(), digest.calls) == ("one2.0", 2)


def test_another_kind_of_digest_of_the_same_file_is_another(memo: Memo, tmp_path: Path) -> None:
    file = old(tmp_path / "a", "one")
    assert memo.digest("one", [file], lambda: {"x": 1}) == {"x": 1}
    assert memo.digest("two", [file], lambda: ["y"]) == ["y"]
    assert memo.digest("one", [file], lambda: 0) == {"x": 1}


def test_a_change_of_the_same_size_shows(memo: Memo, tmp_path: Path) -> None:
    digest = Digest(memo, old(tmp_path / "a", "one"))
    digest()
    old(tmp_path / "a", "two", age=500)
    assert (digest(), digest.calls) == ("two", 2)


def test_a_file_renamed_into_its_place_shows_even_with_the_same_size_and_time(
    memo: Memo, tmp_path: Path
) -> None:
    digest = Digest(memo, old(tmp_path / "a", "one"))
    times = (tmp_path / "a").stat()
    digest()
    (tmp_path / "b").write_text("two")
    os.utime(tmp_path / "b", ns=(times.st_atime_ns, times.st_mtime_ns))
    (tmp_path / "b").replace(tmp_path / "a")
    assert (digest(), digest.calls) == ("two", 2)


@pytest.mark.parametrize(("age", "calls"), [(0.0, 2), (1.0, 2), (-1.0, 2), (5.0, 1), (-5.0, 1)])
def test_a_file_that_may_still_be_written_is_not_remembered(
    memo: Memo, tmp_path: Path, age: float, calls: int
) -> None:
    digest = Digest(memo, old(tmp_path / "a", "one", age))
    assert (digest(), digest(), digest.calls) == ("one", "one", calls)


def test_a_file_was_young_when_it_began_to_be_read_however_long_that_took(
    memo: Memo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = old(tmp_path / "a", "one", age=0)

    def slow() -> str:
        now = time.time()
        monkeypatch.setattr("fmn.store.memo.time.time", lambda: now + 60)
        return "half one, half two"

    memo.digest("text", [file], slow)
    assert memo.digest("text", [file], lambda: "two") == "two"


def test_a_cache_directory_that_cannot_be_written_lasts_as_long_as_the_process(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "memo.sqlite", Path("/proc/fmn/memo.sqlite"), None):
        digest = Digest(large(place), old(tmp_path / "a", "one"))
        assert (digest(), digest(), digest.calls) == ("one", "one", 1)


def test_of_a_small_file_the_content_counts_and_nothing_else(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo", warn=pytest.fail)
    digest = Digest(memo, old(tmp_path / "a", "one"))
    times = (tmp_path / "a").stat()
    digest()
    with (tmp_path / "a").open("r+") as file:  # in its place, as a bit flips on a disk
        file.write("two")
    os.utime(tmp_path / "a", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert (digest(), digest.calls) == ("two", 2)
    old(tmp_path / "a", "one", age=0)
    assert (digest(), digest(), digest.calls) == ("one", "one", 3)


def test_a_database_that_is_damaged_is_thrown_away_with_a_line(tmp_path: Path) -> None:
    file, lines = tmp_path / "memo.sqlite", list[str]()
    file.write_bytes(b"garbage" * 1000)
    digest = Digest(Memo(file, small=-1, warn=lines.append), old(tmp_path / "a", "one"))
    assert (digest(), digest(), digest.calls) == ("one", "one", 1)
    assert lines == [f"{file} is damaged and was thrown away: digests are computed again"]
    assert Digest(large(file), tmp_path / "a")() == "one"


@pytest.mark.soak
def test_no_flipped_bit_of_it_gives_a_wrong_answer(tmp_path: Path) -> None:
    whole, file = tmp_path / "whole.sqlite", tmp_path / "memo.sqlite"
    source, body = old(tmp_path / "a", "one"), b"the body of a record"
    memo = large(whole)
    memo.digest("text", [source], source.read_text)
    memo.remember("s3://a", {"records/x": ("tag", body)})
    memo.remember_listing("s3://a", "records", "mark", {"records/x": "tag"})
    memo._db.close()
    chance, content, lines = random.Random(3), whole.read_bytes(), list[str]()
    words = (b"one", b"tag", body, b"mark")
    offsets = [match.start() for word in words for match in re.finditer(re.escape(word), content)]
    for offset in offsets + [chance.randrange(len(content)) for _ in range(60 * SOAK)]:
        flipped = bytearray(content)
        flipped[offset] ^= 1 << chance.randrange(8)
        file.write_bytes(flipped)
        memo = Memo(file, small=-1, warn=lines.append)
        assert memo.digest("text", [source], source.read_text) == "one"
        assert memo.records("s3://a", {"records/x": "tag"}) in ({}, {"records/x": body})
        assert memo.listing("s3://a", "records", "mark", 60) in (None, {"records/x": body})
        memo._db.close()
    assert lines


def test_a_database_that_can_only_be_read_answers_and_forgets(memo: Memo, tmp_path: Path) -> None:
    known, new = Digest(memo, old(tmp_path / "a", "one")), Digest(memo, old(tmp_path / "b", "two"))
    known()
    memo._db = sqlite3.connect(
        f"file:{tmp_path / 'cache' / 'memo.sqlite'}?mode=ro", uri=True, check_same_thread=False
    )
    assert (known(), known.calls) == ("one", 1)
    assert (new(), new(), new.calls) == ("two", "two", 2)


def test_threads_share_it(memo: Memo, tmp_path: Path) -> None:
    files = [old(tmp_path / str(number), str(number)) for number in range(50)]
    wrong: list[object] = []

    def use() -> None:
        for file in files:
            if (answer := memo.digest("text", [file], file.read_text)) != file.name:
                wrong.append(answer)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("count", [1, 50, 51, 2000])
def test_a_record_is_remembered_as_long_as_its_tag_is_the_same(
    memo: Memo, tmp_path: Path, count: int
) -> None:
    memo.remember("s3://a", {f"p{number}": (f"t{number}", b"body") for number in range(count)})
    tags = {f"p{number}": f"t{number}" for number in range(count)}
    again = large(tmp_path / "cache" / "memo.sqlite")
    assert again.records("s3://a", tags) == dict.fromkeys(tags, b"body")
    assert again.records("s3://b", tags) == {}
    assert "p0" not in again.records("s3://a", tags | {"p0": "changed"})


def test_the_cache_is_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value, expected in (
        ("HOME", tmp_path, tmp_path / ".cache" / "fmn"),
        ("XDG_CACHE_HOME", tmp_path / "xdg", tmp_path / "xdg" / "fmn"),
        ("FMN_CACHE", "~/mine", tmp_path / "mine"),
    ):
        for unset in ("XDG_CACHE_HOME", "FMN_CACHE"):
            monkeypatch.delenv(unset, raising=False)
        monkeypatch.setenv(name, str(value))
        assert cache_directory() == expected
