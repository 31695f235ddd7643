"""The main job: a flow, for ``fmn flow run [params.yaml]`` or a Prefect deployment."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from prefect import flow, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from fmn.checkpoint import new_file
from fmn.console import tables
from fmn.console.command import HELP, OneLineErrors, params_argument, summary_option
from fmn.console.output import echo
from fmn.console.stop import at_end, ends_here, keeps
from fmn.flows.ending import end_children, report_of_the_end
from fmn.flows.executor import InPrefect
from fmn.flows.pictures import failures, publish, shown
from fmn.flows.runners import check_security, open_runner
from fmn.flows.server import server
from fmn.flows.store_lock import store_lock
from fmn.flows.tasks import report
from fmn.flows.worker_context import worker_context
from fmn.params import Params, read_params
from fmn.schema import address
from fmn.steps.zoo.leaderboard import ZooReport, zoo_report
from fmn.steps.zoo.plan import plan_zoo
from fmn.steps.zoo.run import Tally, run_graph
from fmn.steps.zoo.standing import Standings, standings


@flow(name="merge-zoo", persist_result=False)
def merge_zoo(
    params: str = "params.yaml", store: str | None = None, summary: str | None = None
) -> State[Any]:
    """Merge a zoo: Fishers, each once, all combinations by all methods, scores, leaderboard.

    Args:
        params: the zoo's description, a YAML file.
        store: instead of the one that the description names.
        summary: a file for what the run did, as JSON; it is replaced.
    """
    described = read_params(Path(params))
    if store is not None:
        described = described.model_copy(update={"store": address(store)})
    check_security(described.runner)
    with at_end(report_of_the_end()), ends_here(), store_lock(_absolute(described.store)):
        return _merge(described, summary)


def _merge(params: Params, summary: str | None) -> State[Any]:
    start, run, described = time.perf_counter(), str(runtime.flow_run.id), params.model_dump_json()
    worker = worker_context(described, run)
    graph, store = worker.graph, worker.store
    plan = plan_zoo(graph, store)
    for name, reason in plan.broken.items():
        echo(f"{name} cannot take part: {reason}", err=True)
    for line in graph.zoo.doubts:
        echo(f"warning: {line}", err=True)
    with open_runner(params, plan.is_done) as runner, ends_here(), shown(plan.total) as screen:
        executor = InPrefect(graph, runner, run, screen.advance)
        tally = run_graph(graph, plan, store, executor)
        scores, wall = zoo_report(graph, store), time.perf_counter() - start
        page = runner.submit(report, [executor.board], computes=False, params=described, run=run)
        written = page.result(raise_on_failure=False)
    link = _absolute(written) if isinstance(written, str) else None
    places = standings(scores, store)
    publish(scores, places, tally, _absolute(store.url), link)
    _tell(scores, places, tally, wall, summary)
    is_failed = tally.failed or tally.skipped.total()
    return (Failed if is_failed else Completed)(
        message=tally.in_words(), data=_summary(tally, wall)
    )


def _tell(
    scores: ZooReport, places: Standings, tally: Tally, wall: float, summary: str | None
) -> None:
    """Write the summary; print the leaderboard, what failed, and what was done."""
    if summary:
        with new_file(Path(summary), replace=True) as staging:
            staging.write_text(json.dumps(_summary(tally, wall), indent=2) + "\n", encoding="utf-8")
    tables.print_zoo(scores, places)
    for steps, error in failures(tally):
        echo(f"{steps} failed: {error}")
    echo(f"{tally.in_words()}, in {wall:.1f} s")


def _summary(tally: Tally, wall: float) -> dict[str, Any]:
    summary = tally.as_json()
    return summary | {"seconds": summary["seconds"] | {"wall": round(wall, 3)}}


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
    description = read_params(params)  # a mistake in it shows before a server is started
    check_security(description.runner)
    keeps(description.store)
    with at_end(end_children), server():
        state = merge_zoo(str(params), summary=str(summary) if summary else None, return_state=True)
    outcome = state.result(raise_on_failure=False)
    if isinstance(outcome, Exception):
        raise outcome
    sys.exit(1 if state.is_failed() else 0)
