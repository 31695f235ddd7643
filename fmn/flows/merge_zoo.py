"""The main job, as ``fmn flow run [params.yaml]`` or a Prefect deployment.

The deployment is of the flow below.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from prefect import allow_failure, flow, runtime
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed

from fmn.checkpoint import new_file
from fmn.console import tables
from fmn.console.command import HELP, OneLineErrors, params_argument, summary_option
from fmn.flows.dag import Dag, submit_all
from fmn.flows.pictures import Shown, failures, publish, shown
from fmn.flows.runners import Runner, open_runner
from fmn.flows.server import server
from fmn.flows.store_lock import store_lock
from fmn.flows.tasks import leaderboard, report
from fmn.flows.worker_context import WorkerContext, worker_context
from fmn.params import Params, read_params
from fmn.steps.leaderboard import ZooReport, drop_surpassed, to_keep, zoo_report
from fmn.steps.plan import ZooPlan, make_plan
from fmn.steps.run import Tally, log_run, unread


@flow(name="merge-zoo", persist_result=False)
def merge_zoo(
    params: str = "params.yaml", store: str | None = None, summary: str | None = None
) -> State[Any]:
    """Merge a zoo: all Fishers, all combinations by all methods, all scores, the leaderboard.

    Every Fisher is computed once.

    Args:
        params: the zoo's description, a YAML file.
        store: instead of the one that the description names.
        summary: a file for what the run did, as JSON; it is replaced.
    """
    said = read_params(Path(params))
    said = said if store is None else said.model_copy(update={"store": store})
    with store_lock(_absolute(said.store)):
        return _merge(said, summary)


def _merge(said: Params, summary: str | None) -> State[Any]:
    start = time.perf_counter()
    worker = worker_context(said.model_dump_json(), str(runtime.flow_run.id))
    plan = make_plan(worker.zoo, worker.store)
    if not plan.is_done:
        worker.store.check_writable()
    tally = Tally()
    for name, reason in plan.broken.items():
        tally.fail(f"model {name}", reason)
        click.echo(f"{name} cannot take part: {reason}", err=True)
    for line in worker.zoo.doubts:
        click.echo(f"warning: {line}", err=True)
    total = sum(len(part.hits) + len(part.misses) for part in plan.parts().values())
    with shown(total) as screen, open_runner(said, plan.is_done) as runner:
        done, board = _do(worker, plan, runner, screen, str(runtime.flow_run.id))
        tally.add(done)
        found, wall = zoo_report(worker.zoo, worker.store), time.perf_counter() - start
        log_run(worker.zoo, worker.store, tally, wall)
        page = runner.submit(
            report,
            [board],
            computes=False,
            params=said.model_dump_json(),
            run=str(runtime.flow_run.id),
        )
        written = page.result(raise_on_failure=False)
    publish(
        found,
        tally,
        _absolute(worker.store.url),
        _absolute(written) if isinstance(written, str) else None,
    )
    _tell(found, tally, wall, summary)
    return (Failed if tally.failed or tally.skipped.total() else Completed)(
        message=tally.in_words(), data=_summary(tally, wall)
    )


def _do(
    worker: WorkerContext, plan: ZooPlan, runner: Runner, screen: Shown, run: str
) -> tuple[Tally, PrefectFuture[Any]]:
    """Run the DAG: all that the plan names, the leaderboard, and the models that are kept.

    Return the leaderboard's task, too.
    """
    zoo = worker.zoo
    dag = Dag(runner, zoo, run)
    submit_all(dag, zoo, plan)
    every = [task.future for task in dag.submitted]
    board = runner.submit(
        leaderboard,
        list(map(allow_failure, every)),
        computes=False,
        params=zoo.params.model_dump_json(),
        run=run,
    )
    tally = dag.wait(screen.advance)
    board.wait()
    there = zoo_report(zoo, worker.store)
    found = {*plan.individuals.hits, *plan.evaluations.hits}
    lost = [
        reference for reference in unread(zoo, there) if reference in found
    ]  # records that are there, and damaged
    tally.cached["evaluate"] -= len(lost)
    late = Dag(runner, zoo, run)
    for reference in lost:
        late.add("evaluate", [reference], False, [board])
    tally.add(late.wait(lambda steps: None))
    kept = Dag(runner, zoo, run)
    references = to_keep(zoo, zoo_report(zoo, worker.store) if lost else there)
    for reference in references:
        kept.add("publish", [reference], False, [board])
    tally.add(kept.wait(lambda steps: None))
    drop_surpassed(zoo, references, worker.store)
    return tally, board


def _tell(found: ZooReport, tally: Tally, wall: float, summary: str | None) -> None:
    """Write the summary; print the leaderboard, what failed, and what was done."""
    if summary:
        with new_file(Path(summary), replace=True) as staging:
            staging.write_text(json.dumps(_summary(tally, wall), indent=2) + "\n", encoding="utf-8")
    tables.print_zoo(found)
    for steps, error in failures(tally):
        click.echo(f"{steps} failed: {error}")
    click.echo(f"{tally.in_words()}, in {wall:.1f} s")


def _summary(tally: Tally, wall: float) -> dict[str, Any]:
    said = tally.as_json()
    return said | {"seconds": said["seconds"] | {"wall": round(wall, 3)}}


def _absolute(url: str) -> str:
    return url if "://" in url else str(Path(url).absolute())


@click.command(cls=OneLineErrors, context_settings=HELP)
@params_argument
@summary_option
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
def main(params: Path, summary: Path | None, traceback: bool) -> None:
    """Run the zoo of PARAMS [params.yaml] as a Prefect flow.

    It runs on Prefect's server, or on one that lasts as long as the run.
    """
    run(params, summary)


def run(params: Path, summary: Path | None) -> None:
    """Run a zoo as the command line asks for it; the exit code is 1 if something failed."""
    read_params(params)  # a mistake in it shows before a server is started
    with server():
        state = merge_zoo(str(params), summary=str(summary) if summary else None, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, Exception):
        raise outcome
    sys.exit(1 if state.is_failed() else 0)
