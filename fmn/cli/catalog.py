"""Commands about the merge catalog: find, compare, take, trust."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fmn.cli import main
from fmn.cli.options import PATH, context_for, device_option, opened, store_options
from fmn.console.output import echo, echo_json
from fmn.errors import CatalogError, ParamsError

F = TypeVar("F", bound=Callable[..., Any])

model_option = click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME=DIR",
    help="Where a model is now, if it is not where it was; may be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def names(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Split names that commas separate."""
    return tuple(name.strip() for name in (value or "").split(",") if name.strip())


@main.group("catalog")
def group() -> None:
    """Find, compare, take and trust the merges of a store.

    ID: the first digits of a merge's ID (four at least), or a tag.
    """


@group.command()
@store_options
@click.option(
    "--tasks",
    callback=names,
    help="Merges that have all of these, with commas between; their scores count.",
)
@click.option(
    "--models",
    callback=names,
    help="That were made of all of these: names, paths, hub ids, digests of weights.",
)
@click.option("--method", "methods", callback=names, help="By one of these methods.")
@click.option(
    "--size",
    "sizes",
    type=click.IntRange(1),
    multiple=True,
    help="Of so many models; may be repeated.",
)
@click.option("--by", default="", help="Made by a user or on a machine whose name has this in it.")
@click.option(
    "--since", default="", help="Made since a date (2026-11-01) or for an age (12h, 7d, 2w)."
)
@click.option("--tag", "tags", callback=names, help="With one of these tags.")
@click.option(
    "--sort",
    default="mean",
    show_default=True,
    help="mean or worst (normalised score), at, size, or a task.",
)
@click.option("--limit", type=click.IntRange(1), help="So many at most.")
@click.option(
    "--columns",
    callback=names,
    help="Which, in which order; 'fmn catalog ls --columns help' lists them.",
)
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def ls(
    url: str | None,
    params: Path,
    sort: str,
    limit: int | None,
    columns: tuple[str, ...],
    as_json: bool,
    as_csv: bool,
    **filters: Any,
) -> None:
    """List merges, the best first."""
    from fmn.catalog import Query
    from fmn.cli import listing

    if as_json and as_csv:
        raise ParamsError("--json or --csv, not both")
    catalog = _opened(url, params)
    entries = catalog.find(Query(**filters), by=sort, limit=limit)
    if as_json:
        echo_json([entry.as_json() for entry in entries])
        return
    table = listing.listed(catalog, entries, columns)
    if as_csv:
        echo(listing.as_csv(table), nl=False)
    else:
        listing.print_listing(table, catalog, entries)


@group.command()
@click.argument("merge", metavar="ID")
@store_options
@json_option
def show(merge: str, url: str | None, params: Path, as_json: bool) -> None:
    """Show a merge: recipe, scores beside the models' own, lineage, who, when, with what."""
    from fmn.catalog import pairs
    from fmn.cli import listing

    catalog = _opened(url, params)
    entry = catalog[merge]
    if as_json:
        statistics = {
            name: {statistic: record.model_dump() for statistic, record in each.items()}
            for name, each in catalog.statistics(entry).items()
        }
        first = {name: next(iter(each.values())) for name, each in statistics.items()}
        lineage = {"fishers": first, "statistics": statistics}
        echo_json(entry.as_json() | pairs.as_json(catalog.store, entry) | lineage)
    else:
        listing.print_entry(catalog, entry)


