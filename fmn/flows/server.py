"""Prefect's embedded server: one for a run and its workers, unless Prefect has another."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import (
    PREFECT_API_AUTH_STRING,
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    get_current_settings,
    temporary_settings,
)

import fmn
from fmn.errors import FmnError
from fmn.flows.embedded import OWNER
from fmn.flows.environment import STATE, has_server
from fmn.flows.history import forget_old_runs

HOST = "127.0.0.1"
ATTEMPTS = 3
"""Of starting it: between the choice of a port and its use, another process may take it."""


@contextmanager
def server() -> Iterator[None]:
    """Start an embedded server, if there is none, that Prefect uses while the context lasts.

    Only this machine reaches it, and only who has a password that is made for the run. It ends with
    the run's process, however that ends.

    Raises:
        FmnError: it does not start.
    """
    if has_server():
        yield
        return
    home = Path(PREFECT_HOME.value())
    if home == (STATE / "prefect").absolute():
        forget_old_runs(home / "prefect.db")
    password = f"fmn:{secrets.token_urlsafe()}"
    with (
        _embedded(password) as url,
        temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: password}),
    ):
        yield
        _send_what_is_left()


@contextmanager
def _embedded(password: str) -> Iterator[str]:
    """Start a server; give the address of its API."""
    for attempt in range(1, ATTEMPTS + 1):
        port = _free_port()
        url = f"http://{HOST}:{port}/api"
        process = _start(port, password)
        try:
            if _answers(process, url, password):
                yield url
                return
        finally:
            _end(process)
        if attempt == ATTEMPTS:
            raise FmnError(
                f"Prefect's embedded server did not start (exit code {process.returncode}); set "
                "PREFECT_SERVER_LOGGING_LEVEL=INFO to see why, or PREFECT_API_URL to use another"
            )


def _start(port: int, password: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(Path(fmn.__file__).parents[1])]
    command += ["--factory", "fmn.flows.embedded:create_app", "--host", HOST, "--port", str(port)]
    environment = {
        **os.environ,
        "PREFECT_UI_ENABLED": "0",
        # nothing reads events, and they are most of what a run would leave in the database
        "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
        **get_current_settings().to_environment_variables(exclude_unset=True),
        "PREFECT_API_AUTH_STRING": password,
        "PREFECT_SERVER_API_AUTH_STRING": password,
        OWNER: str(os.getpid()),
    }
    return subprocess.Popen(
        [*command, "--log-level", "error", "--lifespan", "on"],
        env=environment,
        # Ctrl-C in a terminal is for the run, which ends its server
        start_new_session=True,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _answers(process: subprocess.Popen[bytes], url: str, password: str) -> bool:
    """Wait until the server knows its password; return False if its process ends before."""
    user, _, word = password.partition(":")
    deadline = time.monotonic() + PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    with httpx.Client(auth=(user, word), trust_env=False) as client:
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if client.get(f"{url}/admin/version").is_success:
                    return True
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _send_what_is_left() -> None:
    """Send queued logs and events: without a server, Prefect would try for a minute."""
    for service in (APILogWorker, EventsWorker):
        service.drain_all(timeout=30, at_exit=False)
