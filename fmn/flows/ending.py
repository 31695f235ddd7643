"""What ends with a run that somebody stops: its processes, and its state on Prefect's server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context

import psutil
from prefect import get_client, runtime
from prefect.states import Crashed

PATIENCE = 1.0
"""Seconds that a server has to take the state."""


def end_children() -> None:
    """Kill the server, the workers and their nannies: nothing they could still write is needed."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            process.kill()


def report_of_the_end() -> Callable[[], None]:
    """Return what tells Prefect's server that this run has ended, unless it is slow to hear of it.

    Whichever thread calls it: Prefect knows run and server in this very context.
    """
    run, context = runtime.flow_run.id, copy_context()

    def tell() -> None:
        with suppress(Exception), get_client(sync_client=True) as client:
            client.set_flow_run_state(run, Crashed(message="somebody stopped it"), force=True)

    def report() -> None:
        thread = threading.Thread(target=context.run, args=(tell,), daemon=True)
        thread.start()
        thread.join(PATIENCE)

    return report
