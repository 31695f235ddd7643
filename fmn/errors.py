"""The error tree: what was expected, what came, what to do next, in one line each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from fmn.visible import one_line, without_keys

LONGEST = 2000
"""Characters of a message: a name in it can have any number."""


class FmnError(Exception):
    """Anything that a person can mend; the command line prints it without a traceback.

    What a message quotes does nothing to a terminal, and addresses in it keep no passwords.
    """

    def __init__(self, *lines: str) -> None:
        """Keep the message, a line or several."""
        super().__init__(
            "\n  - ".join(one_line(without_keys(str(line)), LONGEST) for line in lines)
        )


class TextError(FmnError, ValueError):
    """A text that is too large, nested too deep, or not what it should be."""


class ParamsError(FmnError):
    """A recipe, a params file or an option that does not say what it should."""


class ArchitectureError(FmnError):
    """A model family that is unknown, or a model that does not match its family's description."""


class CheckpointError(FmnError):
    """A checkpoint that is missing, incomplete, unsafe or not what it claims to be."""


class FisherError(FmnError):
    """A Fisher that cannot be computed, read, or used with these models."""


class DataError(FmnError):
    """A dataset, task, column or label that is missing or malformed."""


class MergeError(FmnError):
    """Models that cannot be merged; every offence is listed."""

    def __init__(self, offences: Sequence[str]) -> None:
        """Keep every offence; the message holds one a line."""
        self.offences = tuple(offences)
        head = (
            offences[0]
            if len(offences) == 1
            else f"{len(offences)} reasons why these models cannot be merged:"
        )
        super().__init__(head, *(offences if len(offences) > 1 else ()))

    def __reduce__(self) -> tuple[type[MergeError], tuple[tuple[str, ...]]]:
        """Travel between processes as the offences."""
        return type(self), (self.offences,)


class StoreError(FmnError):
    """A store that cannot be reached, read or written; never a result that is not there."""


class CatalogError(FmnError):
    """A merge that the catalog lacks, an ambiguous or taken name, or a record that is wrong."""


class OutputError(FmnError):
    """A place that cannot be written to: it exists already, is read-only, or is full."""


def reason_of(error: BaseException, longest: int = 300) -> str:
    """Return what an error of a library says, in a line; its class, where that says little."""
    text = " ".join(str(error).split())
    is_plain = isinstance(error, OSError | ValueError | RuntimeError | ImportError)
    name = type(error).__name__
    return one_line(text if is_plain and text else f"{name}: {text}" if text else name, longest)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` with the nearest known name; nothing if none is near."""
    close = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> str:
    """Say that a name is in no registry: the nearest one, the known ones, and what to do."""
    names = sorted(known)
    line = f"unknown {kind} '{name}'{nearest(name, names)} (known: {', '.join(names) or 'none'})"
    return f"{line}; {hint}" if hint else line
