"""A team: a bucket of a real S3 server, and clones of a Git repository in which real dvc runs, each
with its own caches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from tests.steps.conftest import finished  # noqa: F401  (a fixture)
from tests.steps.world import World, write_yaml
from tests.store.s3 import Bucket, S3Server

REPOSITORY = Path(__file__).parents[2]
TRACKED = ("dvc.yaml", ".gitignore", "docs/plots/dots.json")
FOREIGN = ("AWS_", "FMN_", "DVC_", "GIT_", "PREFECT_")

Objects = dict[str, tuple[str, str]]
"""Of a bucket: when each was last written, and its ETag, by key."""


@dataclass
class Done:
    """What a program said.

    Attributes:
        out: on standard output.
        err: on standard error.
        code: its exit status.
    """

    out: str
    err: str
    code: int

    def stages(self) -> list[str]:
        """Return the stages that ``dvc repro`` ran."""
        return [
            line.split("'")[1]
            for line in self.out.splitlines()
            if line.startswith("Running stage ")
        ]


@dataclass
class Clone:
    """A Git repository with the pipeline, on a machine of its own.

    Attributes:
        folder: the working tree.
        home: of the machine's user, with all caches.
        programs: the directory of fmn and dvc.
        environment: of the team's server.
    """

    folder: Path
    home: Path
    programs: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: object, code: int | None = 0, cwd: Path | None = None) -> Done:
        """Run a program; its exit status must be ``code`` (None for any)."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)
        }
        places = {
            "FMN_CACHE": "fmn",
            "DVC_SITE_CACHE_DIR": "site",
            "DVC_GLOBAL_CONFIG_DIR": "global",
            "DVC_SYSTEM_CONFIG_DIR": "system",
            "PREFECT_HOME": "prefect",
        }
        environment = {
            **inherited,
            "HOME": str(self.home),
            "PATH": f"{self.programs}{os.pathsep}{inherited['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DO_NOT_TRACK": "1",
            "OMP_NUM_THREADS": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            **{name: str(self.home / folder) for name, folder in places.items()},
            **self.environment,
        }
        words = [str(word) for word in command]
        done = subprocess.run(
            words,
            cwd=cwd or self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert code is None or done.returncode == code, (
            f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return Done(done.stdout, done.stderr, done.returncode)

    def dvc(self, *arguments: object, code: int | None = 0) -> Done:
        return self.run("dvc", *arguments, code=code)

    def fmn(self, *arguments: object, code: int | None = 0) -> Done:
        return self.run("fmn", *arguments, code=code)

    def git(self, *arguments: object) -> str:
        return self.run(
            "git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments
        ).out

    def commit(self, message: str) -> str:
        """Commit everything that is not ignored; return the revision."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def status(self) -> list[str]:
        """Return the paths that Git calls changed or new."""
        return sorted(line[3:] for line in self.git("status", "--short").splitlines())

    def say(self, **sections: Mapping[str, Any] | Sequence[Any]) -> None:
        """Change sections of the params."""
        params = yaml.safe_load((self.folder / "params.yaml").read_text())
        for name, section in sections.items():
            params[name] = (
                {**params.get(name, {}), **section} if isinstance(section, Mapping) else section
            )
        write_yaml(self.folder / "params.yaml", params)

    def json(self, path: str) -> Any:
        return json.loads((self.folder / path).read_text())

    def outs(self) -> dict[str, bytes]:
        """Return the content of every file that a stage wrote for people, by path."""
        files = sorted(
            file
            for name in ("fishers", "results")
            for file in (self.folder / name).rglob("*")
            if file.is_file()
        )
        return {str(file.relative_to(self.folder)): file.read_bytes() for file in files}


@dataclass
class Team:
    """What its clones share.

    Attributes:
        server: what the bucket's server does and counts.
        store: its address.
        world: models and data.
        programs: the directory of fmn and dvc.
        tmp: for clones and homes.
    """

    server: Bucket
    store: str
    world: World
    programs: Path
    tmp: Path

    def objects(self) -> Objects:
        """List the store."""
        bucket, _, prefix = self.store.removeprefix("s3://").partition("/")
        client = boto3.client(
            "s3",
            endpoint_url=self.server.url,
            region_name="us-east-1",
            aws_access_key_id="tester",
            aws_secret_access_key="secret",
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        cut = len(prefix) + 1
        return {
            entry["Key"][cut:]: (str(entry["LastModified"]), entry["ETag"])
            for page in pages
            for entry in page.get("Contents", [])
        }

    def records(self, kind: str) -> set[str]:
        return {path for path in self.objects() if path.startswith(f"records/v2/{kind}/")}

    def machine(self, name: str) -> Clone:
        """Return a machine without a clone."""
        home = self.tmp / "homes" / name
        home.mkdir(parents=True)
        return Clone(self.tmp / name, home, self.programs, self.server.environment)

    def first(self, name: str, **sections: Any) -> Clone:
        """Make the repository, as somebody does who starts with it."""
        clone = self.machine(name)
        begin(clone)
        entries = [{"model": str(self.world.model(task)), "task": task} for task in ("sst2", "rte")]
        sections = {
            "fisher": {"samples": 16},
            "evaluate": {"limit": 30},
            "merge": {"methods": ["average", "mask-fisher"], "heads": "merged"},
            **sections,
        }
        write_yaml(
            clone.folder / "params.yaml",
            {"store": self.store, "data": self.world.data, "models": entries, **sections},
        )
        clone.fmn("store", "dvc-remote", "--write")
        clone.commit("begin")
        return clone

    def clone(self, of: Clone, name: str) -> Clone:
        """Clone the repository on another machine."""
        clone = self.machine(name)
        clone.run("git", "clone", "--quiet", of.folder, clone.folder, cwd=self.tmp)
        return clone


def begin(clone: Clone) -> None:
    """Make a Git and DVC repository with what the pipeline needs, and no params yet."""
    clone.folder.mkdir(exist_ok=True)
    for path in TRACKED:
        (clone.folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(REPOSITORY / path, clone.folder / path)
    clone.git("init", "--quiet")
    clone.dvc("init", "--quiet")


@pytest.fixture(scope="module")
def team(
    world: World, s3_server: S3Server, programs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Team:
    bucket = s3_server.bucket("team")
    folder = tmp_path_factory.mktemp("team")
    return Team(bucket, f"{bucket.address}/zoo/store", world, programs, folder)
