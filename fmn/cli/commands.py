"""Commands about one merge, and the demo's zoo.

Whatever is slow to import is imported where it is used: --help answers at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fmn.cli import main
from fmn.cli.options import (
    context_for,
    data_option,
    device_option,
    label_map,
    labels_option,
    opened_store,
    revision_option,
    store_option,
)
from fmn.cli.settings import SettingsCommand
from fmn.console.command import PATH
from fmn.console.output import echo
from fmn.errors import ParamsError


class _Merge(click.Command):
    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the methods that there are, those of other packages too."""
        from fmn.merging import get_rule, rule_names

        with formatter.section("Methods"):
            formatter.write_dl([(name, get_rule(name).help) for name in rule_names()])


@main.command(cls=_Merge)
@click.argument("recipe", type=PATH)
@device_option
@store_option
@click.option("--parent", help="Of the models, a directory or hub id, in place of the recipe's.")
@click.option("--out", type=PATH, required=True, help="A new directory.")
def merge(recipe: Path, device: str, store: str | None, parent: str | None, out: Path) -> None:
    """Merge the models of RECIPE (YAML) into one directory.

    The directory gets a shared backbone, and a loadable model per task. The recipe's method is one
    of those below; its parameters go under 'parameters:'. Where the parent is at hand, 'tsv-m' with
    'heads: refit' keeps most of every model; 'mask-fisher' needs no parent.
    """
    from fmn.recipe import Parent, read_recipe
    from fmn.schema import parse
    from fmn.steps.recipe import merge_recipe

    content = read_recipe(recipe)
    if parent:
        content = content.model_copy(
            update={"parent": parse(Parent, {"model": parent}, "--parent")}
        )
    with context_for(device) as context:
        merge_recipe(content, out, context, opened_store(store, context))
    names = sorted(entry.name for entry in content.models)
    echo(
        f"{out}: {len(names)} models merged by {content.method}; load "
        f"{', '.join(str(out / name) for name in names)}"
    )


@main.command(cls=SettingsCommand, settings="fmn.params:EvaluateSettings", without=["select"])
@click.argument("model")
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="May be repeated; a merge is measured on all of its tasks without it.",
)
@data_option
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
    from fmn.steps.measure import evaluate_path

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
        echo(json.dumps({each.label: each.as_json() for each in scores}, indent=2))
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
    echo(f"{directory}: a parent, its fine-tunes and their data")
