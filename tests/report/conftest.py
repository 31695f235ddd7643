"""A headless Chromium, and pages in it that must be silent, still and alone."""

from __future__ import annotations

import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fmn.report import Report, render

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = [
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
]

OpenReport = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Of a module, not of the session: while it is open, no other test of this process could run an
    event loop."""
    playwright = pytest.importorskip("playwright.sync_api")
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        message = (
            f"no browser ({', '.join(BROWSERS)}) to test the report in; apt-get install chromium"
        )
        warnings.warn(message, stacklevel=1)
        pytest.skip(message)
    with playwright.sync_playwright() as running:
        launched = running.chromium.launch(executable_path=executable, args=SWITCHES)
        yield launched
        launched.close()


@pytest.fixture
def open_report(browser: Any, tmp_path: Path) -> Iterator[OpenReport]:
    """Open reports from disk; at the end nothing was complained of, no dialog came up, and nothing
    but the file was asked for.

    A complaint in which ``allow`` is was wanted.
    """
    events: list[str] = []
    contexts = []
    file = tmp_path / "report.html"

    def open_(
        data: Report,
        route: str = "#/",
        *,
        width: int = 1440,
        height: int = 900,
        scheme: str = "light",
        allow: str = "\n",
    ) -> Any:
        file.write_text(render(data), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on(
            "console",
            lambda message: (
                allow in message.text or events.append(f"{message.type}: {message.text}")
            ),
        )
        page.on("pageerror", lambda error: events.append(f"error: {error.stack or error}"))
        page.on(
            "dialog", lambda dialog: (events.append(f"dialog: {dialog.message}"), dialog.dismiss())
        )
        page.on(
            "request",
            lambda request: (
                _foreign(request.url, file) and events.append(f"request: {request.url}")
            ),
        )
        page.goto(f"{file.as_uri()}{route}")
        page.wait_for_selector("main h2")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert events == []


def _foreign(url: str, file: Path) -> bool:
    return url.partition("#")[0] != file.as_uri() and url != "data:,"


DRAW = """async () => {
    for (const host of document.querySelectorAll(".chart")) {
        host.scrollIntoView();
        for (let i = 0; i < 500 && !host.dataset.theme; i++)
            await new Promise((done) => setTimeout(done, 10));
    }
}"""


def draw_charts(page: Any) -> None:
    """Scroll every chart into view, and wait until all are drawn, also in a view made anew."""
    end = time.monotonic() + 30
    page.evaluate(DRAW)
    while page.locator(".chart:not([data-theme])").count():
        assert time.monotonic() < end, "a chart is not drawn"
        page.evaluate(DRAW)


def marks(page: Any, chart: int, kind: str) -> int:
    """Return how many marks of a kind a chart has."""
    return int(page.locator(".chart").nth(chart).locator(f".mark-{kind}.role-mark > *").count())
