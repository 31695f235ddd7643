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

from tests.flows import patches
from tests.flows.conftest import clean_environment, copy_into, finish, until

RUNNERS = {
    "threads": {"kind": "threads"},
    "dask": {"kind": "dask", "devices": ["cpu:0"], "workers": 1},
}
WITHIN = {"asked": 5.0, "killed": 60.0}


class Cold:
    """A run as a person starts it in a terminal of its own, with all that it has to import.

    Attributes:
        pid: of its process.
    """

    def __init__(self, folder):
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fmn", "flow", "run"],
            cwd=folder,
            env=clean_environment(FMN_CACHE=str(folder / "cache")),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.pid = self._process.pid

    @property
    def is_alive(self):
        return self._process.poll() is None

    def kill(self):
        self._process.kill()

    def end(self):
        return finish(self._process)


class Alone:
    """A run that has a server of its own, and a session of its own as in a terminal.

    Attributes:
        run: its process.
        children: all processes that it started.
    """

    def __init__(self, project, *, is_cold):
        project.write()
        self.project = project
        self.run = Cold(project.folder) if is_cold else project.start(patch=patches.own_server)

    def until_it_works(self, runner):
        """Wait until its first results are stored."""
        until(lambda: self.project.count() or not self.run.is_alive, "a result")
        assert self.run.is_alive, self.run.end()
        self.children = psutil.Process(self.run.pid).children(recursive=True)
        assert len(self.children) >= (2 if runner == "dask" else 1)

    def stop(self, *signals, group=False):
        """Send signals; return the seconds until each process had ended, and what it said."""
        start = time.monotonic()
        for number in signals:
            with suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(self.run.pid, number)
            time.sleep(0.5 if len(signals) > 1 else 0)
        ran = self.run.end()
        until(lambda: not any(map(is_alive, self.children)), "the end of its processes")
        return time.monotonic() - start, ran

    def stops(self, number, *, group):
        """Check that a signal ends all of it in time, and one line says so."""
        there = self.project.count()
        seconds, ran = self.stop(number, group=group)
        assert (ran.code, ran.out) == (128 + number, "")
        assert ran.err == (
            f"fmn: stopped by {signal.Signals(number).name}: what is done is in "
            f"{self.project.store}; the same command goes on from there\n"
        )
        assert seconds < WITHIN["asked"]
        assert self.project.count() >= there > 0


def is_alive(process):
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def alone(make_project, prefect_database):
    """Start a run that is not done before it is stopped."""
    started = []

    def start(runner="threads", *, is_cold=False):
        merge = {"methods": ["average", "fisher", "mask-fisher"], "keep": "all"}
        project = make_project(merge=merge, runner=RUNNERS[runner])
        copy_into(project.folder / ".fmn" / "prefect", prefect_database)
        started.append(Alone(project, is_cold=is_cold))
        return started[-1]

    yield start
    for alone in started:
        alone.run.kill()
        alone.run.end()


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
def test_nobody_who_knows_no_secret_talks_to_a_run_and_sigterm_ends_all_of_it(alone, runner):
    run = alone(runner, is_cold=True)
    run.until_it_works(runner)
    family = [psutil.Process(run.run.pid), *run.children]
    sockets = {process.pid: listening(process) for process in family}
    addresses = [address for each in sockets.values() for address in each]
    assert len(addresses) >= (4 if runner == "dask" else 1), sockets
    assert {address.ip for address in addresses} == {"127.0.0.1"}, sockets
    for address in addresses:
        for path in ("/api/admin/version", "/health", "/metrics", "/json/counts.json"):
            assert not tells(address, path), (address, path, sockets)
        assert not talks(address), (address, sockets)
    run.stops(signal.SIGTERM, group=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("runner", "number"),
    [("threads", signal.SIGINT), ("threads", signal.SIGHUP), ("dask", signal.SIGINT)],
)
def test_what_a_terminal_sends_to_all_processes_of_a_flow_ends_them(alone, runner, number):
    run = alone(runner)
    run.until_it_works(runner)
    run.stops(number, group=True)


@pytest.mark.slow
def test_the_second_ctrl_c_ends_a_flow_at_once(alone):
    run = alone()
    run.until_it_works("threads")
    seconds, ran = run.stop(signal.SIGINT, signal.SIGINT)
    assert ran.code == 128 + signal.SIGINT
    assert ran.err.count("\n") == 1
    assert seconds < 3.0


@pytest.mark.slow
@pytest.mark.parametrize("runner", RUNNERS)
def test_after_a_kill_of_the_run_alone_its_server_and_workers_notice_and_end(alone, runner):
    run = alone(runner)
    run.until_it_works(runner)
    seconds, ran = run.stop(signal.SIGKILL)
    assert ran.code == -signal.SIGKILL
    assert seconds < WITHIN["killed"]
