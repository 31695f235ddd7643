"""Prefect's embedded server: one for a run and its workers, unless Prefect has another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from fmn.flows.environment import has_server

OWNER = "FMN_RUN"
"""Tells a server which process started it."""


@contextmanager
def server() -> Iterator[None]:
    """Start an embedded server, if there is none, that Prefect uses while the context lasts.

    A run that is killed leaves its server behind; the next run of the project ends it.
    """
    if has_server():
        yield
        return
    from prefect.server.api.server import SubprocessASGIServer  # takes seconds to import

    _end_orphans()
    os.environ[OWNER] = str(os.getpid())
    embedded = SubprocessASGIServer()
    embedded.start()
    try:
        with temporary_settings({PREFECT_API_URL: embedded.api_url}):
            yield
            _send_what_is_left()
    finally:
        embedded.stop()


def _send_what_is_left() -> None:
    """Send queued logs and events: without a server, Prefect would try for a minute."""
    for service in (APILogWorker, EventsWorker):
        service.drain_all(timeout=30, at_exit=False)


def _end_orphans() -> None:
    home = str(PREFECT_HOME.value())
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it ended, or is somebody else's
            if "prefect.server.api.server:create_app" not in process.cmdline():
                continue
            environment = process.environ()
            if (
                environment.get("PREFECT_HOME") == home
                and OWNER in environment
                and not psutil.pid_exists(int(environment[OWNER]))
            ):
                process.terminate()
                process.wait(10)
