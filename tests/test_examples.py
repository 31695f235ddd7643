"""The params files that we ship are read, and planned where their models can be had."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fmn.evaluation import task_names
from fmn.params import read_params
from tests.cli.conftest import fmn, succeeded
from tests.steps.world import World

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "params.yaml", *sorted(ROOT.glob("examples/*/params.yaml"))]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_every_params_file_is_one(file: Path) -> None:
    params = read_params(file)
    assert params.count() == len(list(params.combinations())) > 2
    assert {model.task for model in params.models} <= set(task_names())


def test_the_papers_zoo_is_six_models_in_57_combinations() -> None:
    params = read_params(ROOT / "examples/glue-bert-base/params.yaml")
    assert (len(params.models), params.count()) == (6, 57)
    assert all(model.model.count("/") == 1 for model in params.models)


def test_the_local_zoo_runs_where_its_directories_are(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, task in {"sentiment-a": "sst2", "sentiment-b": "sst2", "entailment": "rte"}.items():
        shutil.copytree(world.model(task), tmp_path / "models" / name)
    shutil.copytree(world.data, tmp_path / "data")
    shutil.copy(ROOT / "examples/local/params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    # the two sentiment models are copies of one here, so they share a Fisher
    assert (
        "computed 4 Fishers, 6 merges, 9 evaluations, 3 models, took 2 Fishers"
        in succeeded(fmn("run")).stdout
    )
