"""Who runs the tasks: threads of this process, or the workers of a Dask cluster."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from fmn.errors import ParamsError
from fmn.flows.worker_context import DEVICES, devices_of
from fmn.params import Params, RunnerSettings

RESOURCE = "device"
"""What a Dask worker has one of per device: ``dask worker … --resources device=1``."""

HOST = "127.0.0.1"
NO_PAGES: dict[str, list[str]] = {
    f"distributed.{part}.http.routes": [] for part in ("scheduler", "worker")
}
"""Settings of Dask: what it tells of a cluster by HTTP is for everybody who can reach the port."""


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
            security = security_of(params.runner)
            _check_address(params.runner.address, security)
            runner = DaskTaskRunner(
                address=params.runner.address, client_kwargs={"security": security}
            )
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
    """Start a cluster with one process per device, which nobody but this process talks to.

    It listens to this machine alone, and to who has a certificate that is made for it and stays in
    the memory of its processes: others who work here can reach its ports.
    """
    import dask
    from distributed import Nanny, Scheduler, Security, SpecCluster

    security = Security.temporary()
    ours = {"host": HOST, "dashboard": False, "security": security}
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                **ours,
                "nthreads": 1,
                "resources": {RESOURCE: 1},
                "env": {DEVICES: device},
                "silence_logs": logging.CRITICAL,
            },
        }
        for number, device in enumerate(devices)
    }
    scheduler = {"cls": Scheduler, "options": {**ours, "dashboard_address": f"{HOST}:0"}}
    with dask.config.set(NO_PAGES), _deaf_to_ctrl_c():
        return SpecCluster(
            workers=workers, scheduler=scheduler, security=security, silence_logs="CRITICAL"
        )


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Start processes, in the context, that leave Ctrl-C to this one: a terminal sends it to all.

    They inherit what the thread that starts them does not hear.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # the first process would start it, and after that hear Ctrl-C again
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def security_of(settings: RunnerSettings) -> Any:
    """Return what a client shows to a cluster, and asks of it; Dask's own settings add the rest."""
    from distributed import Security

    return Security(**settings.security.model_dump(exclude_none=True) if settings.security else {})


def check_security(settings: RunnerSettings) -> None:
    """Check that the files of ``runner.security`` are what they should be, before anything starts.

    Raises:
        ParamsError: one is not there, not PEM, or not the other's key.
    """
    if settings.security is None:
        return
    for name, file in settings.security.files().items():
        if not os.access(file, os.R_OK) or not Path(file).is_file():
            raise ParamsError(f"runner.security.{name}: {file} is no file that can be read")
    try:
        security_of(settings).get_connection_args("client")
    except (OSError, ValueError) as error:
        raise ParamsError(
            f"runner.security: {', '.join(settings.security.files().values())} do not go together "
            f"({error}); expected PEM files: an authority, a certificate, and its key"
        ) from error


def _check_address(address: str, security: Any) -> None:
    from distributed import Client

    try:
        with Client(address, timeout=10, set_as_default=False, security=security) as client:
            workers = client.scheduler_info(n_workers=-1)["workers"].values()
    # without a certificate, distributed raises a TypeError
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        advice = "; a tls:// address needs runner.security" * address.startswith("tls:")
        raise ParamsError(
            f"runner: no Dask scheduler answers at {address} ({' '.join(str(error).split())})"
            f"{advice}"
        ) from error
    if not any(worker.get("resources", {}).get(RESOURCE) for worker in workers):
        raise ParamsError(
            f"runner: no worker at {address} has the resource '{RESOURCE}'; start one per device: "
            f"{DEVICES}=cuda:0 dask worker {address} --nthreads 1 --resources {RESOURCE}=1"
        )
