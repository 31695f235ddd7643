"""What tests change in a run's own process: each is called there before the run starts, and writes
what it saw to a file."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

_lock = threading.Lock()


def note(name: str, **entry: Any) -> None:
    with _lock, Path(name).open("a") as file:
        file.write(json.dumps(entry) + "\n")


def own_server() -> None:
    """Let the run start a server of its own."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    del os.environ["PREFECT_API_URL"]
    temporary_settings(restore_defaults={PREFECT_API_URL}).__enter__()


def note_what_tasks_get() -> None:
    import pickle

    from fmn.flows import tasks

    do = tasks.do

    def noted(params: str, run: str, references: Any, is_hit: bool, title: str) -> Any:
        size = len(pickle.dumps((params, run, references, is_hit, title)))
        state = do(params, run, references, is_hit, title)
        result = state.data.result if hasattr(state.data, "result") else state.data
        note("passed.txt", title=title, arguments=size, returned=len(pickle.dumps(result)))
        return state

    tasks.do = noted


def note_steps() -> None:
    """Note who works where and when; every step takes a while."""
    from fmn.steps.step import Step

    run = Step.run

    def noted(self: Step, store: Any, context: Any, **waiting: bool) -> Any:
        start = time.monotonic()
        time.sleep(0.2)
        outcome = run(self, store, context, **waiting)
        note(
            "steps.txt",
            title=self.title,
            device=context.device,
            start=start,
            end=time.monotonic(),
            pid=os.getpid(),
        )
        return outcome

    Step.run = noted  # type: ignore[method-assign]


def store_fails_once() -> None:
    """The store fails when the first merge of each kind is looked for."""
    from fmn.errors import StoreError
    from fmn.steps.merge import MergeStep

    _fail("sst2 + rte by average", MergeStep, StoreError("the store is busy"), times=1)


def store_always_fails() -> None:
    from fmn.errors import StoreError
    from fmn.steps.merge import MergeStep

    _fail("sst2 + rte by average", MergeStep, StoreError("the store is gone"), times=99)


def fisher_fails_once() -> None:
    from fmn.errors import FisherError
    from fmn.steps.statistic import StatisticStep

    _fail("mask Fisher of sst2", StatisticStep, FisherError("no gradient"), times=1)


def _fail(title: str, kind: Any, error: Exception, times: int) -> None:
    run, left = kind.run, [times]

    def failing(self: Any, store: Any, context: Any, **waiting: bool) -> Any:
        if self.title == title:
            note("attempts.txt", moment=time.monotonic())
            left[0] -= 1
            if left[0] >= 0:
                raise error
        return run(self, store, context, **waiting)

    kind.run = failing


def one_fisher_never_ends() -> None:
    from fmn.steps.statistic import StatisticStep

    run = StatisticStep.run

    def endless(self: StatisticStep, store: Any, context: Any, **waiting: bool) -> Any:
        while self.title == "mask Fisher of sst2":
            time.sleep(0.02)
        return run(self, store, context, **waiting)

    StatisticStep.run = endless  # type: ignore[method-assign]
