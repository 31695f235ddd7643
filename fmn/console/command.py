"""What fmn's commands are made of."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fmn.console.output import echo, prepare_streams, shown
from fmn.console.stop import stoppable
from fmn.errors import FmnError, reason_of
from fmn.visible import one_line

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

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Run as a program."""
        prepare_streams()
        return super().main(*arguments, **settings)

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        """Read the arguments."""
        with _fit_to_be_shown():
            return super().make_context(*arguments, **settings)

    def invoke(self, context: click.Context) -> object:
        """Run the command; exit with 1 after an error that a person can mend."""
        try:
            with _fit_to_be_shown(), stoppable():
                return super().invoke(context)
        except (FmnError, OSError, RuntimeError, MemoryError) as error:
            # a reader that went away, of which click says nothing
            is_pipe = isinstance(error, OSError) and error.errno == errno.EPIPE
            is_bug = (
                isinstance(error, RuntimeError)
                and str(error) != NO_HOME
                and not is_out_of_memory(error)
            )
            if is_pipe or is_bug or context.params.get("traceback"):
                raise
            echo(f"fmn: {in_words(error)}", err=True)
            sys.exit(1)


def in_words(error: Exception) -> str:
    """Return what a person is told of an error of fmn's or of the system's."""
    if is_out_of_memory(error):
        return (
            f"there is not enough memory ({reason_of(error)}); take smaller batches or models, or "
            "another device"
        )
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and cause.errno == errno.ENOENT and not has_directory():
        return "the current directory was removed; change to one that exists"
    if not isinstance(error, OSError):
        return WITHOUT_HOME if str(error) == NO_HOME else str(error)
    reason = error.strerror or type(error).__name__
    place = f"{one_line(str(error.filename))}: " if error.filename is not None else ""
    return f"{place}{reason}; {ADVICE.get(error.errno or 0, 'see --traceback for where')}"


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory ran out, on the machine or, by torch's error, on a device."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def has_directory() -> bool:
    """Tell whether the current directory still exists."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


NO_HOME = "Could not determine home directory."
"""What pathlib says of a ~ that stands for nothing."""

WITHOUT_HOME = "there is no home that ~ stands for; set HOME to a directory"

ADVICE = {
    errno.ENOENT: "check its name",
    errno.EACCES: "this user may not go there; choose another place, or change who may",
    errno.EPERM: "this user may not do that; choose another place, or change who may",
    errno.ENOSPC: "make room on that disk, or for temporary files set TMPDIR to one that has some",
    errno.EDQUOT: "make room on that disk, or for temporary files set TMPDIR to one that has some",
    errno.EROFS: "choose a place that can be written to",
    errno.ENAMETOOLONG: "choose a shorter name",
}
"""What to do about errors of the system."""


@contextmanager
def _fit_to_be_shown() -> Iterator[None]:
    """Let what click says of arguments quote no controls and no passwords."""
    try:
        yield
    except click.ClickException as error:
        error.message = shown(error.message)  # type: ignore[misc]
        raise
