import shutil
from itertools import combinations

import numpy as np
import pytest

from fmn.checkpoint import open_checkpoint, write
from fmn.errors import CheckpointError, DataError, MergeError, ParamsError
from fmn.params import read_params
from fmn.recipe import read_recipe
from fmn.steps.context import Context
from fmn.steps.measure import evaluate_path
from fmn.steps.recipe import merge_recipe
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.leaderboard import Row, ZooReport, zoo_report
from fmn.steps.zoo.run import run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import open_store
from tests.steps.conftest import Notes
from tests.steps.test_evaluate import permuted
from tests.steps.test_merge import fisher_file, refuse_to_compute
from tests.steps.world import LABELS, columns_of, write_split

METHODS = ("average", "mask-fisher", "fisher")


def report_of(params, context):
    graph, store = Graph(open_zoo(params, context.memo)), open_store(params.store)
    run_zoo(graph, store, context)
    return zoo_report(graph, store)


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):
    params = read_params(
        world.params(
            tmp_path_factory.mktemp("zoo") / "params.yaml", merge={"methods": list(METHODS)}
        )
    )
    context = Context(device="cpu", report=Notes())
    return params, report_of(params, context), context


def test_every_combination_by_every_method(run):
    _, report, _ = run
    sets = [set(tasks) for size in (2, 3) for tasks in combinations(LABELS, size)]
    assert [(row.method, set(row.scores)) for row in report.rows] == [
        (method, tasks) for tasks in sets for method in METHODS
    ]
    assert report.individual == dict.fromkeys(LABELS, 1.0)
    assert {
        "mask-fisher",
        "diagonal-fisher",
        "individual evaluation",
        "evaluation of merges",
    } == set(report.seconds)
    assert all(seconds > 0 for seconds in report.seconds.values())


def test_is_what_a_merge_to_disk_scores(run, world, tmp_path):
    params, report, _ = run
    context = Context(device="cpu", report=Notes())
    checked = set()
    for row in report.rows:
        if tuple(row.scores) not in (("sst2", "rte"), tuple(LABELS)):
            continue
        out = tmp_path / f"{row.method}{len(row.scores)}"
        merge_recipe(
            read_recipe(
                world.recipe(tmp_path / "recipe.yaml", tuple(row.scores), method=row.method)
            ),
            out,
            context,
        )
        scores = {
            score.task: score.headline
            for score in evaluate_path(str(out), [], world.data, params.evaluate, context)
        }
        assert scores == row.scores
        checked.update(scores.values())
    assert len(checked) > 3  # scores differ: the merges are neither perfect nor all alike


def test_normalised_is_merged_by_individual():
    row = Row("average", {"a": 0.4, "b": 0.9, "c": 0.5})
    report = ZooReport(
        {"a": 0.8, "b": 0.9, "c": 0.0}, [row, Row("fisher", {"a": 0.8, "b": 0.9})], {"merging": 1.0}
    )
    assert report.normalized(row) == {"a": 0.5, "b": 1.0, "c": 0.0}
    assert report.mean(row) == 0.5
    assert (report.mean_of("fisher"), report.mean_of("average", 3)) == (1.0, 0.5)
    assert (report.sizes(), report.sizes("fisher"), report.sizes("average")) == ([2, 3], [2], [3])
    assert report.as_json()["merges"][0]["normalized_mean"] == 0.5
    assert report.as_json()["mean_normalized"] == {"average": 0.5, "fisher": 1.0}


def test_one_bar_over_all_steps_of_a_kind(run):
    assert run[2].report.bars == {
        "fisher": (6, 6),
        "evaluate models": (3, 3),
        "merge": (12, 12),
        "evaluate merges": (12, 12),
    }
    assert run[2].report.warnings == []


def zoo(world, tmp_path, context=None, **settings):
    params = read_params(world.params(tmp_path / "params.yaml", **settings))
    return report_of(params, context or Context(device="cpu", report=Notes()))


def entries(world, **more):
    return [
        {"model": str(world.model(task)), "task": task, **more.get(task, {})} for task in LABELS
    ]


def test_sizes_and_settings(world, tmp_path):
    report = zoo(
        world, tmp_path, merge={"methods": ["average"], "sizes": [3]}, evaluate={"limit": 7}
    )
    assert [set(row.scores) for row in report.rows] == [set(LABELS)]
    assert all((7 * score) % 1 == pytest.approx(0) for score in report.rows[0].scores.values())


def test_given_fishers_are_used_where_they_are_of_the_right_kind(run, world, tmp_path, monkeypatch):
    _, computed, _ = run
    files = {
        task: {"fisher": str(fisher_file(world, tmp_path / f"{task}.safetensors", task))}
        for task in LABELS
    }
    monkeypatch.setattr(
        "fmn.fisher.mask_fisher", lambda *a, **k: pytest.fail("computed what was given")
    )
    report = zoo(world, tmp_path, models=entries(world, **files), merge={"methods": list(METHODS)})
    assert [row.scores for row in report.rows] == [row.scores for row in computed.rows]


def test_other_weights_than_the_entry_says_are_refused(world, tmp_path, monkeypatch):
    refuse_to_compute(monkeypatch)
    with pytest.raises(CheckpointError, match="resolved with other weights"):
        zoo(world, tmp_path, models=entries(world, rte={"digest": "f" * 64}))


def test_everything_is_checked_before_the_first_model_runs(world, tmp_path, monkeypatch):
    refuse_to_compute(monkeypatch)
    with pytest.raises(CheckpointError, match="no directory /nowhere/rte"):
        zoo(world, tmp_path, models=entries(world, rte={"model": "/nowhere/rte"}))
    with pytest.raises(MergeError, match="mask Fisher of another model"):
        zoo(
            world,
            tmp_path,
            models=entries(world, rte={"fisher": fisher_of_ones(world, tmp_path, "sst2")}),
        )
    with pytest.raises(ParamsError, match="unknown merge method"):
        zoo(world, tmp_path, merge={"methods": ["average", "avrage"]})
    with pytest.raises(DataError, match="do not match those of task sst2"):
        zoo(world, tmp_path, models=entries(world, sst2={"model": str(world.model("rte"))}))
    shutil.copytree(world.data, tmp_path / "data")
    columns = columns_of("rte", 8, seed=0)
    write_split(tmp_path / "data", "rte", "validation", {**columns, "label": [9] * 8})
    with pytest.raises(DataError, match=r"rte.*has label 9"):
        zoo(world, tmp_path, data=str(tmp_path / "data"))


def fisher_of_ones(world, tmp_path, task):
    """A Fisher that says it is of a task's model, written without computing anything."""
    sizes = (("attention", 2), ("feed_forward", 24))
    tensors = {
        f"layer.{layer}.{part}": np.ones(size, np.float32)
        for layer in (0, 1)
        for part, size in sizes
    }
    metadata = {"kind": "mask-fisher", "format_version": "1", "model_type": "bert"}
    write(
        tmp_path / "ones.safetensors",
        tensors,
        {**metadata, "model": open_checkpoint(world.model(task)).digest()},
    )
    return str(tmp_path / "ones.safetensors")


def test_permuted_labels_are_said_once(world, tmp_path):
    notes = Notes()
    folder = permuted(world, tmp_path, "sst2", [1, 0])
    zoo(
        world,
        tmp_path,
        Context(device="cpu", report=notes),
        models=entries(world, sst2={"model": str(folder)}),
    )
    (warning,) = notes.warnings
    assert "labels look permuted" in warning
