"""Temporary folders: gone at the end, and after a kill with the next that is made there."""

import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from fmn import scratch
from fmn.scratch import PREFIX, sweep

HOLDS = """
import sys, time
from fmn.scratch import scratch
with scratch() as folder:
    (folder / "big").write_bytes(bytes(5000))
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(scratch, "_swept", set())
    return tmp_path


@pytest.fixture
def holder(place):
    """A process that is at work in a folder."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
    ) as process:
        process.folder = place / process.stdout.readline().strip()
        yield process
        process.kill()


def test_it_is_there_alone_and_private_and_gone_at_the_end(place):
    with scratch.scratch() as folder:
        (folder / "inside").write_text("x")
        assert folder.parent == place
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


def test_what_a_living_process_works_in_stays_and_a_dead_ones_goes_with_the_next(place, holder):
    assert sweep() == 0
    assert (holder.folder / "big").is_file()
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with scratch.scratch() as folder:
        assert list(place.iterdir()) == [folder]


def test_a_sweep_tells_the_bytes_and_takes_nothing_but_what_was_made_here(place, holder, tmp_path):
    holder.kill()
    holder.wait()
    others = [place / name for name in (f"{PREFIX}mine", "fmn-abcdefgh", f"x{PREFIX}" + "0" * 12)]
    for other in others:
        other.mkdir()
    target = place / "target"
    target.mkdir()
    link = place / f"{PREFIX}{'a' * 12}"
    link.symlink_to(target)
    file = place / f"{PREFIX}{'b' * 12}"
    file.write_text("a file")
    assert sweep() == 5000
    assert {*place.iterdir()} == {*others, target, link, file}


def test_many_that_make_and_sweep_at_once_take_nothing_from_each_other(place):
    def work(number):
        for turn in range(30):
            with scratch.scratch() as folder:
                sweep()
                (folder / "a").write_text(f"{number} {turn}")
                sweep()
                assert (folder / "a").read_text() == f"{number} {turn}"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert list(place.iterdir()) == []


def test_a_place_that_is_not_there_has_nothing_to_sweep(place):
    assert sweep(place / "never") == 0
