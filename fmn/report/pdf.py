"""PDF files that are the same bytes whenever they hold the same.

The library that writes them numbers and orders its objects differently each time.
"""

from __future__ import annotations

import re

REFERENCE = re.compile(rb"\b(\d+) 0 R\b")
RESOURCES = re.compile(rb"(?:^ */\w+ \d+ 0 R\n){2,}", re.MULTILINE)
"""Entries of a dictionary that are references; their order means nothing."""


def canonical(pdf: bytes) -> bytes:
    """Return a PDF with its objects numbered and ordered as they are reached from its root.

    Args:
        pdf: with one table of references and objects that are not compressed together, as
            vl-convert writes it.
    """
    start = int(pdf[pdf.rindex(b"startxref") :].split()[1])
    table, trailer = pdf[start:].split(b"trailer", 1)
    starts = sorted(map(int, re.findall(rb"(\d{10}) \d{5} n", table)))
    objects = dict(
        _object(pdf[one:other]) for one, other in zip(starts, [*starts[1:], start], strict=True)
    )
    numbers = _numbered(objects, trailer)
    made, places = bytearray(pdf[: starts[0]]), []
    for number, (head, stream) in sorted((numbers[old], objects[old]) for old in numbers):
        places.append(b"%010d 00000 n\r\n" % len(made))
        made += b"%d 0 obj\n%b%b" % (number, _renumbered(head, numbers), stream)
    end = re.sub(rb"startxref\s+\d+", b"startxref\n%d" % len(made), _renumbered(trailer, numbers))
    free = b"xref\n0 %d\n0000000000 65535 f\r\n" % (len(places) + 1)
    return bytes(made) + free + b"".join(places) + b"trailer" + end


def _object(text: bytes) -> tuple[int, tuple[bytes, bytes]]:
    """Return an object's number, its dictionary and its stream, which is left as it is."""
    head, separator, stream = text.partition(b"stream\n")
    first, _, dictionary = head.partition(b"\n")
    ordered = RESOURCES.sub(
        lambda lines: b"".join(sorted(lines[0].splitlines(keepends=True))), dictionary
    )
    return int(first.split()[0]), (ordered, separator + stream)


def _numbered(objects: dict[int, tuple[bytes, bytes]], trailer: bytes) -> dict[int, int]:
    """Return from the number that each object has to the one that it gets, in the new order."""
    numbers: dict[int, int] = {}
    waiting = [int(number) for number in REFERENCE.findall(trailer)]
    for old in waiting:  # grows while it is read
        if old not in numbers:
            numbers[old] = len(numbers) + 1
            waiting += [int(number) for number in REFERENCE.findall(objects[old][0])]
    return numbers


def _renumbered(text: bytes, numbers: dict[int, int]) -> bytes:
    return REFERENCE.sub(lambda match: b"%d 0 R" % numbers[int(match[1])], text)
