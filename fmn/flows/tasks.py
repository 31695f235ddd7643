"""The tasks: a few lines each around fmn's steps; between them pass references and counts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from prefect import task
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.tasks import Task, exponential_backoff

from fmn.catalog import Catalog
from fmn.errors import StoreError
from fmn.flows.worker_context import worker_context
from fmn.params import RunnerSettings
from fmn.report import read_report, render
from fmn.steps.kind import Reference
from fmn.steps.zoo.leaderboard import zoo_report
from fmn.steps.zoo.run import PASSING, Tally, cached, run_steps

REPORT = "report/index.html"
"""Where a store has the page; on a web server, or opened from a directory, it is complete as it is.
"""


def may_pass(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell whether a task that failed is to be tried again."""
    return isinstance(state.result(raise_on_failure=False), PASSING)


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line of the log is news; Prefect's warning about limits in threads is not."""
    return not record.getMessage().startswith("Timeout of ")


logging.getLogger("prefect.task_runs").addFilter(_is_news)


def do(
    params: str, run: str, references: Sequence[Reference], is_hit: bool, title: str
) -> State[Any]:
    """Do steps in the worker context of this process.

    Args:
        params: the zoo's description as JSON.
        run: name of the run.
        references: the steps.
        is_hit: the plan found their results in the store, and that is all there is to do.
        title: what the task run is called.

    Returns:
        a state named ``Cached``, ``Completed``, ``Skipped`` or ``Failed``, with the tally as JSON.
    """
    worker = worker_context(params, run)
    if is_hit:
        return as_state(cached(worker.graph, references))
    steps = [worker.graph.step(reference) for reference in references]
    with worker.context() as context:
        return as_state(run_steps(steps, worker.store, context))


def as_state(tally: Tally) -> State[Any]:
    """Return a tally as the state of a task run."""
    if tally.failed:
        message = "; ".join(f"{failure['step']}: {failure['error']}" for failure in tally.failed)
        return Failed(message=message, data=tally.as_json())
    if tally.skipped.total():
        return Failed(name="Skipped", message=tally.in_words(), data=tally.as_json())
    return Completed(
        name="Cached" if tally.is_hit else "Completed",
        message=tally.in_words(),
        data=tally.as_json(),
    )


def named(name: str, settings: RunnerSettings, steps: int) -> Task[..., Any]:
    """Return the task for steps of one kind, with its time limit and its retries."""
    return Task(
        do,
        name=name,
        task_run_name="{title}",
        retries=settings.retries,
        retry_delay_seconds=exponential_backoff(backoff_factor=2),
        retry_condition_fn=may_pass,
        timeout_seconds=settings.timeout * steps,
        persist_result=False,
    )


@task(name="leaderboard", task_run_name="leaderboard", persist_result=False)
def leaderboard(params: str, run: str) -> dict[str, Any]:
    """Read every score of the zoo that is in the store."""
    worker = worker_context(params, run)
    return zoo_report(worker.graph, worker.store).as_json()


@task(name="report", task_run_name="report", persist_result=False)
def report(params: str, run: str) -> str | None:
    """Write the report page into the store; return its address, None if it can only be read."""
    worker = worker_context(params, run)
    parent = worker.graph.zoo.params.parent
    page = render(read_report(Catalog(worker.store), parent.model if parent else None))
    try:
        worker.store.files.write(REPORT, page.encode(), "text/html; charset=utf-8")
    except StoreError as error:
        worker.store.warn(f"no report was written: {error}")
        return None
    return f"{worker.store.url}/{REPORT}"
