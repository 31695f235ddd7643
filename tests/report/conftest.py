"""A real browser for the tests of the page."""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fmn.report import Report, render

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync")


@dataclass
class Opened:
    """A page in the browser.

    Attributes:
        page: Playwright's.
        file: it was opened from.
        complaints: of the console, of scripts that failed, and dialogs.
        requests: addresses that were asked for.
    """

    page: Any
    file: Path
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def go(self, route: str) -> None:
        self.page.evaluate("route => { location.hash = route; }", route)
        self.page.wait_for_timeout(50)

    def rows(self) -> list[list[str]]:
        """Return the text of the leaderboard's cells."""
        cells = "row => [...row.children].map(cell => cell.textContent.trim())"
        return self.page.evaluate(f"[...document.querySelectorAll('.board tbody tr')].map({cells})")  # type: ignore[no-any-return]

    def column(self, heading: str) -> list[str]:
        heads = self.page.eval_on_selector_all(".board thead th", "cells => cells.map(cell => cell.textContent.trim())")
        return [row[heads.index(heading)] for row in self.rows()]

    def status(self) -> str:
        return str(self.page.text_content("[role=status]"))

    def press(self, heading: str) -> None:
        self.page.click(f".board thead button:has-text('{heading}')")

    def charts(self) -> int:
        """Wait until every chart is drawn that is in view; return how many there are."""
        self.until("[...document.querySelectorAll('.chart')].every(chart => chart.querySelector('svg'))")
        return int(self.page.evaluate("document.querySelectorAll('.chart svg').length"))

    def until(self, condition: str) -> None:
        """Wait until something is so; Playwright's own way to wait is an eval in the page, which the page's policy forbids."""
        for _ in range(200):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"it never was so: {condition}")

    def fine(self) -> None:
        """Check that nothing was complained of and nothing was asked for but the file itself."""
        assert self.complaints == []
        assert {re.sub("#.*", "", url) for url in self.requests} == {self.file.as_uri()}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Of a module, not of the session: while Playwright is running, no other test of this process could run an event loop."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        message = f"none of {', '.join(BROWSERS)} is installed; install Chromium to run this test"
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=list(QUIET))
        yield started
        started.close()


Opener = Callable[..., Opened]


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Opener]:
    """Render a report into a file and open it from disk."""
    contexts = []

    def opened(report: Report, *, width: int = 1440, height: int = 5000, scheme: str = "light") -> Opened:
        file = tmp_path / "index.html"
        file.write_text(render(report), encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        shown = Opened(context.new_page(), file)
        shown.page.on("console", lambda message: shown.complaints.append(f"{message.type}: {message.text}"))
        shown.page.on("pageerror", lambda error: shown.complaints.append(str(error)))
        shown.page.on("dialog", lambda dialog: (shown.complaints.append(dialog.message), dialog.dismiss()))
        shown.page.on("request", lambda request: shown.requests.append(request.url))
        shown.page.goto(file.as_uri())
        return shown

    yield opened
    for context in contexts:
        context.close()
