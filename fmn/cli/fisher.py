"""Commands about the statistics of one model.

Whatever is slow to import is imported where it is used: --help answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fmn.cli import main
from fmn.cli.options import (
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
from fmn.cli.settings import SettingsCommand
from fmn.console.command import PATH, DefaultGroup
from fmn.console.output import echo
from fmn.errors import ParamsError


@main.group(cls=DefaultGroup, default="compute")
def fisher() -> None:
    """Compute a model's Fisher information or another statistic, or publish it.

    'fmn fisher MODEL …' is short for 'fmn fisher compute MODEL …'.
    """


class _Compute(SettingsCommand):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the statistics that there are, those of other packages too."""
        from fmn.statistics import statistics

        with formatter.section("Kinds"):
            formatter.write_dl([(statistic.option, statistic.title) for statistic in statistics()])


@fisher.command(cls=_Compute, settings="fmn.recipe:FisherSettings")
@click.argument("model")
@click.option(
    "--task", required=True, help="A GLUE task, a registered one, or a task file (.yaml)."
)
@data_option
@kind_option
@click.option("--no-shuffle", is_flag=True, help="Take the first examples in file order: no seed.")
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
    kind: str,
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
    """Compute a statistic of MODEL (a directory or hub id) on a task's training data."""
    from fmn.checkpoint import check_new, open_checkpoint
    from fmn.evaluation import get_task
    from fmn.recipe import FisherSettings
    from fmn.statistics import get_statistic
    from fmn.steps.statistic import StatisticStep

    check_new(out)
    statistic = get_statistic(kind)
    if no_shuffle:
        if settings["replacement"]:
            raise ParamsError(
                "--replacement draws examples by a seed, --no-shuffle takes the first ones; leave "
                "one out"
            )
        settings["seed"] = None
    chosen = FisherSettings(**settings)
    if vain := statistic.in_vain(chosen, checkpointing=checkpointing):
        option = vain[0].replace("_", "-")
        raise ParamsError(f"--{option} means nothing to --kind {statistic.option}; leave it out")
    checkpoint, of_task = open_checkpoint(model, revision), get_task(task)
    with context_for(device, memory(checkpointing, device_map)) as context:
        step = StatisticStep(
            checkpoint, of_task, data, statistic, chosen, context.memo, label_map(labels_map)
        )
        examples, was_there = step.save(out, context, opened_store(store, context))
    where = "from the store" if was_there else f"over {examples} {task} examples"
    size = out.stat().st_size / 1e3
    echo(f"{out}: {statistic.title} of {model} {where} ({size:,.0f} kB)")


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
    kind: str,
    samples: int | None,
    key: str,
    revision: str | None,
    url: str | None,
    params: Path,
    dry_run: bool,
) -> None:
    """Publish the Fisher that a store has of MODEL: in its directory, or in TO (hf://ORG/NAME).

    Whoever merges the model then needs neither its data nor the store; a recipe finds the Fisher
    there by itself.
    """
    from fmn.statistics import get_statistic
    from fmn.steps.sidecar import publish

    chosen: dict[str, Any] = {"task": task, "samples": samples, "key": key}
    with context_for("cpu") as context:
        line = publish(
            model,
            to,
            opened(url, params),
            context.memo,
            statistic=get_statistic(kind),
            revision=revision,
            dry_run=dry_run,
            **chosen,
        )
    echo(line)


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
    kind: str,
    revision: str | None,
    url: str | None,
    params: Path,
    out: Path | None,
) -> None:
    """Take the Fisher beside MODEL (a directory or hub id) into a store, if it is the model's."""
    from fmn.checkpoint import check_new, new_file, open_checkpoint, write
    from fmn.statistics import get_statistic
    from fmn.steps.sidecar import pull as published

    if out:
        check_new(out)
    with context_for("cpu") as context:
        statistic = get_statistic(kind)
        checkpoint = open_checkpoint(model, revision)
        sidecars = published(checkpoint, context.memo, statistic=statistic, task=task)
        if out:
            if len(sidecars) > 1:
                raise ParamsError(
                    f"{len(sidecars)} of {model} are beside it ({statistic.title}); choose one "
                    "with --task"
                )
            measurement = sidecars[0].measurement()
            with new_file(out) as staging:
                write(staging, measurement.tensors, dict(measurement.metadata))
            echo(f"{out}: the {sidecars[0].title}")
            return
        store = opened(url, params)
        store.check_writable()
        for step in sidecars:
            was_there = step.run(store, context).cached
            echo(
                f"{store.url}: the {step.title} {'was there' if was_there else 'is there now'} "
                f"({step.key[:12]})"
            )
