"""Who runs the tasks: threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from fmn.errors import ParamsError
from fmn.flows.worker_context import DEVICES, devices_of
from fmn.params import Params

RESOURCE = "device"
"""What a Dask worker has one of per device: ``dask worker … --resources device=1``."""


class Runner:
    """Submits tasks; those that compute are given a device each."""

    def __init__(self, runner: TaskRunner[Any], annotate: Any = None) -> None:
        self._runner, self._annotate = runner, annotate

    def submit(
        self,
        task: Task[..., Any],
        after: Sequence[Any],
        *,
        computes: bool = True,
        **parameters: Any,
    ) -> PrefectFuture[Any]:
        """Run a task when those in ``after`` are done, on a device if it ``computes``."""
        resources: AbstractContextManager[Any] = nullcontext()
        if self._annotate and computes:
            resources = self._annotate(resources={RESOURCE: 1})
        with resources:
            future: PrefectFuture[Any] = self._runner.submit(
                task, parameters=parameters, wait_for=list(after)
            )
        return future


@contextmanager
def open_runner(params: Params, is_done: bool = False) -> Iterator[Runner]:
    """Start, while the context lasts, what the params ask for; threads if nothing is to compute.

    Raises:
        ParamsError: more local workers than GPUs, or no scheduler at the address.
    """
    if params.runner.kind == "threads" or is_done:
        # a thread per device: a task that had to wait for one would do so while its time limit runs
        threads: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(
            max_workers=len(devices_of(params))
        )
        with threads:
            yield Runner(threads)
        return
    from dask.base import annotate
    from prefect_dask.task_runners import DaskTaskRunner

    with ExitStack() as stack:
        if params.runner.address:
            _check_address(params.runner.address)
            runner = DaskTaskRunner(address=params.runner.address)
        else:
            runner = DaskTaskRunner(
                cluster=stack.enter_context(local_cluster(worker_devices(params)))
            )
        yield Runner(stack.enter_context(runner), annotate)


def worker_devices(params: Params) -> list[str]:
    """Return the device of each worker process of a local cluster.

    Raises:
        ParamsError: two workers would share a GPU.
    """
    devices = devices_of(params)
    count = params.runner.workers or len(devices)
    if count > len(devices) and not all(device.startswith("cpu") for device in devices):
        raise ParamsError(
            f"runner: {count} workers for {len(devices)} devices; a GPU is given to one worker "
            "alone"
        )
    return [devices[number % len(devices)] for number in range(count)]


def local_cluster(devices: Sequence[str]) -> Any:
    """Start a cluster with one process per device on this machine."""
    from distributed import Nanny, Scheduler, SpecCluster

    workers = {
        number: {
            "cls": Nanny,
            "options": {
                "nthreads": 1,
                "resources": {RESOURCE: 1},
                "env": {DEVICES: device},
                "dashboard": False,
            },
        }
        for number, device in enumerate(devices)
    }
    scheduler = {"cls": Scheduler, "options": {"host": "127.0.0.1", "dashboard": False}}
    return SpecCluster(workers=workers, scheduler=scheduler, silence_logs="CRITICAL")


def _check_address(address: str) -> None:
    from distributed import Client

    try:
        with Client(address, timeout=10, set_as_default=False) as client:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
    except (OSError, ValueError, TimeoutError) as error:
        raise ParamsError(
            f"runner: no Dask scheduler answers at {address} ({' '.join(str(error).split())})"
        ) from error
    if not any(worker.get("resources", {}).get(RESOURCE) for worker in workers):
        raise ParamsError(
            f"runner: no worker at {address} has the resource '{RESOURCE}'; start one per device: "
            f"{DEVICES}=cuda:0 dask worker {address} --nthreads 1 --resources {RESOURCE}=1"
        )
