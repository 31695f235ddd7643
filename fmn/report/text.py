"""Texts that others wrote, made fit to be shown."""

from __future__ import annotations

from typing import Any


def printable(text: str) -> str:
    """Return a text without characters that steer a terminal or turn the writing's direction."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def all_printable(value: Any) -> Any:
    """Return plain data with all its texts made :func:`printable`."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {name: all_printable(each) for name, each in value.items()}
    return [all_printable(each) for each in value] if isinstance(value, list | tuple) else value
