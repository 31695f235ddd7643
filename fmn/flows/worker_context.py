"""Where tasks work: in each process the opened zoo and store, and a context per device."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

from fmn.console.output import echo, shown
from fmn.evaluation import EncodedCache
from fmn.flows.environment import has_server
from fmn.params import MemorySettings, Params
from fmn.steps.context import Context, Reporter
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import Memo, Store, memo_file, open_store

GPU_FILES = ("nvidia[0-9]*", "kfd", "dxg")
"""What Linux has in /dev where there is a GPU."""

DEVICES = "FMN_DEVICES"
"""Names, with commas between, the devices of this very process: a worker's own, whatever the params
say of the machine's.
"""


@dataclass(frozen=True)
class WorkerContext:
    """What the tasks of one run share in one process.

    Attributes:
        graph: of the opened zoo.
        store: the opened store.
        contexts: the contexts of steps that nobody works in.
    """

    graph: Graph
    store: Store
    contexts: Queue[Context]

    @contextmanager
    def context(self) -> Iterator[Context]:
        """Take one, waiting for one, and give it back."""
        context = self.contexts.get()
        try:
            yield context
        finally:
            self.contexts.put(context)


class Logged:
    """Sends warnings to the task's log, and to a terminal that watches; shows no bars."""

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show nothing."""
        yield lambda done: None

    def warn(self, line: str) -> None:
        """Log a line."""
        from prefect.logging import get_run_logger

        get_run_logger().warning(shown(line))
        if not has_server():
            echo(f"warning: {line}", err=True)


def devices_of(params: Params) -> list[str]:
    """Return this process's devices: those of environment or params, or every GPU, or the CPU."""
    if named := os.environ.get(DEVICES):
        return named.split(",")
    if params.runner.devices != "auto":
        return list(params.runner.devices)
    if sys.platform == "linux" and not any(
        file for pattern in GPU_FILES for file in Path("/dev").glob(pattern)
    ):
        return ["cpu"]  # without torch, whose import takes seconds
    import torch

    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] or ["cpu"]


def open_worker_context(params: Params, report: Reporter) -> WorkerContext:
    """Open a zoo's store and its models; those that cannot take part are the zoo's broken ones.

    Raises:
        FmnError: see :func:`open_store` and :func:`open_zoo`.
    """
    memo = Memo(memo_file())
    store = open_store(params.store, warn=report.warn)
    zoo = open_zoo(params, memo, strict=False)
    return WorkerContext(
        Graph(zoo), store, _contexts(devices_of(params), params.runner.memory, memo, report)
    )


def _contexts(
    devices: Sequence[str], memory: MemorySettings, memo: Memo, report: Reporter
) -> Queue[Context]:
    on_cpu = sum(device.startswith("cpu") for device in devices)
    if on_cpu > 1:  # tasks that run side by side share the cores
        import torch

        torch.set_num_threads(max(1, (os.cpu_count() or 1) // on_cpu))
    contexts: Queue[Context] = Queue()
    encoded = EncodedCache()
    for device in devices:
        contexts.put(
            Context(device=device, memory=memory, report=report, encoded=encoded, memo=memo)
        )
    return contexts


_lock = threading.Lock()
_worker_contexts: dict[tuple[str, str], WorkerContext] = {}


def worker_context(params: str, run: str) -> WorkerContext:
    """Return this process's context of a run's tasks, opened once.

    Args:
        params: the zoo's description as JSON, so that it travels to any worker.
        run: differs for every run, for files may have changed since the last.
    """
    with _lock:
        if (params, run) not in _worker_contexts:
            _worker_contexts.clear()
            _worker_contexts[params, run] = open_worker_context(
                Params.model_validate_json(params), Logged()
            )
        return _worker_contexts[params, run]
