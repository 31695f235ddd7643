"""The process of an embedded server: Prefect's application, which ends with the run it is for."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

OWNER = "FMN_RUN"
"""Tells a server which process started it."""

EVERY = 1.0
"""Seconds between two looks at whether that process lives."""


def create_app() -> Any:
    """Return the application; uvicorn calls it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_watch, args=(int(os.environ[OWNER]),), daemon=True).start()
    from prefect.server.api.server import create_app  # takes seconds to import

    return create_app()


def _watch(owner: int) -> None:
    """End at once when the run is dead: nothing that a server could still write is a result."""
    while os.getppid() == owner:
        time.sleep(EVERY)
    os._exit(0)
