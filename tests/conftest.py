"""What every test may use."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
import torch

from tests.hub import hub  # noqa: F401  (a fixture)
from tests.once import Once, Run
from tests.soak import SOAK

if TYPE_CHECKING:
    from tests.steps.world import World
    from tests.store.s3 import S3Server

# tests, and the processes that they start, run in parallel on few cores; more threads would only
# wait for each other
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")
# and what takes long there says nothing of the program
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

RUN = pytest.StashKey[Run]()
LONGEST = ("dvc_pipeline", "docs", "flows", "benchmarks", "store", "steps")
"""Directories whose files take longest: begun first, so that no worker is left with one at the
end."""
SHARED = Path(os.environ.get("FMN_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # not a worker of pytest-xdist
        folder = session.config._tmp_path_factory.getbasetemp()
        session.config.stash[RUN] = Run(folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if run := session.config.stash.get(RUN, None):
        run.end()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        folder = item.path.parent.name
        return LONGEST.index(folder) if folder in LONGEST else len(LONGEST)

    items.sort(key=place)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What does not count by itself is repeated in a soak: ``soak(again=1 / 4)`` in one of four
    rounds."""
    soak = metafunc.definition.get_closest_marker("soak")
    if SOAK > 1 and soak and (share := soak.kwargs.get("again")):
        metafunc.fixturenames.append("soak_round")
        metafunc.parametrize("soak_round", range(math.ceil(share * SOAK)))


@pytest.fixture(scope="session")
def once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """What this run makes once: directories that nobody changes, and servers."""
    folder = tmp_path_factory.getbasetemp()
    return Once(folder.parent if hasattr(request.config, "workerinput") else folder)


@pytest.fixture(scope="session")
def world(once: Once) -> World:
    """Three fine-tunes of a tiny BERT with their data."""
    from tests.steps.world import World, build_world

    return World(once.directory("world", build_world))


@pytest.fixture(scope="session")
def s3_server(once: Once) -> S3Server:
    """A server of S3, on which each test has buckets of its own."""
    from tests.store.s3 import S3Server

    return S3Server(once)


@pytest.fixture(scope="session")
def prefect_database(once: Once) -> Path:
    """The database that a Prefect server makes of an empty home, in seconds: who copies it into
    one has a server that starts sooner."""

    def create(home: Path) -> None:
        home.mkdir()
        script = (
            "import asyncio\n"
            "from prefect.server.database import provide_database_interface\n"
            "asyncio.run(provide_database_interface().create_db())"
        )
        environment = os.environ | {"PREFECT_HOME": str(home)}
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)

    return once.directory("prefect-database", create) / "prefect.db"


@pytest.fixture(scope="session")
def programs(once: Once) -> Path:
    """A directory for the head of ``PATH``, from which fmn, dvc and python start at once."""
    from tests import programs

    return programs.programs(once)


@pytest.fixture(scope="session", autouse=True)
def own_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches, settings and databases of a session are its own, and nothing calls home."""
    places = {
        "FMN_CACHE": "cache",
        "PREFECT_HOME": "prefect",
        "DVC_SITE_CACHE_DIR": "dvc-cache",
        "DVC_GLOBAL_CONFIG_DIR": "dvc-config",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in places.items():
            patch.setenv(name, str(tmp_path_factory.mktemp(folder)))
        if "HF_HOME" not in os.environ:
            patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        for name in ("DO_NOT_TRACK", "DVC_NO_ANALYTICS"):
            patch.setenv(name, "1")
        patch.delenv("FMN_STORE", raising=False)
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The real zoo, its data and reference numbers; tests that need them skip where they are not
    there."""
    if not (SHARED / "zoo").is_dir():
        message = f"the real zoo is not at {SHARED}; set FMN_SHARED to run this test"
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def zoo(shared: Path, once: Once) -> Path:
    """The real zoo's checkpoints: parent, sst2, rte, mnli, mrpc, qqp, qnli."""

    def build(folder: Path) -> None:
        command = [sys.executable, shared / "zoo" / "build.py", folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return once.directory("zoo", build)
