"""What every test may use."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.hub import hub  # noqa: F401  (a fixture)

# tests run in parallel on few cores; more threads would only wait for each other
torch.set_num_threads(1)

SHARED = Path(os.environ.get("FMN_SHARED", Path(__file__).parents[2] / "shared"))


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
def zoo(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real zoo's checkpoints, built once a session: parent, sst2, rte, mnli, mrpc, qqp,
    qnli."""
    dest = tmp_path_factory.mktemp("zoo")
    subprocess.run(
        [sys.executable, shared / "zoo" / "build.py", dest], check=True, stdout=subprocess.DEVNULL
    )
    return dest
