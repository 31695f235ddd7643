"""The commands. Whatever is slow to import is imported where it is used, so that --help answers at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fmn.cli import main
from fmn.errors import ParamsError

F = TypeVar("F", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)
device_option = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …")
data_option = click.option(
    "--data", default="nyu-mll/glue", show_default=True, help="Hub id, or a directory of TASK/SPLIT.parquet."
)
revision_option = click.option("--revision", help="Branch, tag or commit of a hub id.")
labels_option = click.option("--labels-map", metavar="YAML", help='Model label to task label: "{LABEL_0: entailment, …}".')

store_option = click.option(
    "--store", envvar="FMN_STORE", help="Take Fishers from, and keep them in: a directory or s3://bucket/prefix [FMN_STORE]."
)


@main.command()
@click.argument("model")
@click.option("--task", required=True, help="A GLUE task, a registered one, or a task file (.yaml).")
@data_option
@click.option("--kind", type=click.Choice(["mask", "diagonal"]), default="mask", show_default=True)
@click.option("--samples", type=click.IntRange(1), default=128, show_default=True, help="Training examples.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the choice of examples, without replacement."
)
@click.option("--no-shuffle", is_flag=True, help="Take the first examples in file order instead.")
@click.option("--max-length", type=click.IntRange(4), default=128, show_default=True, help="Tokens per example.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--labels", type=click.Choice(["true", "expected", "sampled"]), help="[default: true; expected for diagonal]")
@click.option(
    "--placement", type=click.Choice(["after-activation", "before-activation"]), default="after-activation", show_default=True
)
@click.option("--aggregation", type=click.Choice(["per-example", "per-batch"]), default="per-example", show_default=True)
@labels_option
@revision_option
@device_option
@store_option
@click.option("--out", type=PATH, required=True, help="A new .safetensors file.")
def fisher(
    model: str,
    task: str,
    data: str,
    kind: Any,
    no_shuffle: bool,
    labels_map: str | None,
    revision: str | None,
    device: str,
    store: str | None,
    out: Path,
    **settings: Any,
) -> None:
    """Compute the Fisher information of MODEL (a directory or hub id) on a task's training data."""
    from fmn.checkpoint import check_new, open_checkpoint
    from fmn.evaluation import get_task
    from fmn.recipe import FisherSettings
    from fmn.steps.fisher import FisherStep

    check_new(out)
    if no_shuffle:
        settings["seed"] = None
    opened, of_task, said = open_checkpoint(model, revision), get_task(task), FisherSettings(**settings)
    with bench(device) as at:
        step = FisherStep(opened, of_task, data, kind, said, at.memo, label_map(labels_map))
        examples, was_there = step.save(out, at, opened_store(store, at))
    found = "from the store" if was_there else f"over {examples} {task} examples"
    click.echo(f"{out}: {kind} Fisher of {model} {found} ({out.stat().st_size / 1e3:,.0f} kB)")


@main.command()
@click.argument("recipe", type=PATH)
@device_option
@store_option
@click.option("--out", type=PATH, required=True, help="A new directory.")
def merge(recipe: Path, device: str, store: str | None, out: Path) -> None:
    """Merge the models of RECIPE (YAML) into one directory: a shared backbone, and a loadable model per task."""
    from fmn.recipe import read_recipe
    from fmn.steps.merge import merge_recipe

    said = read_recipe(recipe)
    with bench(device) as at:
        merge_recipe(said, out, at, opened_store(store, at))
    tasks = sorted(entry.name for entry in said.models)
    click.echo(f"{out}: {len(tasks)} models merged by {said.method}; load {', '.join(str(out / task) for task in tasks)}")


@main.command()
@click.argument("model")
@click.option("--task", "tasks", multiple=True, help="May be repeated; a merge is measured on all of its tasks without it.")
@data_option
@click.option("--split", default="validation", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first rows of the split.")
@click.option("--max-length", type=click.IntRange(4), default=128, show_default=True, help="Tokens per example.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@labels_option
@revision_option
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def evaluate(
    model: str,
    tasks: tuple[str, ...],
    data: str,
    labels_map: str | None,
    revision: str | None,
    device: str,
    as_json: bool,
    **settings: Any,
) -> None:
    """Measure MODEL (a directory, a hub id, or a merge) on its tasks' validation data."""
    from fmn.cli import tables
    from fmn.params import EvaluateSettings
    from fmn.steps.evaluate import evaluate_path

    if labels_map and len(tasks) != 1:
        raise ParamsError("--labels-map is about one task; give one --task with it")
    with bench(device) as at:
        scores = evaluate_path(
            model, tasks, data, EvaluateSettings(**settings), at, revision=revision, labels=label_map(labels_map)
        )
    if as_json:
        click.echo(
            json.dumps({s.label: {**s.metrics, "examples": s.examples, "seconds": round(s.seconds, 3)} for s in scores}, indent=2)
        )
    else:
        tables.print_scores(scores)


@main.command()
@click.argument("directory", type=PATH, default=Path("demo"))
@click.option("--seed", type=int, default=0, show_default=True)
def demo(directory: Path, seed: int) -> None:
    """Make a small zoo to play with in DIRECTORY [demo]: a tiny BERT, pretrained, and fine-tuned on four tasks."""
    from fmn.cli.progress import progress_bars
    from fmn.demo import build_zoo

    with progress_bars() as bars:
        build_zoo(directory, seed=seed, progress=bars)
    click.echo(f"{directory}: a parent, its fine-tunes and their data")


def bench(device: str) -> Any:
    """Return a context that gives a workbench with progress bars."""
    from fmn.cli.progress import open_bench

    return open_bench(device)


def opened_store(url: str | None, at: Any) -> Any:
    """Open a store, if one was named."""
    if not url:
        return None
    from fmn.store import open_store

    store = open_store(url, warn=at.report.warn)
    store.check_writable()
    return store


def label_map(text: str | None) -> dict[str | int | bool, str] | None:
    """Read the YAML of --labels-map."""
    import yaml

    if text is None:
        return None
    try:
        found = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # ValueError: what looks like a date, and is none
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ParamsError(f"--labels-map {text!r}: expected a map such as '{{LABEL_0: entailment, LABEL_1: not_entailment}}'")
    return found
