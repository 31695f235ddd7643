import json

import numpy as np
import pytest

from fmn.evaluation import get_task, load_split
from tests.cli.conftest import fmn, succeeded
from tests.steps.test_evaluate import permuted


@pytest.fixture(scope="module")
def merged(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("merge")
    recipe = world.recipe(folder / "recipe.yaml", ("sst2", "mnli", "rte"), method="average")
    succeeded(fmn("merge", recipe, "--out", folder / "merged"))
    return folder / "merged"


def scores(world, *arguments):
    return json.loads(succeeded(fmn("evaluate", *arguments, "--data", world.data, "--json")).stdout)


def test_json(world):
    entry = scores(world, world.model("mnli"), "--task", "mnli")["mnli"]
    assert entry.pop("seconds") >= 0
    chance = entry.pop("chance")
    assert entry == {
        "accuracy": 1.0,
        "accuracy_mismatched": 1.0,
        "examples": 80,
        "intervals": {"accuracy": [1.0, 1.0], "accuracy_mismatched": [1.0, 1.0]},
    }
    for name, share in chance.items():
        split = name.replace("accuracy", "validation").removesuffix("_mismatched")
        split += "_mismatched" if "mismatched" in name else "_matched"
        labels = load_split(world.data, get_task("mnli"), split).labels
        assert share == np.bincount(labels).max() / len(labels)
    assert (
        scores(world, world.model("sst2"), "--task", "sst2", "--limit", 7)["sst2"]["examples"] == 7
    )
    assert (
        scores(world, world.model("sst2"), "--task", "sst2", "--split", "train")["sst2"]["examples"]
        == 48
    )


def test_a_table(world):
    result = succeeded(fmn("evaluate", world.model("mnli"), "--task", "mnli", "--data", world.data))
    lines = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert lines[0] == ["task", "metric", "score", "interval", "chance", "examples", "seconds"]
    assert lines[2][:5] == ["mnli", "accuracy", "100.00", "[100.00,", "100.00]"]
    assert lines[2][6] == "80"
    assert lines[3][:4] == ["accuracy_mismatched", "100.00", "[100.00,", "100.00]"]
    assert result.stderr == ""


def test_a_merge(world, merged):
    every = scores(world, merged)
    assert list(every) == ["mnli", "rte", "sst2"]
    some = scores(world, merged, "--task", "sst2", "--task", "mnli")
    assert list(some) == ["sst2", "mnli"]
    assert some["sst2"]["accuracy"] == every["sst2"]["accuracy"]
    alone = scores(
        world, merged / "sst2", "--task", "sst2"
    )  # a task's directory is a model like any other
    assert alone["sst2"]["accuracy"] == every["sst2"]["accuracy"]


def test_a_model_whose_labels_are_permuted(world, tmp_path):
    folder = permuted(world, tmp_path, "sst2", [1, 0])
    result = succeeded(fmn("evaluate", folder, "--task", "sst2", "--data", world.data, "--json"))
    assert json.loads(result.stdout)["sst2"]["accuracy"] == 0
    assert result.stderr.startswith(
        f"warning: {folder}: sst2: accuracy is below chance; the model's labels look permuted"
    )
    assert "100.0% with `labels: {LABEL_0: positive, LABEL_1: negative}`" in result.stderr
    assert result.stderr.count("\n") == 1
    labels = result.stderr.split("labels: ")[1].split("`")[0]
    mended = succeeded(
        fmn(
            "evaluate",
            folder,
            "--task",
            "sst2",
            "--data",
            world.data,
            "--json",
            "--labels-map",
            labels,
        )
    )
    assert json.loads(mended.stdout)["sst2"]["accuracy"] == 1
    assert mended.stderr == ""


def test_a_labels_map_beats_that_of_a_merge(world, merged):
    straight = scores(world, merged, "--task", "sst2")["sst2"]["accuracy"]
    swapped = scores(
        world, merged, "--task", "sst2", "--labels-map", "{negative: positive, positive: negative}"
    )
    assert swapped["sst2"]["accuracy"] == pytest.approx(1 - straight)
    assert straight != 0.5
