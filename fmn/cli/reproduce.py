"""The command that runs the paper's protocol on a zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fmn.cli import main
from fmn.cli.options import PATH, context_for, device_option
from fmn.console.output import echo
from fmn.console.stop import keeps
from fmn.errors import OutputError, ParamsError
from fmn.extras import require

PICTURES = ("reproduction.svg", "reproduction.png")


@main.command()
@click.option(
    "--params", type=PATH, default=Path("params.yaml"), show_default=True, help="Describes the zoo."
)
@click.option(
    "--methods", help="Comma-separated.  [default: average,mask-fisher,published-code,fisher]"
)
@click.option(
    "--samples",
    help="Training examples of the Fishers, comma-separated, or all.  [default: 128,2048,32768]",
)
@click.option(
    "--sizes", help="Models to merge at a time, comma-separated, or all, or none.  [default: all]"
)
@click.option("--stored", is_flag=True, help="Compute nothing: tables of what the store has.")
@device_option
@click.option(
    "--out",
    type=PATH,
    default=Path("reproduction"),
    show_default=True,
    help="A directory; its tables are replaced.",
)
def reproduce(
    params: Path,
    methods: str | None,
    samples: str | None,
    sizes: str | None,
    stored: bool,
    device: str,
    out: Path,
) -> None:
    """Run the protocol of the paper on a zoo; write tables (Markdown, CSV, LaTeX) and a picture.

    All pairs by averaging, by the mask Fisher as the paper and as its published code have it, and
    by the full Fisher, over 128, 2,048 and 32,768 training examples, or all there are; sets of more
    than two models with the Fishers of the fewest examples. The figures of the paper's three tables
    stand beside those that come out. What is in the store is not computed again, so an interrupted
    run goes on where it was.
    """
    from fmn.params import read_params
    from fmn.steps import reproduce as steps
    from fmn.store import open_store

    require("report", "fmn reproduce")
    protocol = steps.Protocol(
        tuple(map(str.strip, methods.split(","))) if methods is not None else steps.METHODS,
        _numbers("samples", samples, {"all": steps.EVERY}) or steps.SAMPLES,
        () if sizes == "none" else None if sizes == "all" else _numbers("sizes", sizes, {}),
    )
    description = read_params(params)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is not a directory; choose another output")
    with context_for(device, description.runner.memory) as context:
        store = open_store(description.store, warn=context.report.warn)
        keeps(store.url)
        opened = steps.open_reproduction(description, protocol, context.memo)
        planned = steps.plan(opened, store)
        echo(planned.in_words(), err=True)
        tally = (
            None
            if stored
            else steps.run(opened, planned, store, context, lambda line: echo(line, err=True))
        )
        results = steps.read_results(opened, store)
    if not results.outcomes:
        advice = (
            "run it without --stored"
            if stored
            else "these methods need no Fishers, and nothing is to be merged"
        )
        raise ParamsError(f"{description.store} has nothing of this yet; {advice}")
    _write(steps.documents(results), steps.picture(results), out)
    if tally:
        echo(tally.in_words())


def _numbers(option: str, text: str | None, words: dict[str, int]) -> Any:
    """Read comma-separated numbers, or words for them."""
    if text is None:
        return None
    try:
        return tuple(
            words[part] if part in words else int(part) for part in map(str.strip, text.split(","))
        )
    except ValueError as error:
        raise ParamsError(
            f"--{option} {text}: expected numbers with commas between them, such as 2,3"
        ) from error


def _write(tables: Any, picture: Any, out: Path) -> None:
    """Write every form of the tables that have rows, over older ones, and print those for eyes."""
    from fmn.checkpoint import new_file
    from fmn.console.tables import print_table
    from fmn.report import documents
    from fmn.report.files import save

    filled = [table for table in tables if table.rows]
    texts = {"tables.md": documents.markdown(filled), "tables.tex": documents.latex(filled)}
    texts |= {f"{table.name}.csv": documents.comma_separated(table) for table in filled}
    for name, text in texts.items():
        with new_file(out / name, replace=True) as staging:
            staging.write_text(text, encoding="utf-8")
    if picture:
        for name in PICTURES:
            save(picture, out / name, replace=True)
    written = [*texts, *(PICTURES if picture else ())]
    for name in {*PICTURES, *(f"{table.name}.csv" for table in tables)} - {*written}:
        (out / name).unlink(missing_ok=True)  # of a run before: it would pass for one of this
    for table in filled:
        if not table.is_long:
            print_table(table)
    echo(f"{out}: {', '.join(written)}")
