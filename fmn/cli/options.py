"""Options that several commands have, and what they mean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fmn.console.command import PATH as PATH
from fmn.console.output import echo
from fmn.console.stop import keeps
from fmn.errors import FmnError, ParamsError, TextError

F = TypeVar("F", bound=Callable[..., Any])

device_option = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, …"
)
data_option = click.option(
    "--data",
    default="nyu-mll/glue",
    show_default=True,
    help="Hub id, or a directory of TASK/SPLIT.parquet.",
)
revision_option = click.option("--revision", help="Branch, tag or commit of a hub id.")
labels_option = click.option(
    "--labels-map", metavar="YAML", help='Model label to task label: "{LABEL_0: entailment, …}".'
)

url_option = click.option(
    "--store", "url", envvar="FMN_STORE", help="A directory or s3://bucket/prefix [FMN_STORE]."
)
params_option = click.option(
    "--params", type=PATH, default=Path("params.yaml"), show_default=True, help="Names the store."
)


def store_options(command: F) -> F:
    """Let a command be told its store: --store, FMN_STORE or the params file."""
    return url_option(params_option(command))


store_option = click.option(
    "--store",
    envvar="FMN_STORE",
    help="Take Fishers from, and keep them in: a directory or s3://bucket/prefix [FMN_STORE].",
)
kind_option = click.option(
    "--kind",
    metavar="STATISTIC",
    default="mask",
    show_default=True,
    help="mask, diagonal, gram, or a statistic of another package.",
)


checkpointing_option = click.option(
    "--checkpointing",
    is_flag=True,
    help="Run each layer again in the backward pass: less memory, more time, the same Fisher.",
)
device_map_option = click.option(
    "--device-map",
    metavar="YAML",
    help=(
        'Keep layers that do not fit on the device elsewhere until they run: auto, or "{device: '
        '20GiB, cpu: 60GiB}".'
    ),
)


def context_for(device: str, memory: Any = None) -> Any:
    """Return a context manager that gives a context for steps, with progress bars."""
    from fmn.console.progress import open_context
    from fmn.params import MemorySettings

    return open_context(device, memory or MemorySettings())


def memory(checkpointing: bool, device_map: str | None) -> Any:
    """Read --checkpointing and --device-map."""
    from fmn.params import MemorySettings
    from fmn.reading import read_yaml
    from fmn.schema import parse

    try:
        limits = read_yaml(device_map, "--device-map") if device_map else None
    except TextError:
        limits = device_map
    if limits not in (None, "auto") and not isinstance(limits, dict):
        raise ParamsError(
            f"--device-map {device_map!r}: expected auto, or sizes such as '{{device: 20GiB, cpu: "
            "60GiB}}'"
        )
    return parse(
        MemorySettings,
        {"checkpointing": checkpointing, "device_map": limits},
        f"--device-map {device_map}",
    )


def opened_store(url: str | None, context: Any) -> Any:
    """Open a store, if one was named."""
    if not url:
        return None
    from fmn.schema import address
    from fmn.store import open_store

    store = open_store(address(url), warn=context.report.warn)
    store.check_writable()
    keeps(store.url)
    return store


def opened(url: str | None, params: Path) -> Any:
    """Open the store that the command line, the environment or the params file names."""
    from fmn.store import open_store

    return open_store(store_url(url, params), warn=lambda line: echo(f"warning: {line}", err=True))


def store_url(url: str | None, params: Path) -> str:
    """Return the URL of the store that command line, environment or params file names."""
    from fmn.params import read_params
    from fmn.schema import address

    if not url and not params.is_file():
        raise FmnError(
            f"which store? There is no {params}: name a directory or s3://bucket/prefix, or set "
            "FMN_STORE"
        )
    return address(url) if url else read_params(params).store


def label_map(text: str | None) -> dict[str | int | bool, str] | None:
    """Read the YAML of --labels-map."""
    from fmn.reading import read_yaml

    if text is None:
        return None
    try:
        labels = read_yaml(text, "--labels-map")
    except TextError:
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise ParamsError(
            f"--labels-map {text!r}: expected a map such as '{{LABEL_0: entailment, LABEL_1: "
            "not_entailment}}'"
        )
    return labels
