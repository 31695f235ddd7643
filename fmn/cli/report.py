"""The command that writes the report page."""

from __future__ import annotations

from pathlib import Path

import click

from fmn.cli import main
from fmn.cli.options import PATH, opened, store_options
from fmn.console.output import echo
from fmn.extras import require


@main.command()
@store_options
@click.option(
    "--out",
    type=PATH,
    default=Path("report"),
    show_default=True,
    help="A directory; its index.html is replaced.",
)
@click.option(
    "--pictures", is_flag=True, help="Also write the page's charts into it, as SVG files."
)
def report(url: str | None, params: Path, out: Path, pictures: bool) -> None:
    """Write one page about all merges of a store.

    The page opens from disk, without a network, and from any web server.
    """
    from fmn import report as pages
    from fmn.catalog import Catalog
    from fmn.checkpoint import new_file
    from fmn.params import read_params

    require("report", "fmn report")
    parent = read_params(params).parent if params.is_file() else None
    data = pages.read_report(Catalog(opened(url, params)), parent.model if parent else None)
    page = out / "index.html"
    with new_file(page, replace=True) as staging:
        staging.write_text(pages.render(data), encoding="utf-8")
    echo(f"{page}: {len(data.merges):,} merges of {len(data.models)} models")
    if pictures:
        pages.pictures(data, out)
        echo(f"{out}: the charts of the page as SVG files")
