"""What fmn's commands are made of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from fmn.console.stop import stoppable
from fmn.errors import FmnError

PATH = click.Path(path_type=Path)
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
"""Settings of a program: its help is asked for by either name."""

params_argument = click.argument("params", type=PATH, default=Path("params.yaml"))
summary_option = click.option(
    "--summary", type=PATH, help="Write what the run did to this JSON file."
)


class DefaultGroup(click.Group):
    """A group one of whose commands is meant where none is named."""

    def __init__(self, *arguments: Any, default: str, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._default = default

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Name the command, unless one is named or help is asked for."""
        if args and args[0] not in {*self.commands, *context.help_option_names}:
            args = [self._default, *args]
        return super().parse_args(context, args)


class OneLineErrors(click.Command):
    """Renders errors of fmn as one line, unless --traceback asks for more; ends when asked to."""

    def invoke(self, context: click.Context) -> object:
        """Run the command; exit with 1 after an error that a person can mend."""
        try:
            with stoppable():
                return super().invoke(context)
        except FmnError as error:
            if context.params.get("traceback"):
                raise
            click.echo(f"fmn: {error}", err=True)
            sys.exit(1)
