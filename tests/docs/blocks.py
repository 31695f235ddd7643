"""The fenced blocks of a page, and what is noted about them.

A block of shell or Python is executed, in the order of the page, in the terminal of the reader. A
comment on the line before a block, ``<!-- test: NOTE -->``, notes what is different about it:

- ``terminal NAME``: typed in another terminal, with a directory, variables and caches of its own;
- ``background until URL``: goes on until the page ends; the reader waits until the address answers;
- ``background until it says TEXT``: the reader waits until that is printed;
- ``covered by tests/FILE.py::TEST``: that test, whose file has each of these commands in it,
  executes it instead.

Several are separated by semicolons. Nothing else keeps a block from being executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
EXECUTED = ("shell", "python")
SHOWN = ("yaml", "text", "math")
"""Languages of blocks that nobody runs; what they claim is tested by hand."""

COMMENT = re.compile(r"<!-- test: (.+) -->")
FENCE = re.compile(r"( *)```(\w*)")
TERMINAL = re.compile(r"terminal (\w+)")
BACKGROUND = re.compile(r"background until (http://\S+|it says .+)")
COVERED = re.compile(r"covered by (\S+)::(\w+)")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: its file.
        line: of its fence, from 1.
        language: after the fence.
        text: between the fences.
        notes: what the comment before it says.
    """

    page: Path
    line: int
    language: str
    text: str
    notes: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def terminal(self) -> str:
        return self._noted(TERMINAL) or "reader"

    @property
    def awaited(self) -> str | None:
        """What a block in the background is there for: an address that answers, or ``it says`` and
        a text."""
        return self._noted(BACKGROUND)

    @property
    def is_covered(self) -> bool:
        return self._noted(COVERED) is not None

    @property
    def is_executed(self) -> bool:
        return self.language in EXECUTED and not self.is_covered

    def commands(self) -> list[str]:
        """Return its lines without remarks."""
        lines = (line.partition("  #")[0].strip() for line in self.text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    def complaints(self) -> Iterator[str]:
        """Say what is wrong with it, if anything is."""
        if self.language not in EXECUTED + SHOWN:
            yield (
                f"{self.where}: language '{self.language}'; expected one of "
                f"{', '.join(EXECUTED + SHOWN)}"
            )
        for note in self.notes:
            if not any(form.fullmatch(note) for form in (TERMINAL, BACKGROUND, COVERED)):
                yield f"{self.where}: nobody knows what '{note}' means"
            elif self.language not in EXECUTED:
                yield f"{self.where}: '{note}' of a block that is not executed anyway"
            elif covered := COVERED.fullmatch(note):
                yield from self._not_covered(ROOT / covered[1], covered[2])

    def _not_covered(self, file: Path, test: str) -> Iterator[str]:
        source = file.read_text(encoding="utf-8") if file.is_file() else ""
        if test not in {
            node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)
        }:
            yield f"{self.where}: there is no {test} in {file.relative_to(ROOT)}"
            return
        for command in self.commands():
            if command not in source:
                yield f"{self.where}: {file.relative_to(ROOT)} does not have '{command}' in it"

    def _noted(self, form: re.Pattern[str]) -> str | None:
        matches = map(form.fullmatch, self.notes)
        return next((match[1] for match in matches if match), None)


def blocks(page: Path, text: str | None = None) -> list[Block]:
    """Return the blocks of a page."""
    return [part for part in _parsed(page, text) if isinstance(part, Block)]


def complaints(page: Path, text: str | None = None) -> list[str]:
    """Say what on a page would not be executed, or is noted of a block in vain."""
    return [
        complaint
        for part in _parsed(page, text)
        for complaint in ([part] if isinstance(part, str) else part.complaints())
    ]


def _parsed(page: Path, text: str | None = None) -> Iterator[Block | str]:
    """Iterate over a page's blocks, and over complaints about what is none."""
    where, notes, noted, block = page.relative_to(ROOT), (), 0, None
    start, inside, previous = 0, list[str](), ""
    for number, line in enumerate(
        (page.read_text(encoding="utf-8") if text is None else text).splitlines(), 1
    ):
        fence = FENCE.match(line)
        if block is not None:
            if line.strip() == "```":
                yield Block(page, start, block, "\n".join(inside) + "\n", notes)
                block, inside, notes = None, [], ()
            else:
                inside.append(line)
            continue
        if notes and not (fence and noted == number - 1):
            yield f"{where}:{noted}: a comment about a block has to be on the line before it"
            notes = ()
        if comment := COMMENT.fullmatch(line):
            notes, noted = tuple(note.strip() for note in comment[1].split(";")), number
        elif fence:
            block, start = fence[2], number
            if fence[1]:
                yield f"{where}:{number}: an indented block"
        elif line.startswith("    ") and not previous.strip():
            yield (
                f"{where}:{number}: an indented block, which nobody executes; put it between fences"
            )
        previous = line
    if block is not None:
        yield f"{where}:{start}: a block without an end"
