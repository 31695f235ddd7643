"""The team's tutorial is executed, with a real S3 server, real Git repositories and real DVC."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.reader import Reader, clone
from tests.store.s3 import S3Server

PAGE = ROOT / "docs" / "tutorials" / "team.md"


@pytest.mark.slow
def test_a_team(demo: Path, programs: Path, s3_server: S3Server, tmp_path: Path) -> None:
    bucket = s3_server.bucket("team-models")
    shutil.copytree(demo, tmp_path / "shared" / "demo")
    replaced = {
        "/shared/": f"{tmp_path}/shared/",
        "https://s3.example.org": bucket.url,
        "team-models": bucket.name,
        "https://git.example.org/team/zoo.git": str(bare_repository(tmp_path)),
    }
    folder = tmp_path / "desk"
    folder.mkdir()
    with Reader(folder, programs, replaced, AWS_EC2_METADATA_DISABLED="true") as reader:
        _, ran, planned, listing, compared, reported, pushed, repro, pulled, kept = reader.follow(
            PAGE
        )
    assert "computed 6 Fishers, 8 merges, 11 evaluations, took nothing from the store" in ran
    assert re.search(r"merge +\w* *8 +0\b", planned), planned
    assert "README.md" in listing and "config.json" in listing
    assert "the model with the greatest share" in compared and "What differs" in compared
    assert "8 merges of 3 models" in reported
    assert "fisher/mask.sst2.safetensors" in pushed
    assert "computed nothing, took 6 Fishers, 8 merges, 11 evaluations from the store" in repro
    assert "metrics.json" in pulled
    assert (folder / "zoo-of-ben" / "results" / "leaderboard.csv").is_file()
    assert "every record is whole" in kept


def bare_repository(folder: Path) -> Path:
    """Make what a team clones."""
    begun = clone(folder / "begun")
    for command in (
        "init --quiet",
        "add --all",
        "-c user.name=t -c user.email=t@example.org commit --quiet -m begin",
    ):
        subprocess.run(["git", *command.split()], cwd=begun, check=True)
    subprocess.run(["git", "clone", "--quiet", "--bare", begun, folder / "zoo.git"], check=True)
    return folder / "zoo.git"
