"""Text from elsewhere as it may be shown: what it holds is seen, and does nothing.

A name, label or column can hold what moves a terminal's cursor, hides or reorders what is beside
it, or cannot be written at all; an address can hold keys.
"""

from __future__ import annotations

import re

UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1
    "\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff]"
)
"""Controls, what changes the direction of writing, what takes no room, and lone surrogates."""

KEYS = re.compile(
    r"""(?P<scheme>\b[A-Za-z][A-Za-z0-9+.-]+:/(?P<second>/)?)  # a path keeps one slash of two
    (?: (?(second)[^\s/'"<>]*|(?!)) | [^\s/:@'"<>]+ : (?!\d+/) [^\s@'"<>]* ) @""",
    re.VERBOSE,
)
"""Where an address has a user and a password; secrets with a slash in them are common on S3."""


def visible(text: str) -> str:
    r"""Return a text in which controls are seen, as ``\u001b``; newlines and tabs stay.

    The escapes are those of JSON, so that JSON stays JSON.
    """
    return UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str, longest: int = 300) -> str:
    """Return a text for within a line: newlines are seen, and a long one lacks its middle."""
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]} … {text[-(longest // 3) :]}"
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def has_keys(address: str) -> bool:
    """Tell whether an address holds a user, and so perhaps a password."""
    return bool(KEYS.search(address))


def without_keys(text: str) -> str:
    """Return a text whose addresses keep neither user nor password."""
    return KEYS.sub(r"\g<scheme>***@", text)
