"""Logs of runs: what each did, beside the records."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

RUNS = "runs/v1"
TIME = "%Y%m%dT%H%M%SZ"


class RunLog(BaseModel):
    """What a run did.

    Attributes:
        at: when it ended, UTC, ISO 8601.
        wall: seconds from start to end.
        computed: how many results, by kind.
        cached: how many came from the store, by kind.
        skipped: how many could not be had, because what they need failed, by kind.
        failed: what failed: ``step`` and ``error`` of each.
        seconds: of computing, by kind.
        described: of what, for the next plan to compare with.
    """

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    at: str
    wall: float = 0.0
    computed: dict[str, int] = Field(default_factory=dict)
    cached: dict[str, int] = Field(default_factory=dict)
    skipped: dict[str, int] = Field(default_factory=dict)
    failed: tuple[dict[str, str], ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)
    described: dict[str, Any] | None = None

    @staticmethod
    def new(run: Mapping[str, Any]) -> tuple[str, bytes]:
        """Return the path and the content of a file for a run that just ended."""
        name = f"{datetime.now(UTC).strftime(TIME)}-{os.urandom(4).hex()}"
        content = json.dumps(run, sort_keys=True, indent=1) + "\n"
        return f"{RUNS}/{name}.json", content.encode()


def parse_run(path: str, content: bytes) -> RunLog | None:
    """Read the log of a run; None if it is damaged."""
    try:
        moment = datetime.strptime(PurePosixPath(path).name.partition("-")[0], TIME)
        run = json.loads(content)
        return RunLog.model_validate({**run, "at": moment.replace(tzinfo=UTC).isoformat()})
    except (ValueError, TypeError, RecursionError):
        return None
