"""The site is built without a complaint, whole, and out of itself alone."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from fmn import errors
from fmn.__main__ import main
from fmn.evaluation import Task
from fmn.params import Params
from fmn.recipe import Recipe
from fmn.store import Record
from tests.docs.blocks import ROOT

OUTSIDE = re.compile(
    r"<(?:script|link|img|iframe|source|use|object|embed)\b[^>]*\b(?:src|href|data|xlink:href)=[\"']?(?:https?:)?//[^>]*>"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(folder),
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


def text(site: Path, page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", (site / page).read_text(encoding="utf-8")))


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= 13
    assert {
        str(page): found
        for page in pages
        if (found := OUTSIDE.findall(page.read_text(encoding="utf-8")))
    } == {}
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")
        ), style


def test_what_is_not_for_readers_stays_out(site: Path) -> None:
    assert [
        path.name
        for path in site.rglob("*")
        if path.suffix in (".py", ".pyc") or path.name == "dots.json"
    ] == []


def commands(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [
        (path, command),
        *(found for name, each in below for found in commands(each, f"{path} {name}")),
    ]


def test_every_command_and_option_is_in_the_reference(site: Path) -> None:
    shown = text(site, "reference/commands.html")
    for path, command in commands(main, "fmn"):
        assert f"\n{path}¶" in shown or f"{path}¶" in shown, path
        for option in command.params:
            assert not isinstance(option, click.Option) or option.opts[-1] in shown, (
                path,
                option.opts,
            )
    assert "fmn flow run¶" in shown
    assert "--summary PATH" in shown


def keys(kind: type[BaseModel], prefix: str = "") -> list[str]:
    found = []
    for name, field in kind.model_fields.items():
        found.append(prefix + name)
        for inner in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                found += keys(inner, f"{prefix}{name}{'' if inner is field.annotation else '[]'}.")
    return found


def test_every_key_of_params_recipes_tasks_and_records_is_in_the_reference(site: Path) -> None:
    settings = set(
        re.findall(
            r"<td><code>([^<]+)</code></td>",
            (site / "reference/settings.html").read_text(encoding="utf-8"),
        )
    )
    assert set(keys(Params)) <= settings
    assert {*Recipe.model_fields, *Task.model_fields} <= settings
    formats = set(
        re.findall(
            r"<td><code>([^<]+)</code></td>",
            (site / "reference/formats.html").read_text(encoding="utf-8"),
        )
    )
    assert set(keys(Record)) <= formats
    assert {"fisher", "merge", "evaluate", "publish"} <= formats


def test_every_key_is_explained(site: Path) -> None:
    for page in ("settings", "formats"):
        rows = re.findall(
            r"<tr>\s*<td>(.*?)</td>.*?<td>([^<]*|.*?)</td>\s*</tr>",
            (site / f"reference/{page}.html").read_text(),
            re.DOTALL,
        )
        assert rows
        assert [name for name, meaning in rows if not meaning.strip()] == []


def test_formulas_are_drawn_and_can_be_read_out(site: Path) -> None:
    page = (site / "method.html").read_text(encoding="utf-8")
    drawings = re.findall(r'<div class="formula"><svg role="img" aria-label="([^"]+)"', page)
    assert len(drawings) == (ROOT / "docs" / "method.md").read_text(encoding="utf-8").count(
        "```math"
    )
    assert all(drawing.strip() for drawing in drawings)


def test_every_exported_error_has_a_section_in_troubleshooting(site: Path) -> None:
    page = text(site, "troubleshooting.html")
    for name, found in vars(errors).items():
        if isinstance(found, type) and issubclass(found, errors.FmnError):
            assert f": {name}¶" in page, name
