"""What is left after an error, a kill, a full disk, a race."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fmn.checkpoint import atomic, check_new, new_directory, new_file, write
from fmn.errors import OutputError
from tests.checkpoint.conftest import Refused

both = pytest.mark.parametrize("kind", ["directory", "file"], indirect=True)


class Kind:
    """Directories and files, made and looked at alike."""

    def __init__(self, kind: str) -> None:
        self.make = {"directory": new_directory, "file": new_file}[kind]
        self.inside = {
            "directory": lambda staging: staging / "inside",
            "file": lambda staging: staging,
        }[kind]

    def fill(self, dest: Path, text: str = "whole") -> None:
        with self.make(dest) as staging:
            self.inside(staging).write_text(text)

    def text(self, dest: Path) -> str:
        return self.inside(dest).read_text()


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> Kind:
    return Kind(request.param)


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@both
def test_it_appears_at_the_end_and_not_before(tmp_path: Path, kind: Kind) -> None:
    dest = tmp_path / "new" / "parents" / "out"
    with kind.make(dest) as staging:
        hidden = staging if staging.is_dir() else staging.parent
        assert hidden.parent == dest.parent
        assert hidden.name.startswith(".out.partial-")
        kind.inside(staging).write_text("whole")
        assert not dest.exists()
    assert names(dest.parent) == ["out"]
    assert kind.text(dest) == "whole"


@both
@pytest.mark.parametrize(
    "error",
    [ValueError("a bug"), KeyboardInterrupt(), PermissionError(errno.EACCES, "x", "/another/file")],
)
def test_an_error_leaves_nothing_and_stays_what_it_is(
    tmp_path: Path, kind: Kind, error: BaseException
) -> None:
    with pytest.raises(type(error)) as caught, kind.make(tmp_path / "out") as staging:
        kind.inside(staging).write_text("half")
        raise error
    assert caught.value is error
    assert names(tmp_path) == []


@both
@pytest.mark.parametrize("there", ["file", "directory", "dangling link"])
def test_what_is_there_is_refused_before_the_body_runs(
    tmp_path: Path, kind: Kind, refused: Refused, there: str
) -> None:
    dest = tmp_path / "out"
    {
        "file": dest.touch,
        "directory": dest.mkdir,
        "dangling link": lambda: dest.symlink_to("nowhere"),
    }[there]()
    before = dest.lstat()
    line = refused(OutputError, kind.fill, dest)
    assert line == f"{dest} exists already; remove it or choose another output"
    assert (dest.lstat(), names(tmp_path)) == (before, ["out"])


@both
def test_a_relative_place_survives_a_change_of_directory(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with kind.make(Path("out")) as staging:
        kind.inside(staging).write_text("whole")
        os.chdir("elsewhere")
    assert kind.text(tmp_path / "out") == "whole"


@both
def test_others_may_read_it_as_the_umask_says(tmp_path: Path, kind: Kind) -> None:
    before = os.umask(0o027)
    try:
        kind.fill(tmp_path / "out")
    finally:
        os.umask(before)
    mode = stat.S_IMODE((tmp_path / "out").stat().st_mode)
    assert mode == (0o750 if kind.make is new_directory else 0o640)


def test_a_file_may_be_replaced_but_only_by_a_finished_one(tmp_path: Path) -> None:
    dest = tmp_path / "out"
    dest.write_text("old")
    with pytest.raises(ValueError, match="a bug"), new_file(dest, replace=True) as staging:
        staging.write_text("half")
        raise ValueError("a bug")
    assert dest.read_text() == "old"
    with new_file(dest, replace=True) as staging:
        staging.write_text("new")
        assert dest.read_text() == "old"
    assert (dest.read_text(), names(tmp_path)) == ("new", ["out"])


def test_a_directory_is_not_replaced_by_a_file(tmp_path: Path, refused: Refused) -> None:
    (tmp_path / "out").mkdir()

    def replace() -> None:
        with new_file(tmp_path / "out", replace=True) as staging:
            staging.touch()

    assert "Is a directory" in refused(OutputError, replace)
    assert names(tmp_path) == ["out"]


KILLED = """
import os, signal, sys
from pathlib import Path
from fmn.checkpoint import new_directory, new_file
make = {"directory": new_directory, "file": new_file}[sys.argv[1]]
with make(Path(sys.argv[2])) as staging:
    (staging / "inside" if sys.argv[1] == "directory" else staging).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_a_kill_leaves_only_what_is_marked_partial_and_the_next_removes_it(
    tmp_path: Path, kind: str
) -> None:
    dest = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, kind, dest], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not dest.exists()
    assert [name.startswith(".out.partial-") for name in names(tmp_path)] == [True]
    Kind(kind).fill(dest)
    assert Kind(kind).text(dest) == "whole"
    assert names(tmp_path) == ["out"]


