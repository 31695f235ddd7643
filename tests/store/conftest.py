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
from fmn.testing import stores as testing
from fmn.testing.stores import KEY, QUICK, Computing, compute_in, corrupted, object_path, part_of
from tests.store.s3 import Bucket, S3Server

__all__ = ["KEY", "QUICK", "Computing", "compute_in", "corrupted", "object_path", "part_of"]

Refused = Callable[..., str]


@dataclass
class Place(testing.Place):
    """Where a store is.

    Attributes:
        environment: that a process needs to open it.
        server: what the bucket's server does to it; None for a directory.
    """

    environment: dict[str, str] = field(default_factory=dict)
    server: Bucket | None = None


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
    yield Place(f"{fresh.address}/team/store", tmp_path, environment=environment, server=fresh)
    fresh.remove()


@pytest.fixture
def directory(tmp_path: Path) -> Place:
    return Place(str(tmp_path / "store"), tmp_path)


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
