"""The command line: parses, calls the steps, prints; what a person can mend is one line."""

from __future__ import annotations

import click

from fmn import __version__
from fmn.console.command import HELP, OneLineErrors


class _Group(OneLineErrors, click.Group):
    """The commands."""


@click.group(cls=_Group, context_settings=HELP)
@click.version_option(__version__, prog_name="fmn")
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
def main(traceback: bool) -> None:
    """Merge fine-tuned transformers of one parent into one multi-task model, without training."""


from fmn.cli import catalog, commands, fisher, inspect, report, reproduce, stage, store, zoo  # noqa: E402  (they hang themselves on the group above)

__all__ = [
    "catalog",
    "commands",
    "fisher",
    "inspect",
    "main",
    "report",
    "reproduce",
    "stage",
    "store",
    "zoo",
]