@both
def test_a_full_disk_says_so_and_leaves_nothing(mount, kind: Kind, refused: Refused) -> None:
    disk = mount("size=1m")

    def fill() -> None:
        with kind.make(disk / "out") as staging:
            write(kind.inside(staging), {"a": np.ones(2**20, np.float32)})

    line = refused(OutputError, fill)
    assert line == (
        f"the disk is full: {disk / 'out'} could not be finished and was removed; make room and "
        "run again"
    )
    assert names(disk) == []
    assert shutil.disk_usage(disk).used == 0  # nothing holds on to what was removed


@both
def test_a_disk_without_room_for_even_a_directory(mount, kind: Kind, refused: Refused) -> None:
    disk = mount("nr_inodes=1")
    assert "the disk is full" in refused(OutputError, kind.fill, disk / "out")


@both
def test_a_read_only_disk_is_refused_before_the_body_runs(
    mount, kind: Kind, refused: Refused
) -> None:
    disk = mount("ro")
    for dest in (disk / "out", disk / "deep" / "out"):
        line = refused(OutputError, kind.fill, dest)
        assert line == f"cannot write {dest}: {disk} is not a directory that this user can write to"


def test_a_file_on_a_read_only_disk_is_not_replaced(mount, refused: Refused) -> None:
    def replace() -> None:
        with new_file(disk / "out", replace=True):
            raise AssertionError("the body must not run")

    disk = mount("ro")
    assert f"{disk} is not a directory that this user can write to" in refused(OutputError, replace)


@both
def test_a_parent_that_is_a_file(tmp_path: Path, kind: Kind, refused: Refused) -> None:
    (tmp_path / "file").touch()
    assert "file is not a directory" in refused(OutputError, kind.fill, tmp_path / "file" / "out")
    (tmp_path / "link").symlink_to("nowhere")
    assert "cannot write" in refused(OutputError, kind.fill, tmp_path / "link" / "out")


@both
def test_a_name_that_is_too_long(tmp_path: Path, kind: Kind, refused: Refused) -> None:
    assert "name too long" in refused(OutputError, kind.fill, tmp_path / ("x" * 300))
    assert names(tmp_path) == []


def test_room_is_checked_before_any_work(tmp_path: Path, refused: Refused) -> None:
    check_new(tmp_path / "deep" / "out", need_bytes=1)
    assert names(tmp_path) == []
    free = shutil.disk_usage(tmp_path).free
    line = refused(OutputError, check_new, tmp_path / "deep" / "out", need_bytes=2 * free)
    assert f"needs {2 * free / 1e6:,.0f} MB but {tmp_path} has" in line


@both
@pytest.mark.parametrize("links", [True, False])
def test_of_two_racing_writers_one_wins_and_the_other_is_told(
    tmp_path: Path, kind: Kind, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are in their bodies at once; one finishes first."""

    def no_links(*args: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links on this file system")

    if not links:
        monkeypatch.setattr(atomic.os, "link", no_links)
    dest, started, first_done = tmp_path / "out", threading.Barrier(2), threading.Event()
    errors: list[Exception] = []

    def run(name: str) -> None:
        try:
            with kind.make(dest) as staging:
                kind.inside(staging).write_text(name)
                started.wait(10)
                if name == "second":
                    assert first_done.wait(10)
        except Exception as error:
            errors.append(error)
        finally:
            if name == "first":
                first_done.set()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("first", "second")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kind.text(dest) == "first"
    assert [type(error) for error in errors] == [OutputError]
    assert str(dest) in str(errors[0]) and "\n" not in str(errors[0])
    assert names(tmp_path) == ["out"]
