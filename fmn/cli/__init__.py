"""The command line: parses, calls the steps, prints.

What a person can mend comes out as one line.
"""

from __future__ import annotations

import sys

import click

from fmn import __version__
from fmn.errors import FmnError


class OneLineErrors(click.Command):
    """Renders fmn's errors as one line, unless --traceback asks for more.

    A list of offences is rendered as one line each.
    """

    def invoke(self, context: click.Context) -> object:
        """Run the command; exit with 1 after an error that a person can mend."""
        try:
            return super().invoke(context)
        except FmnError as error:
            if context.params.get("traceback"):
                raise
            click.echo(f"fmn: {error}", err=True)
            sys.exit(1)


class _Group(OneLineErrors, click.Group):
    """The commands."""


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fmn")
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
def main(traceback: bool) -> None:
    """Merge fine-tuned transformers of one parent into one multi-task model, without training."""


from fmn.cli import catalog, commands, inspect, report, reproduce, stage, store, zoo  # noqa: E402  (they hang themselves on the group above)

__all__ = ["catalog", "commands", "inspect", "main", "report", "reproduce", "stage", "store", "zoo"]
