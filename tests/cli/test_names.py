"""Two models of one task: each has a name of its own, everywhere."""

import json

import pytest

from tests.cli.conftest import fmn, refused, succeeded
from tests.steps.world import LABELS, save, write_yaml


@pytest.fixture
def models(world, tmp_path):
    other = world.load("sst2")
    other.bert.pooler.dense.weight.data *= 0.5
    folder = save(other, tmp_path / "other", LABELS["sst2"])
    return [
        {"model": str(world.model("sst2")), "task": "sst2", "name": "first"},
        {"model": str(folder), "task": "sst2", "name": "second"},
        {"model": str(world.model("rte")), "task": "rte"},
    ]


def test_a_recipe(models, world, tmp_path):
    recipe = write_yaml(tmp_path / "recipe.yaml", {"method": "average", "models": models})
    out = tmp_path / "merged"
    assert (
        "load " + ", ".join(str(out / n) for n in ("first", "rte", "second"))
        in succeeded(fmn("merge", recipe, "--out", out)).stdout
    )
    assert sorted(path.name for path in out.iterdir()) == [
        "backbone",
        "first",
        "recipe.yaml",
        "rte",
        "second",
    ]
    scores = json.loads(succeeded(fmn("evaluate", out, "--data", world.data, "--json")).stdout)
    assert list(scores) == ["first", "rte", "second"]
    some = json.loads(
        succeeded(fmn("evaluate", out, "--task", "second", "--data", world.data, "--json")).stdout
    )
    assert some["second"]["accuracy"] == scores["second"]["accuracy"]
    printed = succeeded(fmn("evaluate", out, "--data", world.data)).stdout
    assert [line.split()[0] for line in printed.splitlines() if "accuracy" in line] == [
        "first",
        "rte",
        "second",
    ]
    refused(
        fmn("evaluate", out, "--task", "sst2", "--data", world.data),
        "no task 'sst2' in the merge .*: first, rte, second",
    )
    succeeded(fmn("merge", out / "recipe.yaml", "--out", tmp_path / "again"))


def test_a_recipe_whose_names_meet(models, tmp_path):
    del models[0]["name"], models[1]["name"]
    recipe = write_yaml(tmp_path / "recipe.yaml", {"method": "average", "models": models})
    refused(fmn("merge", recipe, "--out", tmp_path / "merged"), "a second model for task 'sst2'")


def test_a_zoo(models, world, tmp_path):
    params = world.params(tmp_path / "params.yaml", models=models, merge={"methods": ["average"]})
    succeeded(fmn("run", params, "--out", tmp_path / "out.json"))
    report = json.loads((tmp_path / "out.json").read_text())
    assert set(report["individual"]) == {"first", "second", "rte"}
    sets = [set(merge["scores"]) for merge in report["merges"]]
    assert sets == [
        {"first", "second"},
        {"first", "rte"},
        {"second", "rte"},
        {"first", "second", "rte"},
    ]
