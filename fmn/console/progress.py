"""Progress in a terminal: bars while something runs, one line for each thing to be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fmn.console.screen import Console
from fmn.params import MemorySettings
from fmn.steps.context import Context
from fmn.store import Memo, memo_file


@dataclass(frozen=True)
class Bars:
    """Shows bars on standard error, so that what is printed can be piped."""

    progress: Progress

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar while the context lasts."""
        bar = self.progress.add_task(escape(what), total=total)
        try:
            yield lambda done: self.progress.advance(bar, done)
        finally:
            self.progress.remove_task(bar)

    def warn(self, line: str) -> None:
        """Print a line above the bars."""
        self.progress.console.print(
            f"[yellow]warning:[/] {escape(line)}", soft_wrap=True, highlight=False
        )


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Give rich's progress display, on standard error, if that is a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        yield progress


@contextmanager
def open_context(device: str, memory: MemorySettings) -> Iterator[Context]:
    """Give a context for steps that shows bars."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    with progress_bars() as progress:
        report = Bars(progress)
        memo = Memo(memo_file(), warn=report.warn)
        yield Context(device=device, memory=memory, report=report, memo=memo)
