"""What pages quote is there: messages, layers, pictures, recipes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml

from fmn.__main__ import main
from fmn.architectures import known
from fmn.console.command import DefaultGroup
from fmn.merging import get_rule, rule_names
from fmn.recipe import Recipe
from fmn.schema import parse
from fmn.statistics import get_statistic, statistics
from tests.docs.blocks import PAGES, ROOT, blocks

DOCS = ROOT / "docs"


def texts(source: str) -> Iterator[str]:
    """Iterate over the texts of a program; what is put into them when it runs is an ellipsis."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_every_message_in_troubleshooting_is_one_of_the_program() -> None:
    files = [
        file for package in ("fmn", "flows") for file in sorted((ROOT / package).rglob("*.py"))
    ]
    program = {text for file in files for text in texts(file.read_text(encoding="utf-8"))}
    paragraphs = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").split("\n\n")
    quoted = [
        m
        for p in paragraphs
        if p.startswith(("### ", "Also:"))
        for m in re.findall(r"`([^`]+)`", p)
    ]
    assert len(quoted) > 100
    assert [message for message in quoted if not any(message in text for text in program)] == []
    headings = [p for p in paragraphs if p.startswith("### ")]
    assert [heading for heading in headings if not re.search(r"`[^`]+`", heading)] == []


def test_the_layers_of_the_design_are_those_that_are_checked() -> None:
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"][0]
    page = (DOCS / "design.md").read_text(encoding="utf-8")
    table = page[page.index("## Layers") : page.index("## One cache")]
    named = [
        re.findall(r"`([^`]+)`", line.split("|")[1])
        for line in table.splitlines()
        if line.startswith("| `")
    ]
    assert named == [layer.split(" | ") for layer in contract["layers"]]


def test_the_recipe_of_the_method_is_one() -> None:
    compared, recipe = (
        block.text for block in blocks(DOCS / "method.md") if block.language == "yaml"
    )
    rule = get_rule(parse(Recipe, yaml.safe_load(compared), "method.md").method)
    assert rule.parent
    nearest = parse(Recipe, yaml.safe_load(recipe), "method.md")
    assert nearest.parameters["association"] == "layer-mean"
    assert (nearest.fisher.aggregation, nearest.fisher.batch_size) == ("per-batch", 32)


def test_the_table_of_methods_has_them_all_with_papers_needs_and_defaults() -> None:
    page = (DOCS / "method.md").read_text(encoding="utf-8")
    _, _, section = page.partition("\n## Methods to compare with\n")
    rows = [line[1:-1].split("|") for line in section.splitlines() if line.startswith("| `")]
    methods = {row[0].strip(" `"): row[1:] for row in rows if len(row) == 4}
    assert set(methods) == {"method", *rule_names()}
    for name in rule_names():
        rule, (formula, needs, parameters) = get_rule(name), methods[name]
        assert rule.reference in formula or name == "dare-ties"
        assert ("the parent" in needs) == rule.parent
        assert [s for s in statistics() if s.title in needs] == [
            get_statistic(statistic) for statistic in rule.statistics
        ]
        written = dict(re.findall(r"`(\w+): ([^`]+)`", parameters))
        assert written == {
            key: f"{value:g}" if isinstance(value, float) else str(value)
            for key, value in rule.settings({}).items()
        }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_are_at_most_100_wide(page: Path) -> None:
    """Tables, links, headings and the comments about blocks may be longer."""
    longer = re.compile(r"\||#+ |<!-- test: |!?.*\]\(")
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 100 and not longer.match(line)] == []


def test_the_changelog_and_comments_in_configuration_are_at_most_100_wide() -> None:
    patterns = ("CHANGELOG.md", "Makefile", "pyproject.toml", "*.yaml", ".ci/*", ".github/**/*.yml")
    files = [file for pattern in patterns for file in sorted(ROOT.glob(pattern))]
    assert len(files) > 8
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    prose = [line for line in lines if line.lstrip().startswith("#")]
    prose += (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in prose if len(line) > 100] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_links_of_pages_that_are_not_of_the_site_lead_somewhere(page: str) -> None:
    text = re.sub(r"(?s)```.*?```", "", (ROOT / page).read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", text)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = ROOT / path
        assert target.exists(), link
        titles = re.findall(r"^#+ (.*)", target.read_text("utf-8"), re.M) if anchor else []
        anchors = [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
        assert not anchor or anchor in anchors, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_named_exist(page: Path) -> None:
    every = re.findall(r"(?s)```.*?```|`[^`]+`", page.read_text(encoding="utf-8"))
    code = [each for each in every if each.startswith("```shell") or each[:3] != "```"]
    typed = re.findall(r"(?m)(?:^|[`(;&=] ?)fmn ([a-z-]+)(?: ([a-z-]+))?", "\n".join(code))
    for name, below in typed:
        assert name in main.commands, f"fmn {name}"
        group = main.commands[name]
        if below and isinstance(group, click.Group) and not isinstance(group, DefaultGroup):
            assert below in group.commands, f"fmn {name} {below}"


def test_the_guide_to_recipes_names_every_method() -> None:
    page = (DOCS / "recipes.md").read_text(encoding="utf-8")
    assert [name for name in rule_names() if f"`{name}`" not in page] == []


def test_a_page_names_every_family() -> None:
    page = (DOCS / "families.md").read_text(encoding="utf-8")
    cells = [
        line.split("|")[2]
        for line in page.partition("\nWith heads")[0].splitlines()
        if line.startswith("| ")
    ]
    named = {name.strip() for cell in cells for name in re.sub(r"\(.*?\)", "", cell).split(",")}
    assert named - {"families"} == set(known())


def test_the_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    script = (DOCS / "pictures.py").read_text(encoding="utf-8")
    (tmp_path / "pictures.py").write_text(script, encoding="utf-8")
    subprocess.run([sys.executable, tmp_path / "pictures.py"], check=True)
    drawn = {
        file.name: file.read_text(encoding="utf-8") for file in (tmp_path / "pictures").iterdir()
    }
    kept = {
        file.name: file.read_text(encoding="utf-8") for file in (DOCS / "pictures").glob("*.svg")
    }
    assert drawn.keys() == kept.keys()
    used = "".join(page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md"))
    assert all(f"pictures/{name}" in used for name in kept)
