"""The command that runs a protocol on a zoo: the paper's, or that of quality."""

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


@main.command()
@click.option(
    "--params", type=PATH, default=Path("params.yaml"), show_default=True, help="Describes the zoo."
)
@click.option(
    "--protocol",
    type=click.Choice(["paper", "quality"]),
    default="paper",
    show_default=True,
    help="The paper's, or every method with own and refitted heads.",
)
@click.option(
    "--methods",
    help="Comma-separated.  [default: average,mask-fisher,published-code,fisher; or all methods]",
)
@click.option(
    "--samples",
    help="Training examples, comma-separated; of the paper's also all.  [default: 128,2048,32768; "
    "or 128,32,512,2048]",
)
@click.option(
    "--sizes", help="Models to merge at a time, comma-separated, or all, or none.  [default: all]"
)
@click.option("--stored", is_flag=True, help="Compute nothing: tables of what the store has.")
@device_option
@click.option(
    "--out",
    type=PATH,
    help="A directory; its tables are replaced.  [default: reproduction, or quality]",
)
def reproduce(
    params: Path,
    protocol: str,
    methods: str | None,
    samples: str | None,
    sizes: str | None,
    stored: bool,
    device: str,
    out: Path | None,
) -> None:
    """Run a protocol on a zoo; write tables (Markdown, CSV, LaTeX) and a picture.

    The paper's: all pairs by averaging, by the mask Fisher as the paper and as its published code
    have it, and by the full Fisher, over 128, 2,048 and 32,768 training examples, or all there are;
    sets of more than two models with the Fishers of the fewest examples. The figures of the paper's
    three tables stand beside those that come out.

    quality: all pairs and all models by every method with own and with refitted heads; the sets
    between by averaging, the mask Fisher, RegMean and TSV-M; over 128 examples, all models over 32,
    512 and 2,048, too.

    What is in the store is not computed again, so an interrupted run goes on where it was.
    """
    from fmn.params import read_params
    from fmn.steps.reproduce import EVERY
    from fmn.store import open_store

    require("report", "fmn reproduce")
    chosen = None if methods is None else tuple(map(str.strip, methods.split(",")))
    over = _numbers("samples", samples, {"all": EVERY} if protocol == "paper" else {})
    at_a_time = () if sizes == "none" else None if sizes == "all" else _numbers("sizes", sizes, {})
    description = read_params(params)
    out = out or Path("quality" if protocol == "quality" else "reproduction")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is not a directory; choose another output")
    do = _quality if protocol == "quality" else _paper
    with context_for(device, description.runner.memory) as context:
        store = open_store(description.store, warn=context.report.warn)
        keeps(store.url)
        tables, picture, tally = do(description, chosen, over, at_a_time, store, context, stored)
    if not any(table.rows for table in tables):
        advice = (
            "run it without --stored"
            if stored
            else "these methods need no Fishers, and nothing is to be merged"
        )
        raise ParamsError(f"{description.store} has nothing of this yet; {advice}")
    _write(tables, picture, out, "quality" if protocol == "quality" else "reproduction")
    if tally:
        echo(tally.in_words())


Done = tuple[Any, Any, Any]
"""Tables, a picture, and a tally; None where nothing was drawn or computed."""


def _paper(
    params: Any, methods: Any, samples: Any, sizes: Any, store: Any, context: Any, stored: bool
) -> Done:
    from fmn.steps import reproduce as steps

    protocol = steps.Protocol(methods or steps.METHODS, samples or steps.SAMPLES, sizes)
    opened = steps.open_reproduction(params, protocol, context.memo)
    planned = steps.plan(opened, store)
    echo(planned.in_words(), err=True)
    tally = None if stored else steps.run(opened, planned, store, context, _tell)
    results = steps.read_results(opened, store)
    return steps.documents(results) if results.outcomes else (), steps.picture(results), tally


def _quality(
    params: Any, methods: Any, samples: Any, sizes: Any, store: Any, context: Any, stored: bool
) -> Done:
    from fmn.params import Method
    from fmn.steps.reproduce import quality, quality_tables

    protocol = quality.QualityProtocol(
        methods and tuple(Method(method=name) for name in methods),
        samples or quality.SAMPLES,
        sizes,
    )
    slices = quality.open_quality(params, protocol, context.memo)
    lacking, count = quality.missing(slices, store)
    _tell(f"in the store: {count - lacking:,} of {count:,} merges are measured")
    tally = None if stored else quality.run_quality(slices, store, context, _tell)
    kept, models = quality.read_quality(slices, store), len(params.models)
    return quality_tables.documents(kept, models), quality_tables.picture(kept, models), tally


def _tell(line: str) -> None:
    echo(line, err=True)


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


def _write(tables: Any, picture: Any, out: Path, name: str) -> None:
    """Write every form of the tables that have rows, over older ones, and print those for eyes."""
    from fmn.checkpoint import new_file
    from fmn.console.tables import print_table
    from fmn.report import documents
    from fmn.report.files import save

    filled = [table for table in tables if table.rows]
    texts = {"tables.md": documents.markdown(filled), "tables.tex": documents.latex(filled)}
    texts |= {f"{table.name}.csv": documents.comma_separated(table) for table in filled}
    for file, text in texts.items():
        with new_file(out / file, replace=True) as staging:
            staging.write_text(text, encoding="utf-8")
    pictures = [f"{name}.{kind}" for kind in ("svg", "png")]
    if picture:
        for file in pictures:
            save(picture, out / file, replace=True)
    written = [*texts, *(pictures if picture else ())]
    for file in {*pictures, *(f"{table.name}.csv" for table in tables)} - {*written}:
        (out / file).unlink(missing_ok=True)  # of a run before: it would pass for one of this
    for table in filled:
        if not table.is_long:
            print_table(table)
    echo(f"{out}: {', '.join(written)}")
