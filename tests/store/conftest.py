"""Places for a store: a directory, and a bucket of a real server."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from botocore.loaders import JSONFileLoader

from fmn.errors import FmnError
from fmn.store import Draft, Outcome, Output, Patience, Store, open_store
from tests.store.s3 import Bucket, S3Server

QUICK = Patience(attempts=4, first=0.02, longest=0.1, read=20.0, connect=5.0)
KEY = "ab" * 32

Refused = Callable[..., str]


@dataclass
class Place:
    """Where a store is.

    Attributes:
        url: its address.
        tmp: this machine's files.
        environment: that a process needs to open it.
        server: what the bucket's server does to it; None for a directory.
        warnings: of all stores opened here.
        opened: by machine.
    """

    url: str
    tmp: Path
    environment: dict[str, str]
    server: Bucket | None = None
    warnings: list[str] = field(default_factory=list)
    opened: dict[str, Store] = field(default_factory=dict)

    def open(self, machine: str = "here") -> Store:
        """Open the store as one machine does: with a cache of its own; once, as a client of a
        server takes long to make."""
        if machine not in self.opened:
            self.opened[machine] = self.open_again(machine)
        return self.opened[machine]

    def open_again(self, machine: str = "here") -> Store:
        """Open the store as another process of a machine does."""
        return open_store(
            self.url, cache=self.tmp / "caches" / machine, patience=QUICK, warn=self.warnings.append
        )


def object_path(oid: str) -> str:
    return f"files/md5/{oid[:2]}/{oid[2:]}"


def corrupted(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


class Computing:
    """A computation that counts its calls and gives a value, a file and a directory."""

    def __init__(self, seed: str = "") -> None:
        self.calls, self._seed = 0, seed

    def __call__(self, folder: Path) -> Draft:
        self.calls += 1
        assert list(folder.iterdir()) == []
        file, tree = folder / "out.bin", folder / "tree"
        file.write_bytes(f"file {self._seed}".encode() * 100)
        (tree / "deep").mkdir(parents=True)
        (tree / "a.txt").write_text(f"a {self._seed}")
        (tree / "deep" / "b.txt").write_text(f"b {self._seed}")
        (tree / "empty").touch()
        return Draft(value={"score": 0.5}, files={"file": file, "tree": tree}, device="cpu")


def compute_in(store: Store, compute: Callable[[Path], Draft], key: str = KEY) -> Outcome:
    return store.get_or_compute("merge", key, {"model": "x"}, compute, {"model": "a name"})


def part_of(store: Store, tree: Output, name: str = "a.txt") -> str:
    return store.objects.entries(tree)[name]


@pytest.fixture(scope="session", autouse=True)
def models_read_once() -> Iterator[None]:
    """botocore reads megabytes of JSON for every client."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", functools.cache(JSONFileLoader.load_file))
        yield


@pytest.fixture
def bucket(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A prefix of a fresh bucket, in the environment that names its server and no other."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    fresh = s3_server.bucket()
    environment = {**fresh.environment, "FMN_CACHE": str(tmp_path / "caches" / "here")}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield Place(f"{fresh.address}/team/store", tmp_path, environment, fresh)
    fresh.remove()


@pytest.fixture
def directory(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "store"), tmp_path, {})


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)  # type: ignore[no-any-return]


@pytest.fixture
def refused() -> Refused:
    """Call something that must fail with a given error, in one line; return the line."""

    def refused(
        error: type[FmnError], call: Callable[..., object], *args: object, **kwargs: object
    ) -> str:
        with pytest.raises(error) as caught:
            call(*args, **kwargs)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refused
