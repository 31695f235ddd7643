"""The tutorial with a Prefect server, its worker and a Dask cluster, all real, is executed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT
from tests.docs.reader import Reader
from tests.flows.conftest import free_port

PAGE = ROOT / "docs" / "tutorials" / "gpu-nodes.md"


@pytest.mark.slow
def test_gpu_nodes(
    new_clone: Callable[[], Path], programs: Path, prefect_database: Path, tmp_path: Path
) -> None:
    shutil.copy(prefect_database, tmp_path)
    prefect, dask = free_port(), free_port()
    replaced = {
        ":4200": f":{prefect}",
        "0.0.0.0": "127.0.0.1",
        "8786": str(dask),
        "cuda:0 dask": "cpu dask",
    }
    folder = new_clone()
    home = {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_API_PORT": str(prefect)}
    with Reader(folder, programs, replaced, **home) as reader:
        printed = reader.follow(PAGE)
    *_, worker, _, _, last = printed
    assert (
        "Completed('computed 6 Fishers, 6 merges, 9 evaluations, took nothing from the store')"
        in worker
    )
    assert (
        "computed 2 merges, 2 evaluations, took 6 Fishers, 6 merges, 9 evaluations from the store"
        in last
    )
    assert "SCHEDULED" in worker, (
        "the server schedules nothing: Prefect 3.8 cannot with SQLAlchemy 2.1"
    )
