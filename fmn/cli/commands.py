"""Commands about one model or one merge.

Whatever is slow to import is imported where it is used: --help answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fmn.cli import main
from fmn.cli.options import (
    PATH,
    checkpointing_option,
    context_for,
    data_option,
    device_map_option,
    device_option,
    kind_option,
    label_map,
    labels_option,
    memory,
    opened,
    opened_store,
    revision_option,
    store_option,
    store_options,
)
from fmn.console.command import DefaultGroup
from fmn.errors import ParamsError

IN_VAIN = {
    "diagonal": ("placement", "aggregation"),
    "gram": ("labels", "placement", "aggregation", "checkpointing"),
}
"""Options that say something of other kinds only."""


@main.group(cls=DefaultGroup, default="compute")
def fisher() -> None:
    """Compute a model's Fisher information, or publish it.

    'fmn fisher MODEL …' is short for 'fmn fisher compute MODEL …'.
    """


@fisher.command()
@click.argument("model")
@click.option(
    "--task", required=True, help="A GLUE task, a registered one, or a task file (.yaml)."
)
@data_option
@kind_option
@click.option(
    "--samples", type=click.IntRange(1), default=128, show_default=True, help="Training examples."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the choice of examples, without replacement.",
)
@click.option(
    "--replacement",
    is_flag=True,
    help="Draw examples with replacement, as the published code does.",
)
@click.option("--no-shuffle", is_flag=True, help="Take the first examples in file order instead.")
@click.option(
    "--max-length",
    type=click.IntRange(4),
    default=128,
    show_default=True,
    help="Tokens per example.",
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option(
    "--labels",
    type=click.Choice(["true", "expected", "sampled"]),
    help="[default: true; expected for diagonal]",
)
@click.option(
    "--placement",
    type=click.Choice(["after-activation", "before-activation"]),
    default="after-activation",
    show_default=True,
)
@click.option(
    "--aggregation",
    type=click.Choice(["per-example", "per-batch"]),
    default="per-example",
    show_default=True,
)
@click.option(
    "--dtype",
    type=click.Choice(["same", "float32", "bfloat16", "float16"]),
    default="same",
    show_default=True,
    help="The model computes in it; sums are float32 in any case.",
)
@labels_option
@revision_option
@device_option
@checkpointing_option
@device_map_option
@store_option
@click.option("--out", type=PATH, required=True, help="A new .safetensors file.")
def compute(
    model: str,
    task: str,
    data: str,
    kind: Any,
    no_shuffle: bool,
    labels_map: str | None,
    revision: str | None,
    device: str,
    checkpointing: bool,
    device_map: str | None,
    store: str | None,
    out: Path,
    **settings: Any,
) -> None:
    """Compute the Fisher information of MODEL (a directory or hub id) on a task's training data.

    --kind mask: of its heads and neurons; diagonal: of every parameter; gram: no Fisher, but the
    Gram matrices that the method regmean needs.
    """
    from fmn.checkpoint import check_new, open_checkpoint
    from fmn.evaluation import get_task
    from fmn.recipe import FisherSettings
    from fmn.steps.fisher import STATISTICS, TITLES, FisherStep

    check_new(out)
    if no_shuffle:
        if settings["replacement"]:
            raise ParamsError(
                "--replacement draws examples by a seed, --no-shuffle takes the first ones; leave "
                "one out"
            )
        settings["seed"] = None
    given, usual = (
        settings | {"checkpointing": checkpointing},
        FisherSettings().model_dump() | {"checkpointing": False},
    )
    if vain := [name for name in IN_VAIN.get(kind, ()) if given[name] != usual[name]]:
        raise ParamsError(f"--{vain[0]} means nothing to --kind {kind}; leave it out")
    opened, of_task, said = (
        open_checkpoint(model, revision),
        get_task(task),
        FisherSettings(**settings),
    )
    with context_for(device, memory(checkpointing, device_map)) as context:
        step = FisherStep(opened, of_task, data, kind, said, context.memo, label_map(labels_map))
        examples, was_there = step.save(out, context, opened_store(store, context))
    found = "from the store" if was_there else f"over {examples} {task} examples"
    click.echo(
        f"{out}: {TITLES[STATISTICS[kind]]} of {model} {found} ({out.stat().st_size / 1e3:,.0f} kB)"
    )


@fisher.command()
@click.argument("model")
@click.argument("to", required=False)
@click.option("--task", help="Of the Fisher, where the store has several of the model.")
@kind_option
@click.option(
    "--samples",
    type=click.IntRange(1),
    help="Of the Fisher, where the store has several of the model.",
)
@click.option(
    "--key",
    default="",
    help="Of the Fisher, or its beginning, where the store has several of the model.",
)
@revision_option
@store_options
@click.option("--dry-run", is_flag=True, help="Only say what would be published.")
def push(
    model: str,
    to: str | None,
    task: str | None,
    kind: Any,
    samples: int | None,
    key: str,
    revision: str | None,
    url: str | None,
    params: Path,
    dry_run: bool,
) -> None:
    """Publish the Fisher that a store has of MODEL beside it.

    It goes into the model's directory, or into TO, a repository hf://ORG/NAME.

    Whoever merges the model then needs neither its data nor the store; a recipe finds the Fisher
    there by itself.
    """
    from fmn.steps.sidecar import publish

    chosen: dict[str, Any] = {"of": kind, "task": task, "samples": samples, "key": key}
    with context_for("cpu") as context:
        said = publish(
            model,
            to,
            opened(url, params),
            context.memo,
            revision=revision,
            dry_run=dry_run,
            **chosen,
        )
    click.echo(said)


@fisher.command()
@click.argument("model")
@click.option("--task", help="Only the Fisher of this task.")
@kind_option
@revision_option
@store_options
@click.option(
    "--out",
    type=PATH,
    help="Write it to this new .safetensors file instead of taking it into the store.",
)
def pull(
    model: str,
    task: str | None,
    kind: Any,
    revision: str | None,
    url: str | None,
    params: Path,
    out: Path | None,
) -> None:
    """Take the Fisher published beside MODEL (a directory or hub id) into a store.

    It is taken only if it belongs to the model.
    """
    from fmn.checkpoint import check_new, new_file, open_checkpoint, write
    from fmn.steps.sidecar import pull as published

    if out:
        check_new(out)
    with context_for("cpu") as context:
        found = published(open_checkpoint(model, revision), context.memo, of=kind, task=task)
        if out:
            if len(found) > 1:
                raise ParamsError(
                    f"{len(found)} Fishers are beside {model}; choose one with --task"
                )
            fisher = found[0].fisher()
            with new_file(out) as staging:
                write(staging, fisher.tensors, dict(fisher.metadata))
            click.echo(f"{out}: the {found[0].title}")
            return
        store = opened(url, params)
        store.check_writable()
        for step in found:
            was_there = step.run(store, context).cached
            click.echo(
                f"{store.url}: the {step.title} {'was there' if was_there else 'is there now'} "
                f"({step.key[:12]})"
            )


@main.command()
@click.argument("recipe", type=PATH)
@device_option
@store_option
@click.option("--parent", help="Of the models, a directory or hub id, in place of the recipe's.")
@click.option("--out", type=PATH, required=True, help="A new directory.")
def merge(recipe: Path, device: str, store: str | None, parent: str | None, out: Path) -> None:
    """Merge the models of RECIPE (YAML) into one directory.

    The directory gets a shared backbone, and a loadable model per task.

    The recipe's method is one of average, fisher, mask-fisher (weighted means); task-arithmetic,
    ties, dare-linear, dare-ties, model-stock (these need the models' parent); slerp (two models);
    regmean; or a rule that another package adds.
    """
    from fmn.recipe import Parent, read_recipe
    from fmn.steps.merge import merge_recipe

    said = read_recipe(recipe)
    if parent:
        said = said.model_copy(update={"parent": Parent(model=parent)})
    with context_for(device) as context:
        merge_recipe(said, out, context, opened_store(store, context))
    tasks = sorted(entry.name for entry in said.models)
    click.echo(
        f"{out}: {len(tasks)} models merged by {said.method}; load "
        f"{', '.join(str(out / task) for task in tasks)}"
    )


@main.command()
@click.argument("model")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="May be repeated; a merge is measured on all of its tasks without it.",
)
@data_option
@click.option("--split", default="validation", show_default=True)
@click.option("--limit", type=click.IntRange(1), help="Only the first rows of the split.")
@click.option(
    "--max-length",
    type=click.IntRange(4),
    default=128,
    show_default=True,
    help="Tokens per example.",
)
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
    from fmn.console import tables
    from fmn.params import EvaluateSettings
    from fmn.steps.evaluate import evaluate_path

    if labels_map and len(tasks) != 1:
        raise ParamsError("--labels-map is about one task; give one --task with it")
    with context_for(device) as context:
        scores = evaluate_path(
            model,
            tasks,
            data,
            EvaluateSettings(**settings),
            context,
            revision=revision,
            labels=label_map(labels_map),
        )
    if as_json:
        click.echo(
            json.dumps(
                {
                    s.label: {**s.metrics, "examples": s.examples, "seconds": round(s.seconds, 3)}
                    for s in scores
                },
                indent=2,
            )
        )
    else:
        tables.print_scores(scores)


@main.command()
@click.argument("directory", type=PATH, default=Path("demo"))
@click.option("--seed", type=int, default=0, show_default=True)
def demo(directory: Path, seed: int) -> None:
    """Make a small zoo to play with in DIRECTORY [demo].

    It is a tiny BERT, pretrained, and fine-tuned on four tasks.
    """
    from fmn.console.progress import progress_bars
    from fmn.demo import build_zoo

    with progress_bars() as bars:
        build_zoo(directory, seed=seed, progress=bars)
    click.echo(f"{directory}: a parent, its fine-tunes and their data")
