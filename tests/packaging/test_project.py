"""What pyproject.toml promises of the core, of the extras and of versions."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fmn.__main__ import main
from fmn.extras import EXTRAS

ROOT = Path(__file__).parents[2]
CONTENT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = CONTENT["project"]
OPTIONAL = PROJECT["optional-dependencies"]
PINNED = {
    canonicalize_name(line.split("==")[0])
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line and not line.startswith("#")
}

PARAMS = "{store: store, models: [{model: a, task: sst2}, {model: b, task: rte}]}"


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def test_the_core_is_small():
    assert len(names(PROJECT["dependencies"])) == len(PROJECT["dependencies"]) <= 15
    optional = set().union(*(names(OPTIONAL[extra]) for extra in EXTRAS))
    assert not names(PROJECT["dependencies"]) & optional


def test_all_is_every_extra_of_fmn():
    (every,) = OPTIONAL["all"]
    assert Requirement(every).extras == set(EXTRAS)
    assert Requirement(every).name == PROJECT["name"]


@pytest.mark.parametrize(
    ("extra", "package"), [(extra, package) for extra, names in EXTRAS.items() for package in names]
)
def test_an_extra_brings_what_fmn_imports_of_it(extra, package):
    brought = {canonicalize_name(name) for name in packages_distributions()[package]}
    assert brought & names(OPTIONAL[extra])


def test_versions_are_held_for_whatever_is_installed():
    asked = names(PROJECT["dependencies"]).union(*map(names, OPTIONAL.values()))
    assert asked - {PROJECT["name"]} - {"psutil", "types-psutil"} <= PINNED


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("store", "run params.yaml"),
        ("store", "catalog ls --store s3://bucket/prefix"),
        ("flow", "flow run"),
        ("flow", "flow deploy"),
        ("report", "report --store store"),
        ("report", "reproduce"),
        ("report", "inspect fisher.safetensors --plot picture.svg"),
        ("dvc", "store dvc-remote store --write"),
    ],
)
def test_a_command_says_which_extra_it_needs(extra, command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path("params.yaml").write_text(PARAMS)
    for package in EXTRAS[extra]:
        monkeypatch.setitem(sys.modules, package, None)
    for module in [name for name in sys.modules if name.split(".")[:2] == ["fmn", "flows"]]:
        monkeypatch.delitem(sys.modules, module)
    done = CliRunner().invoke(main, command.split())
    assert done.exit_code == 1, (done.output, done.exception)
    line = rf"fmn: .* needs \w+, which is not installed; .* '{PROJECT['name']}\[{extra}\]'\n"
    assert re.fullmatch(line, done.stderr), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dvc", "params.yaml"]


def test_git_ignores_no_file_of_the_package():
    """For the wheel leaves out what git ignores."""
    files = [
        str(path)
        for path in sorted((ROOT / "fmn").rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert str(ROOT / "fmn" / "steps" / "reproduce" / "paper" / "table1.csv") in files
    assert CONTENT["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["fmn"]}
    command = ["git", "check-ignore", "--no-index", "--stdin"]
    lines = "\n".join(files)
    asked = subprocess.run(command, cwd=ROOT, input=lines, capture_output=True, text=True)
    assert (asked.returncode, asked.stdout) == (1, ""), asked.stderr


def workflow(name: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"].partition(" #")[0] for step in job["steps"] if "run" in step]


def test_ci_runs_what_the_repository_says_of_itself():
    assert ".ci/run" in commands(workflow("ci")["jobs"]["run"])
    assert "wheel-check" in (ROOT / ".ci" / "run").read_text().split()


def test_a_release_is_checked_and_published_without_a_token():
    jobs = workflow("release")["jobs"]
    assert "make wheel-check" in commands(jobs["build"])
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()
    wheel = PROJECT["name"].replace("-", "_")
    assert any(f"dist/{wheel}-" in command for command in commands(jobs["build"]))


def test_commits_are_held_to_what_lint_is():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][-1]["hooks"]
    makefile = (ROOT / "Makefile").read_text()
    lint = re.search(r"^lint: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert lint
    asked = {line.split("/")[-1].removesuffix(" .") for line in lint[1].splitlines()}
    done = {hook["entry"].removeprefix(".venv/bin/").removesuffix(" --fix") for hook in hooks}
    assert done == {line.replace(" --check", "") for line in asked}


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_a_template_asks_for_something(file):
    template = yaml.safe_load(file.read_text())
    if file.name != "config.yml":
        assert {"name", "description", "body"} <= template.keys()
        assert any(part["type"] == "textarea" for part in template["body"])