@group.command()
@click.argument("merges", metavar="ID ID…", nargs=-1, required=True)
@store_options
@json_option
def compare(merges: tuple[str, ...], url: str | None, params: Path, as_json: bool) -> None:
    """Show what differs between merges: in the recipe, and in the scores.

    By how much scores differ from those of the first is said with the interval of that, on the same
    examples.
    """
    from fmn.catalog import against, differences, read_paired
    from fmn.cli import scores

    if len(merges) < 2:
        raise ParamsError(f"only {merges[0]}; name two merges or more")
    catalog = _opened(url, params)
    entries = [catalog[merge] for merge in merges]
    first, *others = [(entry, read_paired(catalog.store, entry)) for entry in entries]
    apart = {other[0].id: against(first, other) for other in others}
    if as_json:
        comparison = {
            "differences": differences(entries),
            "merges": {entry.id: entry.as_json() for entry in entries},
            "from_first": {
                key: {name: difference.as_json() for name, difference in each.items()}
                for key, each in apart.items()
            },
        }
        echo_json(comparison)
    else:
        scores.print_comparison(catalog, entries, apart)


@group.command()
@store_options
@click.option(
    "--tasks",
    callback=names,
    required=True,
    help="With commas between; the merge may have others, too.",
)
@click.option("--method", "methods", callback=names, help="By one of these methods.")
@click.option(
    "--by",
    type=click.Choice(["mean", "worst"]),
    default="mean",
    show_default=True,
    help="Normalised score.",
)
@click.option("--id", "only_id", is_flag=True, help="Print only the ID.")
@json_option
def best(
    url: str | None,
    params: Path,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    by: str,
    only_id: bool,
    as_json: bool,
) -> None:
    """Show the merge that is best on some tasks."""
    from fmn.cli import listing

    catalog = _opened(url, params)
    entry = catalog.best(tasks, by=by, methods=methods)
    if only_id:
        echo(entry.id)
    elif as_json:
        echo_json(entry.as_json())
    else:
        listing.print_entry(catalog, entry)


@group.command()
@click.argument("merge", metavar="ID")
@click.argument("out", metavar="DIR", type=PATH)
@store_options
@model_option
@click.option("--data", help="Where the training data are now, if layers were fitted to them.")
def get(
    merge: str,
    out: Path,
    url: str | None,
    params: Path,
    models: tuple[str, ...],
    data: str | None,
) -> None:
    """Write a merge into DIR, a new directory: models that load, and a model card."""
    from fmn.steps.rederive import get_merge

    catalog = _opened(url, params)
    with context_for("cpu") as context:
        entry = get_merge(catalog, merge, out, context, places(models), data)
    echo(
        f"{out}: {entry.title} ({catalog.short(entry)}); load "
        f"{', '.join(str(out / name) for name in entry.parts)}"
    )


@group.command()
@click.argument("name")
@click.argument("merge", metavar="ID")
@store_options
def tag(name: str, merge: str, url: str | None, params: Path) -> None:
    """Give the tag NAME to a merge; it moves there, if another has it."""
    catalog = _opened(url, params)
    entry = catalog[merge]
    before = catalog.tag(name, entry)
    was = (
        f" (until now {before.id[:12]}'s, by {before.by} at {before.at})"
        if before and before.id
        else ""
    )
    echo(f"{name}: {catalog.short(entry)}, {entry.title}{was}")


@group.command()
@click.argument("name")
@store_options
def untag(name: str, url: str | None, params: Path) -> None:
    """Take the tag NAME away."""
    before = _opened(url, params).untag(name)
    echo(f"{name}: taken from {before.id[:12] if before and before.id else 'nothing'}")


