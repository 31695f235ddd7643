"""The way in for every text that fmn did not just write itself: JSON, YAML, and packed bytes.

Size and depth are looked at before anything is parsed, for a small text can stand for a large one:
an alias for what it names, a packed byte for a thousand. Of two equal keys one would be lost, so
they are refused. Where a text is not what it should be, one line says so.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from fmn.errors import TextError
from fmn.visible import one_line

JSON_BYTES = 64 << 20
"""Of a JSON text, unless its reader expects less."""

YAML_BYTES = 1 << 20
"""Of a YAML text: people write it, and parsing takes some seconds per megabyte."""

DEPTH = 32
"""Of lists and mappings within each other; nothing that fmn reads comes near."""

NODES = 200_000
"""Of a YAML text, where an alias counts as all that it stands for."""

DIGITS = 100
"""Of a number; what is longer takes long to read and means nothing here."""

JSON_BRACKETS = re.compile(r'"[^"\\]*+(?:\\.?[^"\\]*+)*+"?|[\[\]{}]', re.DOTALL)
"""Strings, so that what is in them is passed over, and what opens and closes."""

SURROGATE = re.compile(r"\\[uU](?:0000)?[dD][89a-fA-F]")
"""The escape of half a character."""


def read_json(
    content: bytes | str,
    what: str,
    *,
    largest: int = JSON_BYTES,
    deepest: int = DEPTH,
    finite: bool = True,
) -> Any:
    """Parse JSON.

    Args:
        content: UTF-8, or text.
        what: it is, for the message.
        largest: bytes.
        deepest: lists and mappings within each other.
        finite: whether NaN and Infinity, which JSON does not know, are refused.

    Raises:
        TextError: one line: too large, too deep, a key twice, no JSON.
    """
    text = _text(content, what, largest)
    if text.count("[") + text.count("{") > deepest:
        depth = 0
        for match in JSON_BRACKETS.finditer(text):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
            if depth > deepest:
                _refuse(what, f"nested more than {deepest} deep")

    def pairs(items: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(items)
        if len(mapping) < len(items):
            names = [name for name, _ in items]
            _refuse(what, f"the key {_twice(names)} twice in one mapping")
        return mapping

    def whole(digits: str) -> int:
        return int(_number(digits, what))

    def constant(name: str) -> float:
        return _refuse(what, f"{name} is no number of JSON") if finite else float(name)

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_int=whole, parse_constant=constant)
    except TextError:
        raise
    except (ValueError, RecursionError) as error:
        raise TextError(f"{what} is not JSON: {one_line(str(error))}") from None
    _check_characters(text, value, what)
    return value


def file_bytes(path: Path, largest: int) -> bytes:
    """Return what a file holds, and of a larger one no more than shows that it is.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(largest + 1)


def read_yaml(
    content: bytes | str,
    what: str,
    *,
    text_only: bool = False,
    largest: int = YAML_BYTES,
    deepest: int = DEPTH,
) -> Any:
    """Parse YAML: plain data, no objects.

    Args:
        content: UTF-8, or text.
        what: it is, for the message.
        text_only: every scalar stays text; labels [no, yes], for one, do not become [False, True].
        largest: bytes.
        deepest: lists and mappings within each other.

    Raises:
        TextError: one line: too large, too deep, a key twice, aliases that stand for too much, no
            YAML.
    """
    text = _text(content, what, largest)
    loader: Any = None
    try:
        _check_events(text, what, deepest)
        loader = (yaml.BaseLoader if text_only else yaml.SafeLoader)(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node, what)
        value = loader.construct_document(node)
    except TextError:
        raise
    # ValueError: what looks like a date and is none; TypeError: a key that is a list
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise TextError(f"{what} is not YAML: {one_line(reason)}") from None
    finally:
        if loader is not None:
            loader.dispose()
    _check_characters(text, value, what)
    return value


def unpacked(content: bytes, what: str, largest: int) -> bytes:
    """Decompress gzip, up to a limit; no more than that is ever in memory.

    Raises:
        TextError: more than ``largest`` bytes, cut off, or no gzip.
    """
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(content, largest + 1)
    except zlib.error as error:
        raise TextError(f"{what} is not gzip: {error}") from None
    if len(unpacked) > largest:
        _refuse(what, f"more than {largest:,} bytes when unpacked")
    if not unpacker.eof:
        _refuse(what, "cut off")
    return unpacked


def _text(content: bytes | str, what: str, largest: int) -> str:
    if len(content) > largest:
        _refuse(what, f"more than {largest:,} bytes")
    try:
        return content if isinstance(content, str) else content.decode("utf-8")
    except UnicodeDecodeError:
        _refuse(what, "not UTF-8 text")


def _check_events(text: str, what: str, deepest: int) -> None:
    """Count depth and nodes while they are parsed, before anything is made of them."""
    names: list[str | None] = []
    sizes = [0]
    size_of: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            names.append(event.anchor)
            sizes.append(1)
            if len(names) > deepest:
                _refuse(what, f"nested more than {deepest} deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            name, size = names.pop(), sizes.pop()
            sizes[-1] += size
            if name:
                size_of[name] = size
        elif isinstance(event, yaml.AliasEvent):
            alias = str(event.anchor)
            if alias in names:
                _refuse(what, f"the alias *{one_line(alias)} stands for itself")
            sizes[-1] += size_of.get(alias, 1)
        elif isinstance(event, yaml.ScalarEvent):
            sizes[-1] += 1
            if event.anchor:
                size_of[event.anchor] = 1
        if sizes[-1] > NODES:
            _refuse(what, f"more than {NODES:,} values, with those that aliases stand for")


def _check_nodes(node: yaml.Node, what: str) -> None:
    """Refuse equal keys of one mapping, and endless numbers; each node is looked at once."""
    seen, waiting = set(), [node]
    while waiting:
        node = waiting.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            names = [(key.tag, key.value) for key in keys]
            if len(set(names)) < len(names):
                _refuse(what, f"the key {_twice([key.value for key in keys])} twice in one mapping")
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
            _number(node.value, what)


def _check_characters(text: str, value: Any, what: str) -> None:
    """Refuse halves of characters, which no file and no terminal can hold."""
    if SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False, default=str).encode()
        except UnicodeEncodeError:
            _refuse(what, "half of a character (a lone surrogate)")
        except (TypeError, ValueError):  # keys that are no text
            pass


def _number(digits: str, what: str) -> str:
    return digits if len(digits) <= DIGITS else _refuse(what, f"a number of {len(digits):,} digits")


def _twice(names: Sequence[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            break
        seen.add(name)
    return f"'{one_line(name, 100)}'"


def _refuse(what: str, why: str) -> NoReturn:
    raise TextError(f"cannot read {what}: {why}")
