"""The README's commands do what it says: its blocks are executed, on a demo zoo that learnt for a
few steps only."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fmn.evaluation import Task
from fmn.params import Params, RunnerSettings
from fmn.recipe import Recipe
from fmn.schema import parse
from tests.docs.blocks import ROOT, blocks
from tests.docs.reader import Reader

README = ROOT / "README.md"


@pytest.mark.slow
def test_from_the_first_merge_to_a_zoo_with_dvc(new_clone: Callable[[], Path]) -> None:
    folder = new_clone()
    with Reader(folder, {"REVISION": "HEAD"}) as reader:
        for command in ("init --quiet", "add --all", "commit --quiet -m cloned"):
            subprocess.run(
                ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *command.split()],
                cwd=folder,
                check=True,
            )
        said = "\n".join(reader.follow(README))

    assert re.search(r"sst2 +accuracy +\d+\.\d\d", said)
    assert (folder / "merged" / "mnli" / "config.json").is_file()
    assert "\ntensor([[" in said

    assert "computed 8 Fishers, 21 merges, 25 evaluations, took nothing from the store" in said
    assert "\ncomputed nothing, took 8 Fishers, 21 merges, 25 evaluations from the store\n" in said
    assert json.loads((folder / "run.json").read_text())["computed"] == {
        "fisher": 8,
        "merge": 21,
        "evaluate": 25,
    }
    assert (folder / ".fmn" / "prefect" / "prefect.db").is_file()
    assert "every record is whole" in said

    assert (
        "results/scores.json: computed nothing, took 8 Fishers, 21 merges, 25 evaluations from the "
        "store" in said
    )
    assert (folder / "dvc_plots" / "index.html").is_file()


def test_the_recipe_and_the_task_are_what_they_claim() -> None:
    runner, recipe, task, language = (
        block.text for block in blocks(README) if block.language == "yaml"
    )
    assert parse(RunnerSettings, yaml.safe_load(runner)["runner"], "README") == RunnerSettings()
    assert parse(Recipe, yaml.safe_load(recipe), "README").models[0].task == "sst2"
    assert parse(Task, yaml.load(task, Loader=yaml.BaseLoader), "README").labels == ("no", "yes")
    assert parse(Task, yaml.load(language, Loader=yaml.BaseLoader), "README").is_language


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
