"""The README's commands do what it says: its blocks are executed, on a demo zoo that learnt for a few steps only."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from rich.console import Console
from rich.progress import Progress

from fmn.evaluation import Task
from fmn.params import Params, RunnerSettings
from fmn.recipe import Recipe
from fmn.schema import parse

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the demo's zoo in it, and a virtual environment to activate that is this one."""
    from fmn.demo.settings import Settings
    from fmn.demo.train import Schedule
    from fmn.demo.zoo import build

    folder = tmp_path_factory.mktemp("newcomer")
    brief = Schedule(steps=5, learning_rate=1e-3, batch_size=8)
    quick = replace(Settings(), passages=200, train_rows=150, validation_rows=60, pretraining=brief, threads=1)
    build(
        folder / "demo",
        replace(quick, fine_tuning=dict.fromkeys(quick.fine_tuning, brief)),
        Progress(console=Console(quiet=True)),
    )
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    return folder


def run(script: str, folder: Path) -> str:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    environment.pop("PREFECT_HOME", None)  # as for a newcomer, the project keeps it
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_merge_in_the_shell(folder: Path) -> None:
    said = run(blocks("shell")[0], folder)
    assert "merged" in said
    assert re.search(r"sst2 +accuracy +\d+\.\d\d", said)
    assert (folder / "merged" / "mnli" / "config.json").is_file()


def test_a_zoo(folder: Path) -> None:
    shutil.copy(ROOT / "params.yaml", folder)
    said = run(blocks("shell")[1], folder)
    assert "computed 8 Fishers, 21 merges, 25 evaluations, took nothing from the store" in said
    assert "computed nothing, took 8 Fishers, 21 merges, 25 evaluations from the store" in said
    assert "every record is whole" in said
    assert json.loads((folder / "run.json").read_text())["computed"] == {"fisher": 8, "merge": 21, "evaluate": 25}
    assert (folder / ".fmn" / "prefect" / "prefect.db").is_file()


def test_the_first_merge_in_python(folder: Path) -> None:
    (script,) = blocks("python")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tensor([[")


def test_the_recipe_and_the_task_are_what_they_claim() -> None:
    runner, recipe, task = blocks("yaml")
    assert parse(RunnerSettings, yaml.safe_load(runner)["runner"], "README") == RunnerSettings()
    assert parse(Recipe, yaml.safe_load(recipe), "README").models[0].task == "sst2"
    assert parse(Task, yaml.load(task, Loader=yaml.BaseLoader), "README").labels == ("no", "yes")


def test_params_yaml_describes_the_demo() -> None:
    described = parse(Params, yaml.safe_load((ROOT / "params.yaml").read_text()), "params.yaml")
    assert [model.task for model in described.models] == ["sst2", "mnli", "qqp", "cola"]
    assert len(list(described.combinations())) == 7


def test_every_make_target_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = set(re.findall(r"make (?:PYTHON=\S+ )?([a-z-]+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert named
    assert named <= targets
