"""All that fmn prints: what it quotes does nothing to a terminal, and any terminal can show it.

Streams are made fit once, when a program starts; :func:`echo`, :func:`echo_json` and the
:class:`~fmn.console.screen.Console` make texts fit, and nothing else prints.
"""

from __future__ import annotations

import json
import sys
import warnings
from typing import Any

import click

from fmn.visible import visible, without_keys

SIMPLER = str.maketrans("░▒▓█▁▂▃▄▅▆▇·─│━╸╺…→≥≤×±–—", "-+%#_,-=+*%.-|---.>><x+--")
"""Signs of pictures and tables, for terminals that have ASCII alone."""


def prepare_streams() -> None:
    """Let no character stop the program, and let warnings be a line each."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    warnings.showwarning = _one_line


def shown(text: str) -> str:
    """Return a text as it may be printed."""
    return without_keys(visible(text))


def echo(text: str = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text."""
    text = shown(text)
    if not has_all(err):  # click would write UTF-8 all the same
        text = text.translate(SIMPLER).encode("ascii", "backslashreplace").decode()
    click.echo(text, err=err, nl=nl)


def echo_json(value: Any, *, indent: int | None = 2) -> None:
    """Print plain data as JSON; it stays JSON in every encoding."""
    click.echo(visible(json.dumps(value, indent=indent, ensure_ascii=not has_all())))


def has_all(err: bool = False) -> bool:
    """Tell whether standard output, or error, can show every character."""
    stream = sys.stderr if err else sys.stdout
    return (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")


def _one_line(message: Warning | str, *about: Any, **more: Any) -> None:
    echo(f"warning: {' '.join(str(message).split())}", err=True)