@group.command()
@click.argument("merge", metavar="ID")
@store_options
@model_option
@click.option("--metrics", is_flag=True, help="Measure it again, too.")
@click.option(
    "--mend",
    is_flag=True,
    help="Replace a record that says other weights than come out, and remove what was made of it.",
)
@click.option("--data", help="Where the data are now, if they are not where they were.")
@device_option
def verify(
    merge: str,
    url: str | None,
    params: Path,
    models: tuple[str, ...],
    metrics: bool,
    mend: bool,
    data: str | None,
    device: str,
) -> None:
    """Derive a merge again and compare its weights (with --metrics: its scores) with the record.

    Exit with 1 if they differ.
    """
    from fmn.steps.rederive import verify_merge, verify_scores

    catalog = _opened(url, params)
    entry = catalog[merge]
    with context_for(device) as context:
        derived = verify_merge(catalog, entry, context, places(models), mend=mend, data=data)
        is_same = derived == entry.record.value["backbone"]
        echo(
            f"{catalog.short(entry)}: {'the same' if is_same else 'mended, its'} weights, "
            f"{derived[:12]}"
        )
        entry = catalog[entry.id]
        changes = verify_scores(catalog, entry, context, places(models), data) if metrics else []
    for change in changes:
        difference = f"{100 * change.recorded:.2f} in the record, {100 * change.current:.2f} now"
        echo(f"{change.name}: {change.metric} is {difference}")
    if changes:
        raise CatalogError(
            f"{len(changes)} scores of {catalog.short(entry)} differ; on another device or version "
            "the last bits may"
        )
    if metrics:
        echo(f"{catalog.short(entry)}: the same scores, of {', '.join(entry.scores)}")


@group.command()
@click.argument("merge", metavar="ID")
@store_options
@click.option("--reason", default="", help="For those who wonder.")
@click.option("--undo", is_flag=True, help="Show it again, if 'fmn store gc' has not taken it yet.")
def rm(merge: str, url: str | None, params: Path, reason: str, undo: bool) -> None:
    """Remove a merge from the catalog; 'fmn store gc' takes its records a day later."""
    catalog = _opened(url, params)
    if undo:
        entry = catalog.restore(merge)
        echo(f"{catalog.short(entry)}: {entry.title} is in the catalog again")
        return
    entry = catalog[merge]
    catalog.remove(entry, reason)
    echo(
        f"{entry.id[:12]}: {entry.title} is removed; 'fmn catalog rm --undo {entry.id[:12]}' shows "
        "it again"
    )


@group.command()
@click.argument("merge", metavar="ID")
@click.argument("address", metavar="hf://ORG/NAME")
@store_options
@model_option
@click.option("--private", is_flag=True, help="If the repository is made now.")
@click.option("--dry-run", is_flag=True, help="Only list what would be sent.")
def push(
    merge: str,
    address: str,
    url: str | None,
    params: Path,
    models: tuple[str, ...],
    private: bool,
    dry_run: bool,
) -> None:
    """Send a merge to a repository of the Hugging Face hub, with a model card."""
    from fmn.checkpoint import HubRepo, check_token, files_to_send, send
    from fmn.scratch import scratch
    from fmn.steps.rederive import get_merge

    repo, catalog = HubRepo.parse(address), _opened(url, params)
    if not dry_run:
        check_token()  # before the merge is derived
    with scratch() as folder, context_for("cpu") as context:
        entry = get_merge(catalog, merge, folder / "merge", context, places(models))
        if not dry_run:
            echo(
                send(
                    folder / "merge",
                    repo,
                    message=f"{entry.title} ({entry.id[:12]})",
                    private=private,
                )
            )
            return
        files = files_to_send(folder / "merge")
    for path, size in files.items():
        echo(f"{size:>13,} {path}")
    echo(f"{len(files)} files, {sum(files.values()) / 1e6:,.1f} MB, would be sent to {repo}")


def places(options: tuple[str, ...]) -> dict[str, str]:
    """Read NAME=DIR options."""
    split = [option.partition("=") for option in options]
    if bad := [name for name, separator, place in split if not (name and separator and place)]:
        raise ParamsError(f"--model {bad[0]}: expected NAME=DIR, such as --model sst2=models/sst2")
    return {name: place for name, _, place in split}


def _opened(url: str | None, params: Path) -> Any:
    from fmn.catalog import Catalog

    # to look for garbage among the parts of all records takes longer than the rest of a short
    # command
    if gc.isenabled():
        gc.disable()
        click.get_current_context().call_on_close(gc.enable)
    return Catalog(opened(url, params))
