"""Commands of dvc.yaml's stages; what lies in the store they do not compute again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fmn.cli import main
from fmn.cli.options import PATH, context_for, device_option
from fmn.console.output import echo
from fmn.console.stop import keeps

params_option = click.option(
    "--params",
    type=PATH,
    default=Path("params.yaml"),
    show_default=True,
    help="The zoo's description, which names the store.",
)


@main.group()
def stage() -> None:
    """Do one stage of dvc.yaml; 'dvc repro' calls these."""


@stage.command()
@params_option
@click.option(
    "--out-dir",
    type=PATH,
    required=True,
    help="A directory for a small file per model, and one for the merges.",
)
@click.option(
    "--fishers",
    type=PATH,
    help="The directory of the Fishers; those of models that are gone are removed from it.",
)
def inputs(params: Path, out_dir: Path, fishers: Path | None) -> None:
    """Write, as digests that DVC follows, what every stage depends on: models, data, settings."""
    from fmn.steps.zoo.stages import write_inputs

    with context_for("cpu") as context:
        changed = write_inputs(_opened(params, context)[0], out_dir, fishers)
    echo(f"{out_dir}: {changed or 'no'} file{'s' * (changed != 1)} changed")


@stage.command()
@click.argument("inputs", type=PATH)
@params_option
@device_option
@click.option("--out", type=PATH, required=True, help="A new directory for the model's Fishers.")
def fisher(inputs: Path, params: Path, device: str, out: Path) -> None:
    """Take the Fishers of the model of INPUTS from the store, or compute them into it.

    INPUTS is a file that 'fmn stage inputs' wrote.
    """
    from fmn.steps.zoo.stages import check_out_fishers

    with context_for(device) as context:
        graph, store = _opened(params, context, with_store=True)
        tally = check_out_fishers(graph, inputs, store, context, out)
    echo(f"{out}: {tally.in_words()}")


@stage.command()
@params_option
@device_option
@click.option("--out", type=PATH, required=True, help="A new JSON file.")
def merges(params: Path, device: str, out: Path) -> None:
    """Make and measure every merge that is not in the store, and write all scores."""
    from fmn.steps.zoo.stages import write_scores

    with context_for(device) as context:
        graph, store = _opened(params, context, with_store=True)
        tally = write_scores(graph, store, context, out)
    echo(f"{out}: {tally.in_words()}")


@stage.command()
@click.argument("scores", type=PATH)
@click.option(
    "--out-dir",
    type=PATH,
    required=True,
    help="Gets metrics.json, leaderboard.csv and methods.csv.",
)
def leaderboard(scores: Path, out_dir: Path) -> None:
    """Write metrics and the data of plots, made of SCORES, a file that 'fmn stage merges' wrote."""
    from fmn.steps.zoo.stages import write_leaderboard

    report = write_leaderboard(scores, out_dir)
    echo(f"{out_dir}: {len(report.rows)} merges of {len(report.individual)} models")


def _opened(params: Path, context: Any, *, with_store: bool = False) -> tuple[Any, Any]:
    """Open the graph of the zoo, and its store."""
    from fmn.params import read_params
    from fmn.steps.zoo.graph import Graph
    from fmn.steps.zoo.zoo import open_zoo
    from fmn.store import open_store

    description = read_params(params)
    context.memory = description.runner.memory
    store = None
    if with_store:
        store = open_store(description.store, warn=context.report.warn)
        keeps(store.url)
    return Graph(open_zoo(description, context.memo)), store
