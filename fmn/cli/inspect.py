"""The command that draws one Fisher or one merge."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fmn.cli import main
from fmn.cli.options import PATH, opened, store_options
from fmn.console.output import echo
from fmn.errors import FisherError, ParamsError
from fmn.extras import require

NARROWEST, WIDEST = 72, 100
"""Columns of a picture in the terminal."""


@main.command("inspect")
@click.argument("source", metavar="FILE_OR_ID")
@click.option("--plot", type=PATH, help="Draw it into a new .png, .svg or .pdf file.")
@click.option(
    "--text", is_flag=True, help="Print a small picture of it; that is done without --plot, too."
)
@store_options
def inspect(source: str, plot: Path | None, text: bool, url: str | None, params: Path) -> None:
    """Draw one Fisher, or who wins which mask node of one merge.

    FILE_OR_ID is a file that 'fmn fisher' wrote, a directory that 'fmn merge' wrote, or the ID of a
    merge or a Fisher in a store.
    """
    from fmn.checkpoint import check_new
    from fmn.report.files import check_format, save

    if plot:
        require("report", "fmn inspect --plot")
        check_format(plot)
        check_new(plot)
    picture = resolved(source, lambda: opened(url, params))
    if plot:
        save(picture.spec(), plot)
    if text or not plot:
        columns = shutil.get_terminal_size((80, 24)).columns
        echo(picture.text(min(max(columns, NARROWEST), WIDEST)))
    if plot:
        echo(f"{plot}: {picture.title}")


def resolved(source: str, store: Callable[[], Any]) -> Any:
    """Return the picture of a Fisher's file, of a merge's directory, or of an ID.

    Args:
        source: the file, the directory or the ID.
        store: opens the store that IDs are looked up in.

    Returns:
        a :class:`fmn.report.inspect.FisherPicture` or :class:`fmn.report.inspect.SharesPicture`.
    """
    from fmn.catalog import Catalog
    from fmn.report.fishers import NAMES, read_fisher
    from fmn.report.inspect import FisherPicture, SharesPicture
    from fmn.report.shares import entry_shares, merge_shares, recorded_fisher
    from fmn.statistics import title_of

    path = Path(source)
    if path.is_dir():
        names, shares = merge_shares(path)
        return SharesPicture(f"{source}: {' + '.join(names)}", names, shares)
    if path.is_file():
        arrays, metadata = read_fisher(path)
        return FisherPicture(f"{NAMES[metadata['kind']]} of {source}", arrays, metadata)
    if path.suffix or len(path.parts) > 1:
        raise ParamsError(
            f"there is no {source}; expected a file that 'fmn fisher' wrote, a directory of 'fmn "
            "merge', or an ID"
        )
    catalog = Catalog(store())
    if record := catalog.fisher(source):
        if record.inputs["of"] not in NAMES:
            raise FisherError(
                f"{source} is of {title_of(record.inputs['of'])}, of which there is no picture; "
                f"expected a {' or a '.join(NAMES.values())}"
            )
        title = (
            f"{NAMES[record.inputs['of']]} of {record.names['name']}, {record.names['task']} "
            f"({record.key[:12]})"
        )
        return FisherPicture(title, *recorded_fisher(catalog.store, record))
    entry = catalog[source]
    names, shares = entry_shares(catalog, entry)
    return SharesPicture(f"{entry.title} ({catalog.short(entry)})", names, shares)
