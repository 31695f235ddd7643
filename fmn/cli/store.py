"""Commands about a store: what is in it, whether it is whole, what nobody needs."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path

import click

from fmn.cli import main
from fmn.cli.options import PATH, opened, params_option, store_url
from fmn.console.output import echo, echo_json

url_argument = click.argument("url", required=False, envvar="FMN_STORE")


@main.group()
def store() -> None:
    """Look after a store: a directory or s3://bucket/prefix.

    The store is the one that URL, FMN_STORE or the params file names.
    """


@store.command()
@url_argument
@params_option
@click.option("--kind", help="Only records of this kind: fisher, merge, evaluate or publish.")
@click.option("--json", "as_json", is_flag=True, help="Print the whole records, one a line.")
def ls(url: str | None, params: Path, kind: str | None, as_json: bool) -> None:
    """List the records of a store."""
    from fmn.steps.describe import in_short

    records = [
        record
        for record in opened(url, params).all().values()
        if record and kind in (None, record.kind)
    ]
    for record in sorted(records, key=lambda record: (record.kind, record.made.at, record.key)):
        if as_json:
            echo_json(record.model_dump(), indent=None)
        else:
            size = sum(output.size for output in record.outputs.values())
            echo(
                f"{record.kind:9} {record.key[:12]}  {record.made.at[:19]}  {size / 1e3:9,.0f} kB  "
                f"{in_short(record)}"
            )
    if not as_json:
        counts = Counter(record.kind for record in records)
        echo(
            ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
            or "nothing is stored yet"
        )


@store.command()
@url_argument
@params_option
@click.option("--quick", is_flag=True, help="Only look for objects and their sizes; read none.")
def verify(url: str | None, params: Path, quick: bool) -> None:
    """Check that every record's objects exist and have their digests.

    A corrupt object is removed, for nobody can use it, and the next run computes it again. Exit
    with 1 if something is not whole.
    """
    from fmn.console.progress import progress_bars
    from fmn.steps.describe import how_to_derive
    from fmn.store import verify as check

    store = opened(url, params)
    with progress_bars() as bars:
        bar = bars.add_task("verifying", total=None)
        damages = check(
            store,
            read=not quick,
            progress=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    for damage in damages:
        echo(f"{damage.path}: {damage.what}; {how_to_derive(damage.record)}")
    if damages:
        echo(f"{len(damages)} of the records of {store.url} are not whole", err=True)
        sys.exit(1)
    echo(f"{store.url}: every record is whole")


@store.command()
@url_argument
@params_option
@click.option("--dry-run", is_flag=True, help="Only say what would be dropped.")
@click.option(
    "--grace",
    type=float,
    default=24.0,
    show_default=True,
    help="Hours for which an object may wait for its record.",
)
@click.option(
    "--repository",
    "repositories",
    type=PATH,
    multiple=True,
    help=(
        "Keep what DVC revisions of this Git repository name; may be repeated. Without it: the "
        "current directory, if it is one."
    ),
)
def gc(
    url: str | None, params: Path, dry_run: bool, grace: float, repositories: tuple[Path, ...]
) -> None:
    """Drop objects that no record or DVC revision needs, and what 'fmn catalog rm' removed.

    Temporary files of processes that were killed on this machine are removed, too.
    """
    from fmn.store import collect, sweep
    from fmn.store import garbage as find_garbage

    store = opened(url, params)
    named = list(repositories) or [path for path in [Path()] if Path(".git").exists()]
    garbage = find_garbage(store, named, grace * 3600)
    size = sum(garbage.objects.values())
    for path in garbage.records if dry_run else ():
        echo(path.path())
    for oid in sorted(garbage.objects) if dry_run else ():
        echo(f"{oid} {garbage.objects[oid]}")
    if not dry_run:
        collect(store, garbage)
    swept = 0 if dry_run else sweep(store)
    verb = "would be dropped" if dry_run else "dropped"
    echo(
        f"{len(garbage.objects)} objects ({size / 1e6:,.1f} MB) {verb}, {garbage.kept} kept "
        f"({garbage.named_by_dvc} for a DVC revision "
        f"alone, {garbage.young} because they are younger than {grace:g} hours)"
        + (f"; {len(garbage.records)} removed records {verb}" if garbage.records else "")
        + (
            f"; {len(garbage.unfinished)} unfinished files of killed writers {verb}"
            if garbage.unfinished
            else ""
        )
        + (f"; {swept / 1e6:,.1f} MB of killed processes removed here" if swept else "")
    )


@store.command()
@url_argument
@params_option
@click.option("--name", default="fmn", show_default=True, help="Of the remote.")
@click.option(
    "--write",
    is_flag=True,
    help="Write it into .dvc/config instead of printing it, and make it the default.",
)
def dvc_remote(url: str | None, params: Path, name: str, write: bool) -> None:
    """Print (or write) the configuration that makes the store a DVC remote."""
    from fmn.steps.describe import dvc_remote_settings, write_dvc_remote

    settings = dvc_remote_settings(store_url(url, params), name)
    if write:
        echo(
            f"{write_dvc_remote(Path(), settings)}: '{name}' is the default remote, "
            f"{settings[f'remote.{name}.url']}"
        )
        return
    echo("\n".join(shlex.join(["dvc", "config", key, value]) for key, value in settings.items()))
