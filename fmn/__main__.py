"""The program ``fmn``, also ``python -m fmn``: the command line, and the door to the flow.

It is above both, so that neither knows the other. The flow is imported when one of its commands
runs: importing it chooses where Prefect keeps its state.
"""

from __future__ import annotations

from pathlib import Path

import click

from fmn.cli import main
from fmn.console.command import PATH, params_argument, summary_option

__all__ = ["main"]


@main.group()
def flow() -> None:
    """Run a zoo as a Prefect flow, or deploy that flow."""


@flow.command()
@params_argument
@summary_option
def run(params: Path, summary: Path | None) -> None:
    """Run the zoo of PARAMS [params.yaml] as a Prefect flow.

    It runs on Prefect's server, or on one that lasts as long as the run.
    """
    from fmn.flows.merge_zoo import run

    run(params, summary)


@flow.command()
@click.argument("file", type=PATH, default=Path("prefect.yaml"))
@click.option("--name", help="Only this deployment.  [default: all]")
def deploy(file: Path, name: str | None) -> None:
    """Register the deployments of FILE [prefect.yaml] with Prefect's server.

    Workers run the flow in the directory of FILE.
    """
    from fmn.flows.deploy import deploy

    deploy(file, name)


if __name__ == "__main__":  # workers of a cluster import this file, too
    main(prog_name="fmn")
