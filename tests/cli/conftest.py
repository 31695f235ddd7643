"""What the tests of the command line share: the small world, a way to run a command, and what a
refusal looks like."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fmn.cli import main
from tests.steps.world import LABELS, files

EVERY = ("fisher", "evaluate", "merge", "run")
"""The commands that open a model."""


def fmn(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def succeeded(result: Result) -> Result:
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def refused(result: Result, message: str) -> str:
    """Check that a command failed in one clear line on stderr, or in a list of offences; return
    it."""
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert lines[0].startswith("fmn: ")
    assert all(line.startswith("  - ") for line in lines[1:]), lines
    assert len(lines) == 1 or "reasons why" in lines[0]
    assert "Traceback" not in result.output
    assert re.search(message, result.stderr), result.stderr
    return result.stderr


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything that is in a directory but the store, which keeps what was finished before
    something failed."""
    contents = {str(path.relative_to(folder)): None for path in sorted(folder.rglob("*"))} | files(
        folder
    )
    return {path: content for path, content in contents.items() if Path(path).parts[0] != "store"}


@pytest.fixture
def copy(world, tmp_path):
    """Copy a model to break it."""

    def copied(task="sst2", name="broken"):
        return Path(shutil.copytree(world.model(task), tmp_path / name))

    return copied


@pytest.fixture
def nothing_runs(monkeypatch):
    """No model is loaded and no Fisher computed."""
    for name in ("fmn.fisher.mask_fisher", "fmn.fisher.diagonal_fisher", "fmn.models.load_model"):
        monkeypatch.setattr(name, lambda *a, **k: pytest.fail("expensive work started"))


@pytest.fixture
def refuse(world, tmp_path):
    """Run a command that has to fail, and see that it left nothing."""

    def run(message, *arguments):
        before = snapshot(tmp_path)
        output = refused(fmn(*arguments), message)
        assert snapshot(tmp_path) == before
        return output

    return run


@pytest.fixture
def commands(world, tmp_path):
    """Every command that opens a model, with the given one in it."""

    def made(model, task="sst2", data=None):
        data = data or world.data
        more = {"sst2": {"model": str(model), "task": task}}
        entries = [{"model": str(world.model(t)), "task": t, **more.get(t, {})} for t in LABELS]
        recipe = world.recipe(tmp_path / "recipe.yaml", data=data, models=more)
        params = world.params(tmp_path / "params.yaml", data=data, models=entries)
        out = tmp_path / "out"
        return {
            "fisher": (
                "fisher",
                model,
                "--task",
                task,
                "--data",
                data,
                "--samples",
                8,
                "--out",
                out,
            ),
            "evaluate": ("evaluate", model, "--task", task, "--data", data),
            "merge": ("merge", recipe, "--out", out),
            "run": ("run", params, "--out", out),
        }

    return made
