"""The site is built without a complaint, whole, and out of itself alone."""

from __future__ import annotations

import html
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_origin

import click
import pytest
from pydantic import BaseModel

import fmn
from fmn import errors
from fmn.__main__ import main
from fmn.catalog.tags import TAGS
from fmn.checkpoint import FISHERS
from fmn.evaluation import Task
from fmn.merging import get_rule, rule_names
from fmn.params import Params
from fmn.recipe import Recipe
from fmn.statistics import statistics
from fmn.store import Record
from fmn.store.mirror import MARK, PACKS, RECORDS
from fmn.store.objects import LAYOUT
from fmn.store.store import RUNS
from fmn.store.tombstones import TOMBSTONES
from tests.docs.blocks import ROOT
from tests.report.conftest import browser as browser

OUTSIDE = re.compile(
    r"<(?:script|link|img|iframe|source|use|object|embed)\b[^>]*\b(?:src|href|data|xlink:href)=[\"']?(?:https?:)?//[^>]*>"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = build(ROOT / "docs", folder)
    assert done.returncode == 0, done.stderr
    return folder


def build(docs: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run what ``make docs`` runs; the temporary files of the build go beside the site."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    return subprocess.run(
        [*command, "-d", str(folder.parent / "doctrees"), str(docs), str(folder)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder.parent / "prefect")},
    )


def text(site: Path, page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", (site / page).read_text(encoding="utf-8")))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 13
    assert {
        str(page): loaded
        for page in pages
        if (loaded := OUTSIDE.findall(page.read_text(encoding="utf-8")))
    } == {}
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")
        ), style


def test_what_is_not_for_readers_stays_out(site: Path) -> None:
    outside = (".py", ".pyc", ".md", ".rst", ".pickle")
    assert [str(file) for file in site.rglob("*") if file.suffix in outside] == []
    assert list(site.rglob("dots.json")) == []


