"""Tasks in the worker processes of a Dask cluster: one that was there before, and one that lasts as
long as the run."""

import subprocess
import sys
from contextlib import ExitStack

import psutil
import pytest

from tests.flows.conftest import ended, free_port, kill, until

pytestmark = pytest.mark.slow

MERGES = {"methods": ["average", "fisher", "mask-fisher"]}


@pytest.fixture(scope="module")
def expected(make_project):
    """What threads make."""
    project = make_project(merge=MERGES)
    assert project.run().code == 0
    return project.results()


def dask(folder, environment, *arguments):
    log = (folder / f"dask-{arguments[0]}-{arguments[-1]}.log").open("w")
    return ended(
        subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    )


def workers(address, security=None):
    from distributed import Client

    with Client(address, timeout=30, set_as_default=False, security=security) as client:
        return client.scheduler_info(n_workers=-1)["workers"]


@pytest.mark.soak(again=1 / 4)
def test_a_worker_that_is_killed_in_the_middle_costs_nothing(
    make_project, expected, process_environment
):
    address = f"tcp://127.0.0.1:{free_port()}"
    project = make_project(merge=MERGES, runner={"kind": "dask", "address": address})
    with ExitStack() as stack:
        start = [project.folder, process_environment | project.environment()]
        stack.enter_context(
            dask(*start, "scheduler", "--host", address, "--no-dashboard", "--no-show")
        )
        device = [
            "--nthreads",
            "1",
            "--resources",
            "device=1",
            "--no-dashboard",
            "--local-directory",
            str(project.folder),
        ]
        nannies = [
            stack.enter_context(dask(*start, "worker", address, *device, "--name", name))
            for name in "ab"
        ]
        until(lambda: len(workers(address)) == 2, "two workers", every=0.5)

        run = project.start()
        until(lambda: project.count("merge") or not run.is_alive, "a merge")
        assert run.is_alive
        lost = [
            nannies[0].pid,
            *(child.pid for child in psutil.Process(nannies[0].pid).children(recursive=True)),
        ]
        for pid in lost:
            kill(pid)
        there = project.count()
        ran = run.end()
        assert len(workers(address)) == 1

    assert len(lost) > 1
    assert ran.code == 0, (ran.out, ran.err)
    assert there < project.count()
    assert (
        sum(ran.summary["computed"].values()) + sum(ran.summary["cached"].values()) == 6 + 12 + 15
    )
    assert project.results() == expected


def test_a_cluster_of_the_run_has_a_process_per_device_and_makes_what_threads_make(
    make_project, expected
):
    project = make_project(
        merge=MERGES, runner={"kind": "dask", "devices": ["cpu:0", "cpu:1"], "workers": 2}
    )
    ran = project.run()
    assert ran.code == 0, (ran.out, ran.err)
    assert ran.counts("computed") == {"fisher": 6, "merge": 12, "evaluate": 15}
    assert project.devices().keys() == {"cpu:0", "cpu:1"}
    assert project.results() == expected


def certificates(folder):
    """Write an authority, which is its own certificate, and its key; return their paths."""
    from distributed import Security

    folder.mkdir()
    made = Security.temporary()
    parts = {"ca": made.tls_ca_file, "cert": made.tls_client_cert, "key": made.tls_client_key}
    for name, content in parts.items():
        (folder / name).write_text(content)
    return {name: str(folder / name) for name in parts}


def security(ca, cert, key):
    return {"tls_ca_file": ca, "tls_client_cert": cert, "tls_client_key": key}


def test_a_cluster_with_tls_does_a_zoo_for_who_has_its_certificate_and_for_nobody_else(
    make_project, expected, process_environment
):
    from distributed import Security

    address = f"tls://127.0.0.1:{free_port()}"
    project = make_project(merge=MERGES)
    ours = certificates(project.folder / "ours")
    theirs = certificates(project.folder / "theirs")
    runner = {"kind": "dask", "address": address, "security": security(**ours)}
    tls = ["--tls-ca-file", ours["ca"], "--tls-cert", ours["cert"], "--tls-key", ours["key"]]
    start = [project.folder, process_environment | project.environment()]
    quiet = ["--protocol", "tls", "--no-dashboard"]
    device = ["--nthreads", "1", "--resources", "device=1"]
    place = ["--local-directory", str(project.folder)]
    with (
        dask(*start, "scheduler", "--host", address, *tls, *quiet, "--no-show"),
        dask(*start, "worker", address, *tls, *quiet, *device, *place, "--host", "127.0.0.1"),
    ):
        ready = Security(require_encryption=True, **security(**ours))
        until(lambda: workers(address, ready), "a worker", every=0.5)

        project.described["runner"] = {"kind": "dask", "address": address}
        assert "needs runner.security" in project.run().line()
        mixed = security(theirs["ca"], theirs["cert"], theirs["key"])
        project.described["runner"] = runner | {"security": mixed}
        assert f"no Dask scheduler answers at {address}" in project.run().line()
        assert project.count() == 0

        project.described["runner"] = runner
        ran = project.run()
    assert ran.code == 0, (ran.out, ran.err)
    assert project.results() == expected
    written = b"".join(path.read_bytes() for path in project.store.rglob("*") if path.is_file())
    assert str(project.folder / "ours").encode() not in written


def test_files_that_are_no_certificates_are_refused_before_anything_starts(make_project):
    project = make_project()
    ours = certificates(project.folder / "ours")
    theirs = certificates(project.folder / "theirs")
    runner = {"kind": "dask", "address": "tls://127.0.0.1:9"}
    for wrong, line in (
        ({"ca": str(project.folder / "absent")}, "runner.security.tls_ca_file: "),
        ({"key": theirs["key"]}, "do not go together"),
        ({"cert": str(project.write())}, "do not go together"),
    ):
        project.described["runner"] = runner | {"security": security(**(ours | wrong))}
        assert line in project.run().line()
    assert not project.store.exists()
