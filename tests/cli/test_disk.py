"""A disk that is really full."""

import os
import re
import subprocess
import warnings

import pytest

from fmn.store import garbage, open_store, verify
from tests.cli.conftest import fmn, refused, succeeded


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of 64 kB; only root can."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        message = (
            "disk-full tests were SKIPPED: a small tmpfs cannot be mounted here (run them as root)"
        )
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(place, leave):
    size = os.statvfs(place)
    free = size.f_bavail * size.f_frsize
    (place / "ballast").write_bytes(b"x" * (free - leave))


def test_a_fisher(world, small_disk):
    fill(small_disk, leave=4096)
    out = small_disk / "fisher.safetensors"
    arguments = (
        "fisher",
        world.model("sst2"),
        "--task",
        "sst2",
        "--data",
        world.data,
        "--samples",
        8,
        "--kind",
        "diagonal",
    )
    refused(
        fmn(*arguments, "--out", out),
        "the disk is full: .*could not be finished and was removed; make room and run again",
    )
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    (small_disk / "ballast").unlink()
    succeeded(fmn(*arguments, "--out", out))


def test_a_merge_that_has_no_room_from_the_start(world, small_disk, tmp_path):
    fill(small_disk, leave=8192)
    recipe = world.recipe(tmp_path / "recipe.yaml", method="average")
    refused(
        fmn("merge", recipe, "--out", small_disk / "merged"),
        r"needs 0 MB but .* has 0 MB free; make room first",
    )
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_a_merge_whose_disk_fills_up_meanwhile(world, small_disk, tmp_path, monkeypatch):
    monkeypatch.setattr("fmn.merging.output.check_new", lambda *_: None)
    fill(small_disk, leave=16384)
    recipe = world.recipe(tmp_path / "recipe.yaml", method="average")
    refused(
        fmn("merge", recipe, "--out", small_disk / "merged"),
        r"the disk is full: .*merged could not be finished and was removed",
    )
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_results_of_a_run(world, small_disk, tmp_path):
    fill(small_disk, leave=0)
    params = world.params(tmp_path / "params.yaml", merge={"methods": ["average"], "sizes": [3]})
    result = fmn("run", params, "--out", small_disk / "zoo.json")
    assert result.exit_code == 1
    assert "fmn: the disk is full" in result.stderr
    assert "sst2 + rte + mnli" in result.stdout  # what was computed is shown all the same
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]


def test_a_model_that_is_kept_while_the_place_for_temporary_files_is_full(
    world, small_disk, tmp_path, monkeypatch
):
    params = world.params(
        tmp_path / "params.yaml", merge={"methods": ["average"], "sizes": [3], "keep": "all"}
    )
    fill(small_disk, leave=16384)  # a merge takes more
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(small_disk))
        result = fmn("run", params)
    assert result.exit_code == 1
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("fmn: "))
    assert re.search("No space left on device; make room .* set TMPDIR to one that has", line)
    assert [path.name for path in small_disk.iterdir()] == ["ballast"]
    store = open_store(tmp_path / "store", cache=tmp_path / "cache")
    assert not store.keys("publish")
    assert not garbage(store, [], grace=-1).objects  # nothing half of it
    assert "computed 1 model," in succeeded(fmn("run", params)).stdout
    assert not verify(store)
