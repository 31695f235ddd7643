"""What a docstring, a signature and a model say, as Markdown."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any

from pydantic import BaseModel

HEADS = {"Args": "argument", "Attributes": "attribute", "Raises": "raises"}
"""Of the tables that sections of a docstring become; other sections are texts."""

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$", re.MULTILINE)
ENTRY = re.compile(r"^ {4}([\w*, ]+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
ROLE = re.compile(r":\w+:`~?([^`]+)`|``([^`]+)``")


def methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Iterate over the methods that a class, or a base of it in fmn, has for others."""
    for owner in kind.__mro__:
        for name, found in vars(owner).items() if owner.__module__.startswith("fmn.") else ():
            function = found.__func__ if isinstance(found, classmethod) else found
            if (
                inspect.isfunction(function)
                and not name.startswith("_")
                and getattr(kind, name) in (function, getattr(owner, name))
            ):
                yield name, function


def signature(function: Any) -> str:
    """Return a signature, on one line if it is short."""
    found = inspect.signature(function)
    words, star = [], False
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        words.append(f"{stars}{parameter.name}: {parameter.annotation}{default}")
    line = f"({', '.join(words)}) -> {found.return_annotation}"
    return (
        line
        if len(line) <= 90
        else "(\n    " + ",\n    ".join(words) + f",\n) -> {found.return_annotation}"
    )


def documented(thing: Any) -> Iterator[str]:
    """Say what a docstring says: its text, and its sections."""
    parts = SECTION.split(inspect.getdoc(thing) or "")
    yield f"{marked(parts[0].strip())}\n"
    sections = _sections(thing)
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if title in HEADS:
            yield from table(
                (HEADS[title], "meaning"),
                [(f"`{name}`", text) for name, text in sections[title].items()],
            )
        else:
            yield f"\n{title}: {marked(' '.join(body.split()))}\n"


def _sections(thing: Any) -> dict[str, dict[str, str]]:
    parts = SECTION.split(inspect.getdoc(thing) or "")
    bodies = zip(parts[1::2], parts[2::2], strict=True)
    return {
        title: {name: marked(" ".join(text.split())) for name, text in ENTRY.findall(body)}
        for title, body in bodies
    }


def docstring(kind: type) -> tuple[str, dict[str, str]]:
    """Return what a class is, and what its attributes are."""
    text = SECTION.split(inspect.getdoc(kind) or "")[0]
    assert issubclass(kind, BaseModel) or is_dataclass(kind)
    return marked(" ".join(text.split())), _sections(kind).get("Attributes", {})


def first(thing: Any) -> str:
    """Return the first paragraph of a docstring."""
    return marked(" ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split()))


def marked(text: str) -> str:
    """Turn reStructuredText's marks into Markdown's."""
    return ROLE.sub(lambda found: f"`{found[1] or found[2]}`", text)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Draw a table, if there is a row."""
    if rows:
        yield "\n| " + " | ".join(heads) + " |"
        yield "|" + " --- |" * len(heads)
    for row in rows:
        yield "| " + " | ".join(_cell(cell) for cell in row) + " |"
    yield ""


def _cell(text: str) -> str:
    """Keep a cell on its line: a bar separates cells unless it is within code."""
    pieces = " ".join(text.split()).split("`")
    return "`".join(
        piece if number % 2 else piece.replace("|", "\\|").replace("<", "&lt;")
        for number, piece in enumerate(pieces)
    )
