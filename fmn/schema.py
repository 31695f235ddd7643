"""The way in for every file that a person writes: YAML in, frozen pydantic model out.

Where that fails, one line says what is wrong.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fmn.errors import ParamsError, unknown

SECTION = re.compile(r"^Attributes:\n((?: {4}.*\n?|\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


class Frozen(BaseModel):
    """A model whose unknown keys are refused and whose values stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path, *, text_only: bool = False) -> Any:
    """Read a YAML file; with ``text_only`` every scalar stays text.

    Labels [no, yes], for one, do not become [False, True] then.

    Raises:
        ParamsError: not there, not UTF-8, not YAML.
    """
    try:
        return yaml.load(
            path.read_text(encoding="utf-8"),
            Loader=yaml.BaseLoader if text_only else yaml.SafeLoader,
        )
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ParamsError(f"cannot read {path}: {reason}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: what looks like a date, and is none
        raise ParamsError(f"{path} is not YAML: {' '.join(str(error).split())}") from error


def parse(kind: type[M], content: Any, where: str) -> M:
    """Validate what a file held.

    Args:
        kind: what it should be.
        content: what it held.
        where: the file, for the message.

    Raises:
        ParamsError: one line with every complaint; an unknown key is named with the nearest known
            one.
    """
    if not isinstance(content, dict):
        raise ParamsError(
            f"{where} must hold a mapping with the keys {', '.join(kind.model_fields)}"
        )
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise ParamsError(f"{where}: {'; '.join(_complaints(kind, error))}") from error


def attributes(kind: type) -> dict[str, str]:
    """Return what the docstring of a class says of each attribute, a line each."""
    text = inspect.getdoc(kind) or ""
    section = SECTION.search(text)
    entries = ENTRY.findall(section[1]) if section else []
    return {name: " ".join(meaning.split()) for name, meaning in entries}


def _complaints(kind: type[BaseModel], error: ValidationError) -> Iterator[str]:
    for complaint in error.errors():
        location = complaint["loc"]
        where = ".".join(map(str, location))
        if complaint["type"] == "extra_forbidden":
            at = f" in {'.'.join(map(str, location[:-1]))}" if location[1:] else ""
            yield unknown(f"key{at}", str(location[-1]), _fields(kind, location[:-1]))
        else:
            yield f"{where}: {complaint['msg'].removeprefix('Value error, ')}"


def _fields(kind: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys that are known at a place within a model."""
    for step in location:
        if isinstance(step, str) and step in kind.model_fields:
            annotation = kind.model_fields[step].annotation
            inner = [annotation, *get_args(annotation)]
            kind = next(
                (
                    argument
                    for argument in inner
                    if isinstance(argument, type) and issubclass(argument, BaseModel)
                ),
                kind,
            )
    return list(kind.model_fields)
