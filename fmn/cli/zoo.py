"""Commands about a whole zoo: what a run would do, and the run itself, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fmn.cli import main
from fmn.cli.options import PATH, context_for, device_option
from fmn.console.command import params_argument
from fmn.console.output import echo, echo_json
from fmn.console.stop import keeps


@main.command()
@params_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(params: Path, as_json: bool) -> None:
    """Say what a run of PARAMS [params.yaml] would find in the store, what it computes, and why."""
    from fmn.console import tables
    from fmn.params import read_params
    from fmn.steps.zoo.graph import Graph
    from fmn.steps.zoo.plan import plan_zoo
    from fmn.steps.zoo.zoo import open_zoo
    from fmn.store import open_store

    description = read_params(params)
    with context_for("cpu") as context:
        zoo = open_zoo(description, context.memo, strict=False)
        for line in zoo.doubts:
            context.report.warn(line)
        zoo_plan = plan_zoo(Graph(zoo), open_store(description.store, warn=context.report.warn))
    if as_json:
        echo_json(zoo_plan.as_json())
    else:
        tables.print_plan(zoo_plan)


@main.command()
@params_argument
@device_option
@click.option("--out", type=PATH, help="Write the results to a new JSON file.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def run(params: Path, device: str, out: Path | None, markdown: bool) -> None:
    """Run the zoo of PARAMS [params.yaml] in this process: all Fishers, merges and scores."""
    from fmn.checkpoint import check_new, new_file
    from fmn.console import tables
    from fmn.params import read_params
    from fmn.steps.zoo.graph import Graph
    from fmn.steps.zoo.leaderboard import zoo_report
    from fmn.steps.zoo.run import run_zoo
    from fmn.steps.zoo.standing import standings
    from fmn.steps.zoo.zoo import open_zoo
    from fmn.store import open_store

    description = read_params(params)
    if out:
        check_new(out)
    with context_for(device, description.runner.memory) as context:
        store = open_store(description.store, warn=context.report.warn)
        keeps(store.url)
        graph = Graph(open_zoo(description, context.memo))
        tally = run_zoo(graph, store, context)
    report = zoo_report(graph, store)
    tables.print_zoo(report, standings(report, store), markdown=markdown)
    if out:
        with new_file(out) as staging:
            staging.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    echo(tally.in_words())
