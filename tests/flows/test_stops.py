"""A flow that is asked to stop stops, with all that it started; one that is killed leaves nothing
that goes on; and while it runs, nobody on the network reaches any of it."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from http.client import HTTPException

import psutil
import pytest

from tests.flows.conftest import clean_environment, until

RUNNERS = {
    "threads": {"kind": "threads"},
    "dask": {"kind": "dask", "devices": ["cpu:0", "cpu:1"], "workers": 2},
}
WITHIN = {"asked": 5.0, "killed": 60.0}


class Alone:
    """A run that has a server of its own, and a session of its own as in a terminal.

    Attributes:
        process: the run.
        children: all processes that it started.
    """

    def __init__(self, project):
        project.write()
        self.project = project
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fmn", "flow", "run"],
            cwd=project.folder,
            env=clean_environment(FMN_CACHE=str(project.folder / "cache")),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def until_it_works(self, runner):
        """Wait until its first results are stored."""
        until(lambda: self.project.count() or self.process.poll() is not None, "a result")
        assert self.process.poll() is None, self.process.communicate()
        self.children = psutil.Process(self.process.pid).children(recursive=True)
        assert len(self.children) >= (3 if runner == "dask" else 1)

    def stop(self, *signals, group=False):
        """Send signals; return the seconds until each process had ended, the code and the line."""
        start = time.monotonic()
        for number in signals:
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.process.pid, number)
            time.sleep(0.5 if len(signals) > 1 else 0)
        self.process.wait(60)
        until(lambda: not any(map(is_alive, self.children)), "the end of its processes")
        seconds = time.monotonic() - start
        out, err = self.process.communicate(timeout=60)
        return seconds, self.process.returncode, out, err


def is_alive(process):
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def alone(make_project):
    """Start a run that is not done before it is stopped."""
    started = []

    def start(runner="threads"):
        merge = {"methods": ["average", "fisher", "mask-fisher"], "keep": "all"}
        started.append(Alone(make_project(merge=merge, runner=RUNNERS[runner])))
        return started[-1]

    yield start
    for run in started:
        run.process.kill()
        run.process.wait()


def listening(process):
    with suppress(psutil.Error):
        sockets = process.net_connections(kind="inet")
        return [each.laddr for each in sockets if each.status == psutil.CONN_LISTEN]
    return []


def tells(address, path):
    """Whether a server of HTTP has an answer for somebody who knows no secret."""
    try:
        return urllib.request.urlopen(f"http://{address.ip}:{address.port}{path}", timeout=5)
    except (OSError, HTTPException):
        return None


def talks(address):
    """Whether what speaks TLS goes on to speak with somebody who has no certificate."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address.ip, address.port), 5) as plain,
            anybody.wrap_socket(plain) as wrapped,
        ):
            return wrapped.recv(1)
    except OSError:
        return b""


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS)
def test_no_socket_of_a_run_listens_to_the_network_or_talks_to_who_knows_no_secret(alone, runner):
    run = alone(runner)
    run.until_it_works(runner)
    family = [psutil.Process(run.process.pid), *run.children]
    sockets = {process.pid: listening(process) for process in family}
    addresses = [address for each in sockets.values() for address in each]
    assert len(addresses) >= (4 if runner == "dask" else 1), sockets
    assert {address.ip for address in addresses} == {"127.0.0.1"}, sockets
    for address in addresses:
        for path in ("/api/admin/version", "/health", "/metrics", "/json/counts.json"):
            assert not tells(address, path), (address, path, sockets)
        assert not talks(address), (address, sockets)
    run.stop(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "number", "group"),
    [
        ("threads", signal.SIGINT, True),  # as a terminal sends it, to all of its processes
        ("threads", signal.SIGTERM, False),
        ("threads", signal.SIGHUP, True),
        ("dask", signal.SIGINT, True),
        ("dask", signal.SIGTERM, False),
    ],
)
def test_a_flow_that_is_asked_to_stop_ends_with_all_its_processes_and_says_one_line(
    alone, runner, number, group
):
    run = alone(runner)
    run.until_it_works(runner)
    there = run.project.count()
    seconds, code, out, err = run.stop(number, group=group)
    assert (code, out) == (128 + number, "")
    assert err == (
        f"fmn: stopped by {signal.Signals(number).name}: what is done is in {run.project.store}; "
        "the same command goes on from there\n"
    )
    assert seconds < WITHIN["asked"]
    assert run.project.count() >= there > 0


@pytest.mark.slow
def test_the_second_ctrl_c_ends_a_flow_at_once(alone):
    run = alone()
    run.until_it_works("threads")
    seconds, code, _, err = run.stop(signal.SIGINT, signal.SIGINT)
    assert code == 128 + signal.SIGINT
    assert err.count("\n") == 1
    assert seconds < 3.0


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS)
def test_after_a_kill_of_the_run_alone_its_server_and_workers_notice_and_end(alone, runner):
    run = alone(runner)
    run.until_it_works(runner)
    seconds, code, _, _ = run.stop(signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert seconds < WITHIN["killed"]
