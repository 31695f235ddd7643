"""The README and the guides that go on from it do what they say.

Their blocks are executed in one clone, on a demo zoo that learnt for a few steps only.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from fmn.__main__ import main
from fmn.evaluation import Task
from fmn.merging import get_rule, variants
from fmn.params import MergeSettings, Params, RunnerSettings
from fmn.recipe import Recipe
from fmn.schema import parse
from tests.docs.blocks import ROOT, blocks
from tests.docs.reader import Reader

README, DOCS = ROOT / "README.md", ROOT / "docs"


@pytest.mark.slow
def test_from_the_first_merge_to_a_zoo_with_dvc(
    new_clone: Callable[[], Path], programs: Path
) -> None:
    folder = new_clone()
    with Reader(folder, programs, {"REVISION": "HEAD"}) as reader:
        for command in ("init --quiet", "add --all", "commit --quiet -m cloned"):
            subprocess.run(
                ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command.split()],
                cwd=folder,
                check=True,
            )
        pages = [README, DOCS / "zoo.md", DOCS / "catalog.md"]
        printed = "\n".join(text for page in pages for text in reader.follow(page))

    assert re.search(r"sst2 +accuracy +\d+\.\d\d", printed)
    assert (folder / "merged" / "mnli" / "config.json").is_file()
    assert "\ntensor([[" in printed

    assert "computed 12 Fishers, 28 merges, 32 evaluations, took nothing from the store" in printed
    assert (
        "\ncomputed nothing, took 12 Fishers, 28 merges, 32 evaluations from the store\n" in printed
    )
    summary = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert not summary["failed"]
    assert summary["computed"] == {"fisher": 0, "merge": 0, "evaluate": 0}
    assert (folder / ".fmn" / "prefect" / "prefect.db").is_file()
    assert "every record is whole" in printed

    assert (
        "results/scores.json: computed nothing, took 12 Fishers, 28 merges, 32 evaluations from "
        "the store" in printed
    )
    assert (folder / "dvc_plots" / "index.html").is_file()


def test_the_recipe_and_the_task_are_what_they_claim() -> None:
    recipe, without_tasks = (
        parse(Recipe, yaml.safe_load(text), "recipes.md") for text in described("recipes.md")
    )
    assert recipe.models[0].task == "sst2"
    assert get_rule(recipe.method).settings(recipe.parameters) == recipe.parameters
    assert [(model.task, model.name) for model in without_tasks.models] == [
        (None, "sst2"),
        (None, "mnli"),
    ]
    task, language = (
        parse(Task, yaml.load(text, Loader=yaml.BaseLoader), "tasks.md")
        for text in described("tasks.md")
    )
    assert task.labels == ("no", "yes")
    assert language.is_language


def test_the_zoo_of_the_guide_is_the_demos_and_its_runner_the_default() -> None:
    zoo, _, runner = (yaml.safe_load(text) for text in described("zoo.md"))
    demo = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    assert parse(Params, zoo, "zoo.md") == parse(Params, demo, "params.yaml")
    assert parse(RunnerSettings, runner["runner"], "zoo.md") == RunnerSettings()


def test_the_sweep_of_the_guide_has_the_labels_that_it_says() -> None:
    _, sweep, _ = (yaml.safe_load(text) for text in described("zoo.md"))
    merge = parse(MergeSettings, sweep["merge"], "zoo.md")
    page = " ".join((DOCS / "zoo.md").read_text(encoding="utf-8").split())
    every = variants([(each.method, each.parameters) for each in merge.methods], merge.parameters)
    labels = ", ".join(f"`{each.label}`" for each in every)
    assert len(every) == 6
    assert f"{labels}." in page


def described(page: str) -> list[str]:
    """Return the blocks of YAML on a page."""
    return [block.text for block in blocks(DOCS / page) if block.language == "yaml"]


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def test_its_table_of_commands_has_them_all() -> None:
    _, _, section = README.read_text(encoding="utf-8").partition("\n## Commands\n")
    rows = re.findall(r"^\| `fmn (\w+) ?([^`]*)`", section, re.MULTILINE)
    assert {name for name, _ in rows} == set(main.commands)
    groups = {name: rest.split(" / ") for name, rest in rows if " / " in rest}
    assert groups.keys() >= {"catalog", "store", "fisher"}
    for name, below in groups.items():
        group = main.commands[name]
        assert isinstance(group, click.Group)
        assert {*below, "compute"} == {*group.commands, "compute"}


def test_params_yaml_describes_the_demo() -> None:
    described = parse(Params, yaml.safe_load((ROOT / "params.yaml").read_text()), "params.yaml")
    assert [model.task for model in described.models] == ["sst2", "mnli", "qqp", "cola"]
    assert len(list(described.combinations())) == 7


@pytest.mark.parametrize(
    "command", ["make demo", "make test", "make lint", "make docs", "make test-slow"]
)
def test_make_knows_what_is_asked_of_it(command: str) -> None:
    planned = subprocess.run(
        [*command.split(), "--dry-run"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert ".venv/bin/" in planned.stdout


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    pages = README.read_text(encoding="utf-8") + (ROOT / "CONTRIBUTING.md").read_text(
        encoding="utf-8"
    )
    named = set(re.findall(r"make (?:PYTHON=\S+ )?([a-z-]+)", pages))
    assert named
    assert named <= targets
