"""A device is given to one step at a time."""

import json

import pytest

from fmn.errors import ParamsError
from fmn.flows.runners import open_runner, worker_devices
from fmn.flows.worker_context import DEVICES
from fmn.params import Params
from tests.flows import patches

FOUR = ["cpu:0", "cpu:1", "cpu:2", "cpu:3"]


def params(**runner):
    return Params(
        models=[{"model": "a", "task": "sst2"}, {"model": "b", "task": "rte"}], runner=runner
    )


def steps(project):
    return [json.loads(line) for line in (project.folder / "steps.txt").read_text().splitlines()]


def together(noted):
    """Return how many steps ran at the time when most did."""
    return max(
        sum(other["start"] <= step["start"] < other["end"] for other in noted) for step in noted
    )


def test_four_devices_run_four_steps_and_never_two_on_one(make_project):
    project = make_project(merge={"methods": ["average", "mask-fisher"]}, runner={"devices": FOUR})
    ran = project.run(patch=patches.note_steps)
    assert ran.code == 0, ran.err
    noted = steps(project)
    assert len(noted) == 3 + 8 + 11
    assert {step["device"] for step in noted} == set(FOUR)
    assert together(noted) == 4
    for device in FOUR:
        assert together([step for step in noted if step["device"] == device]) == 1
    assert set(project.devices()) == set(FOUR)


def test_the_devices_that_the_environment_names_win(make_project):
    project = make_project(merge={"methods": ["average"], "sizes": [2]}, runner={"devices": FOUR})
    ran = project.run(patch=patches.note_steps, **{DEVICES: "cpu:5,cpu:6"})
    assert ran.code == 0, ran.err
    assert set(project.devices()) == {"cpu:5", "cpu:6"}
    assert together(steps(project)) == 2


def test_a_gpu_is_given_to_one_worker_alone(monkeypatch):
    monkeypatch.delenv(DEVICES, raising=False)
    with pytest.raises(ParamsError, match="2 workers for 1 devices"):
        worker_devices(params(kind="dask", devices=["cuda:0"], workers=2))
    assert worker_devices(params(kind="dask", devices=["cuda:0", "cuda:1"])) == ["cuda:0", "cuda:1"]
    assert worker_devices(params(kind="dask", devices=["cuda:0", "cuda:1"], workers=1)) == [
        "cuda:0"
    ]
    assert worker_devices(params(kind="dask", devices=["cpu"], workers=3)) == ["cpu"] * 3


@pytest.mark.slow
def test_an_address_where_nobody_answers_is_refused_in_a_line():
    with pytest.raises(
        ParamsError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"
    ) as caught:
        open_runner(params(kind="dask", address="tcp://127.0.0.1:9")).__enter__()
    assert "\n" not in str(caught.value)


def test_workers_without_the_resource_are_refused_with_the_command_that_starts_one_with_it():
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        pytest.raises(
            ParamsError, match=r"no worker at .* has the resource 'device'; .*--resources device=1"
        ) as caught,
    ):
        open_runner(params(kind="dask", address=cluster.scheduler_address)).__enter__()
    assert "\n" not in str(caught.value)
