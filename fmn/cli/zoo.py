"""Commands about a whole zoo: what a run would do, and the run itself, in this process."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fmn.cli import main
from fmn.cli.options import PATH, bench, device_option

params_argument = click.argument("params", type=PATH, default=Path("params.yaml"))


@main.command()
@params_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(params: Path, as_json: bool) -> None:
    """Say what a run of PARAMS [params.yaml] would find in the store, what it would compute, and why."""
    from fmn.cli import tables
    from fmn.params import read_params
    from fmn.steps.plan import make_plan
    from fmn.steps.zoo import open_zoo
    from fmn.store import open_store

    said = read_params(params)
    with bench("cpu") as at:
        zoo = open_zoo(said, at.memo, strict=False)
        for line in zoo.doubts:
            at.report.warn(line)
        found = make_plan(zoo, open_store(said.store, warn=at.report.warn))
    if as_json:
        click.echo(json.dumps(found.as_json(), indent=2))
    else:
        tables.print_plan(found)


@main.command()
@params_argument
@device_option
@click.option("--out", type=PATH, help="Write the results to a new JSON file.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
def run(params: Path, device: str, out: Path | None, markdown: bool) -> None:
    """Run the zoo of PARAMS [params.yaml] in this process, without Prefect: all Fishers, all merges, all scores."""
    from fmn.checkpoint import check_new, new_file
    from fmn.cli import tables
    from fmn.params import read_params
    from fmn.steps.leaderboard import zoo_report
    from fmn.steps.work import run_zoo
    from fmn.steps.zoo import open_zoo
    from fmn.store import open_store

    said = read_params(params)
    if out:
        check_new(out)
    with bench(device, said.runner.memory) as at:
        store = open_store(said.store, warn=at.report.warn)
        zoo = open_zoo(said, at.memo)
        tally = run_zoo(zoo, store, at)
    report = zoo_report(zoo, store)
    tables.print_zoo(report, markdown=markdown)
    if out:
        with new_file(out) as staging:
            staging.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    click.echo(tally.in_words())
