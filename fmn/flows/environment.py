"""What Prefect is told through the environment, unless somebody told it otherwise."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from pathlib import Path

from fmn.store import home_directory

STATE = Path(".fmn")
"""The project's own state: Prefect's embedded server, and the store unless the params name another.
"""

DEFAULTS = {
    # a loaded machine may take minutes to import and migrate
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # the embedded server writes to this terminal, tracebacks of its own end included
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "true",
}


def set_defaults(environment: MutableMapping[str, str] = os.environ) -> None:
    """Keep an embedded server's state, if there is no other, in the project; send no analytics."""
    # without one, parts of Prefect fail
    environment.setdefault("HOME", str(home_directory()))
    for name, value in DEFAULTS.items():
        environment.setdefault(name, value)
    if not has_server(environment):
        # the terminal shows a bar; logs go to the UI
        environment.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        home = Path(environment.setdefault("PREFECT_HOME", str((STATE / "prefect").absolute())))
        # Prefect's server does not make it, and would be started again and again
        home.mkdir(parents=True, exist_ok=True)


def has_server(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Tell whether Prefect was told of a server, by the environment or by a profile."""
    if environment.get("PREFECT_API_URL"):
        return True
    home = Path(environment.get("PREFECT_HOME") or home_directory() / ".prefect")
    profiles = home / "profiles.toml"
    return profiles.is_file() and "PREFECT_API_URL" in profiles.read_text(encoding="utf-8")