@pytest.mark.parametrize("link", ["gone.md", "index.md#gone", "#gone"])
def test_a_dead_link_fails(link: str, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs" / "extensions", docs / "extensions")
    shutil.copytree(ROOT / "docs" / "static", docs / "static")
    shutil.copy(ROOT / "docs" / "conf.py", docs)
    (docs / "index.md").write_text(f"# A page\n\n[dead]({link})\n", encoding="utf-8")
    done = build(docs, tmp_path / "site")
    assert done.returncode != 0
    assert "index.md:3" in done.stderr


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [
        (path, command),
        *(pair for name, each in below for pair in commands(each, f"{path} {name}")),
    ]


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    shown = text(site, "reference/commands.html")
    for path, command in commands(main, "fmn"):
        assert re.search(rf"(?m)^{re.escape(path)} \[", shown), path
        for option in command.params:
            assert not isinstance(option, click.Option) or option.opts[-1] in shown, (
                path,
                option.opts,
            )


def test_every_exported_name_is_in_the_reference(site: Path) -> None:
    page = (site / "reference/python.html").read_text(encoding="utf-8")
    names = [name for name in dir(fmn) if not name.startswith("__")]
    assert [name for name in names if f'id="fmn.{name}"' not in page] == []


def test_a_stores_layout_is_that_of_the_program(site: Path) -> None:
    shown = text(site, "reference/formats.html")
    for folder in (LAYOUT, RECORDS, TAGS, TOMBSTONES, PACKS, RUNS):
        assert f"{folder}/" in shown, folder
    assert MARK in shown
    assert f"{FISHERS}/" in shown


def test_every_statistic_and_every_method_with_its_parameters_is_in_the_reference(
    site: Path,
) -> None:
    kinds = [cells[:2] for cells in rows(site, "reference/formats.html")]
    assert [[each.name, each.option] for each in statistics() if each.paper] == [
        kind for kind in kinds if kind[0] in [each.name for each in statistics()]
    ]
    settings = [cells[:2] for cells in rows(site, "reference/settings.html")]
    for name in rule_names():
        assert [name, get_rule(name).paper.rpartition(", ")[0]] in settings
        for parameter in get_rule(name).parameters:
            assert [name, parameter.name] in settings


def keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    names = []
    for name, field in kind.model_fields.items():
        names.append(prefix + name)
        several = get_origin(field.annotation) in (tuple, dict)
        for inner in [field.annotation, *get_args(field.annotation)]:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                names += keys(inner, f"{prefix}{name}{'[]' if several else ''}.")
    return names


def test_every_key_of_params_recipes_tasks_and_records_is_in_the_reference(site: Path) -> None:
    settings = {key for key, *_ in rows(site, "reference/settings.html")}
    assert set(keys(Params)) <= settings
    assert {*Recipe.model_fields, *Task.model_fields} <= settings
    formats = {key for key, *_ in rows(site, "reference/formats.html")}
    assert set(keys(Record)) <= formats
    assert {"fisher", "merge", "evaluate", "publish"} <= formats


def rows(site: Path, page: str) -> list[list[str]]:
    """Return the cells of all tables of a page, row by row."""
    source = (site / page).read_text(encoding="utf-8")
    return [
        [html.unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in cells]
        for row in re.findall(r"<tr\b.*?</tr>", source, re.DOTALL)
        if (cells := re.findall(r"<td>(.*?)</td>", row, re.DOTALL))
    ]


def test_every_key_is_explained(site: Path) -> None:
    for page in ("settings", "formats"):
        tables = rows(site, f"reference/{page}.html")
        assert tables
        assert [cells[0] for cells in tables if not cells[-1]] == []


def test_settings_say_what_they_are_where_nothing_is_said(site: Path) -> None:
    table = {cells[0]: cells[1:3] for cells in rows(site, "reference/settings.html")}
    assert table["fisher.samples"] == ["integer ≥ 1", "128"]
    assert table["merge.keep"] == ["none or best or all", "none"]
    assert table["models[].model"] == ["text", "required"]
    assert table["evaluate.limit"] == ["integer ≥ 1 or null", "null"]


def test_formulas_are_drawn_and_can_be_read_out(site: Path) -> None:
    page = (site / "method.html").read_text(encoding="utf-8")
    drawing = r'<div class="formula"><svg role="img" aria-label="([^"]+)".*</svg>'
    drawings = re.findall(drawing, page)
    assert len(drawings) == (ROOT / "docs" / "method.md").read_text(encoding="utf-8").count(
        "```math"
    )
    assert all(drawing.strip() for drawing in drawings)


@pytest.mark.parametrize("page", ["index", "method", "reference/commands", "reference/settings"])
@pytest.mark.parametrize("width", [420, 1100])
def test_a_page_opens_from_disk(site: Path, browser: Any, page: str, width: int) -> None:
    with opened(browser, site / f"{page}.html", width) as tab:
        assert tab.locator("h1").is_visible()
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_the_search_works_from_disk(site: Path, browser: Any) -> None:
    with opened(browser, site / "index.html", 1400) as tab:
        tab.get_by_placeholder("Search").fill("tombstone")
        tab.keyboard.press("Enter")
        tab.get_by_role("link", name="Formats").nth(1).wait_for()
        tab.locator("#search-results a", has_text="Formats").first.click()
        assert tab.url.startswith((site / "reference" / "formats.html").as_uri())


@contextmanager
def opened(browser: Any, page: Path, width: int) -> Iterator[Any]:
    """Open a page; nothing but files is asked for, and nothing is complained of."""
    events: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 800})
    tab = context.new_page()
    tab.on("console", lambda message: events.append(message.text))
    tab.on("pageerror", lambda error: events.append(str(error)))
    tab.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:")) or events.append(request.url),
    )
    tab.goto(page.as_uri())
    yield tab
    context.close()
    assert events == []


def test_every_exported_error_has_a_section_in_troubleshooting(site: Path) -> None:
    page = text(site, "troubleshooting.html")
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.FmnError):
            assert f": {name}¶" in page, name
