"""Commit 67dc34b and this version on one store: what each sees of the other's results."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from fmn.catalog import Catalog
from fmn.store import collect, garbage, open_store, verify
from tests.cli.conftest import fmn, succeeded
from tests.compatibility.test_67dc34b import ARCHIVE

COMMIT = "67dc34b"
REPOSITORY = Path(__file__).parents[2]
GROUP = """
import click


class DefaultGroup(click.Group):
    def __init__(self, *arguments, default=None, default_if_no_args=False, **settings):
        super().__init__(*arguments, **settings)
"""


@pytest.fixture(scope="session")
def old_code(tmp_path_factory):
    """The package as it was, with what it asked of the environment then."""
    folder = tmp_path_factory.mktemp("old")
    archive = subprocess.run(
        ["git", "-C", REPOSITORY, "archive", COMMIT, "fmn"], capture_output=True, check=False
    )
    if archive.returncode:
        pytest.skip(f"NOT TESTED: this clone has no commit {COMMIT}")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    (folder / "click_default_group.py").write_text(GROUP)
    (folder / "fmn-0.1.0.dist-info").mkdir()
    (folder / "fmn-0.1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: fmn\nVersion: 0.1.0\n"
    )
    return folder


@pytest.fixture
def old_fmn(old_code, tmp_path, monkeypatch):
    """A command of the old version, in a directory with its store."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMN_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        environment = os.environ | {"PYTHONPATH": str(old_code)}
        return subprocess.run(
            [sys.executable, "-c", "from fmn.cli import main; main()", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    return run


@pytest.mark.slow
def test_each_finds_what_it_may_and_neither_takes_what_is_the_others(old_fmn):
    store = open_store("store", warn=pytest.fail)
    first = {path: Path("store", path).read_bytes() for path in store.all()}
    entries = set(Catalog(store).entries)
    shutil.rmtree("store/records/v1/evaluate")

    described = yaml.safe_load(Path("pairs.yaml").read_text())
    described["merge"]["heads"] = "merged"  # all that there was then
    Path("now.yaml").write_text(yaml.safe_dump(described))
    done = succeeded(fmn("run", "now.yaml"))
    assert "computed 33 evaluations, took 9 Fishers, 30 merges, 3 models" in done.stdout
    assert len(store.keys("evaluate")) == 33
    assert not Path("store/records/v1/evaluate").exists()

    # the old version sees its own records, computes what it lacks, and collects nothing
    refused = old_fmn("store", "gc", "store", "--grace", "0")
    assert refused.returncode == 1
    assert "records/v1/a-newer-fmn-writes-here/upgrade-before-gc.json is damaged" in refused.stderr
    listed = old_fmn("catalog", "ls", "--store", "store")
    assert "32 of 32 merges" in listed.stdout, listed.stderr
    again = old_fmn("run", "pairs.yaml")
    assert "computed 33 evaluations, took 9 Fishers, 30 merges, 3 models" in again.stdout
    assert verify(store) == []

    # what the old version computed serves the new one, which prefers its own
    shutil.rmtree("store/records/v2")
    done = succeeded(fmn("run", "now.yaml"))
    assert "computed nothing, took 9 Fishers, 30 merges, 33 evaluations" in done.stdout
    assert set(Catalog(store).entries) == entries
    collect(store, garbage(store, [], grace=-60))
    assert verify(store) == []
    unchanged = {path for path, body in first.items() if Path("store", path).exists()}
    evaluations = {path for path in first if "/evaluate/" in path}
    assert all(Path("store", path).read_bytes() == first[path] for path in unchanged - evaluations)
    assert len(unchanged) >= len(first) - len(evaluations)
