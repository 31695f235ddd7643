"""The way in for every file that a person writes: YAML in, frozen pydantic model out.

Where that fails, one line says what is wrong.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from fmn import reading
from fmn.errors import ParamsError, TextError, unknown
from fmn.visible import has_keys, one_line, without_keys

SECTION = re.compile(r"^Attributes:\n((?: {4}.*\n?|\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)


class Frozen(BaseModel):
    """A model whose unknown keys are refused and whose values stay."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class AddressError(ParamsError, ValueError):
    """An address with a password in it; a ValueError, so that pydantic says where."""


def address(value: str) -> str:
    """Return an address that has neither user nor password in it.

    Raises:
        AddressError: it has; the message masks them.
    """
    if has_keys(value):
        raise AddressError(
            f"{without_keys(value)}: expected an address without user and password, which would be "
            "stored and shown; give them in the environment (for S3 AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY)"
        )
    return value


Address = Annotated[str, AfterValidator(address)]
"""Of a store, model, data or machine; who may go there is not said in it."""

LONGEST_COMPLAINT = 600
"""Characters of what is wrong with one value, which a message may quote."""

M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path, *, text_only: bool = False) -> Any:
    """Read a YAML file; with ``text_only`` every scalar stays text.

    Labels [no, yes], for one, do not become [False, True] then.

    Raises:
        ParamsError: not there, not UTF-8, not YAML.
    """
    try:
        content = reading.file_bytes(path, reading.YAML_BYTES)
        return reading.read_yaml(content, str(path), text_only=text_only)
    except TextError as error:
        raise ParamsError(str(error)) from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = getattr(error, "strerror", None) or str(error)
        raise ParamsError(f"cannot read {path}: {reason}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file, one that fmn wrote and a person may have changed.

    Raises:
        ParamsError: not there, not UTF-8, not JSON.
    """
    try:
        return reading.read_json(reading.file_bytes(path, reading.JSON_BYTES), str(path))
    except TextError as error:
        raise ParamsError(str(error)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ParamsError(f"cannot read {path}: {reason}") from error


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
        where = one_line(".".join(map(str, location)))
        if complaint["type"] == "extra_forbidden":
            at = f" in {'.'.join(map(str, location[:-1]))}" if location[1:] else ""
            yield unknown(f"key{at}", str(location[-1]), _fields(kind, location[:-1]))
        else:
            reason = one_line(complaint["msg"].removeprefix("Value error, "), LONGEST_COMPLAINT)
            yield f"{where}: {reason}" if where else reason


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
