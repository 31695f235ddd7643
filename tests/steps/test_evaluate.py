import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertModel

from fmn.checkpoint import open_checkpoint
from fmn.errors import CheckpointError, DataError, ParamsError
from fmn.evaluation import (
    encode,
    get_task,
    interval,
    load_split,
    read_predictions,
    resampled,
)
from fmn.params import EvaluateSettings
from fmn.recipe import read_recipe
from fmn.steps.evaluate import EvaluateStep
from fmn.steps.measure import evaluate_path, merged_entries
from fmn.steps.recipe import merge_recipe
from tests.evaluation.conftest import make_tokenizer
from tests.steps.conftest import object_of
from tests.steps.world import LABELS, columns_of, permute, save, write_split, write_yaml

MEASURED = ("individual", "evaluate")


def scores(world, path, context, tasks=(), data=None, labels=None, **settings):
    return evaluate_path(
        str(path), tasks, data or world.data, EvaluateSettings(**settings), context, labels=labels
    )


@pytest.fixture
def merged(world, context, tmp_path):
    merge_recipe(
        read_recipe(world.recipe(tmp_path / "recipe.yaml", method="average")),
        tmp_path / "merged",
        context,
    )
    return tmp_path / "merged"


def accuracy(model, world, task, split="validation", limit=None):
    rows = load_split(world.data, get_task(task), split)
    ((_, batch),) = encode(make_tokenizer(), rows, 128).batches(1000, order="file")
    labels = batch.pop("labels").numpy()
    with torch.no_grad():
        return float(np.mean((model(**batch).logits.argmax(1).numpy() == labels)[:limit]))


def test_a_model_scores_what_it_scores_by_hand(world, context):
    model = world.load("sst2")
    for parameter, other in zip(
        model.bert.parameters(), world.load("rte").bert.parameters(), strict=True
    ):
        parameter.data = (parameter.data + other.data) / 2  # so that it is sometimes wrong
    step = EvaluateStep(
        open_checkpoint(world.model("sst2")),
        get_task("sst2"),
        world.data,
        EvaluateSettings(limit=25),
        context.memo,
    )
    score = step.compute(context, model)
    assert score.metrics == {"accuracy": accuracy(model, world, "sst2", limit=25)}
    assert 0 < score.headline < 1
    assert (score.task, score.examples) == ("sst2", 25)
    assert score.seconds > 0


def test_a_record_says_how_sure_its_scores_are(ran):
    """Of what was predicted, anybody computes the scores and their intervals again."""
    store, graph = ran.store, ran.open()
    steps = {kind: [graph.step(each) for each in graph.of(kind)] for kind in MEASURED}
    for step in (each for kind in MEASURED for each in steps[kind]):
        record = store.get("evaluate", step.key)
        predicted = read_predictions(store.path(record.outputs["predictions"]))
        assert predicted.keys() == record.value["scores"].keys()
        for name, scores in record.value["scores"].items():
            splits = predicted[name].splits
            assert splits.keys() == ({"", "mismatched"} if name == "mnli" else {""})
            for suffix, split in splits.items():
                metric = "accuracy" + f"_{suffix}" * bool(suffix)
                right = split.predicted == split.references
                assert scores[metric] == right.mean()
                values = resampled(["accuracy"], split.predicted, split.references)["accuracy"]
                low, high = record.value["intervals"][name][metric]
                assert (low, high) == interval(values)
                assert low <= scores[metric] <= high
                commonest = np.bincount(split.references).max() / len(right)
                assert record.value["chance"][name][metric] == commonest
                if not suffix:
                    np.testing.assert_allclose(predicted[name].resampled, values, atol=1e-7)


def test_predictions_that_are_lost_are_measured_again_and_old_scores_are_not(ran):
    graph, store = ran.open(), ran.store
    step = graph.step(next(iter(graph.of("individual"))))
    record = store.get("evaluate", step.key)
    lost = object_of(store, record.outputs["predictions"].md5)
    before = lost.read_bytes()
    lost.unlink()
    assert ran.computed() == {"evaluate": 1}
    assert lost.read_bytes() == before
    old = {name: record.value[name] for name in ("scores", "examples")}
    store.drop(record.address)
    without = record.model_copy(update={"value": old, "outputs": {}})
    (Path(store.url) / record.path).write_bytes(without.to_bytes())
    assert ran.computed() == {}
    assert ran.store.get("evaluate", step.key) == without


def test_every_validation_split_is_measured(world, context):
    (score,) = scores(world, world.model("mnli"), context, ["mnli"])
    assert score.metrics == {
        name: accuracy(world.load("mnli"), world, "mnli", split)
        for name, split in (
            ("accuracy", "validation_matched"),
            ("accuracy_mismatched", "validation_mismatched"),
        )
    }
    assert score.examples == 80
    (one,) = scores(world, world.model("mnli"), context, ["mnli"], split="validation_mismatched")
    assert one.metrics == {"accuracy": score.metrics["accuracy_mismatched"]}


def test_a_merge_is_measured_on_all_of_its_tasks_or_on_some(world, context, merged):
    every = scores(world, merged, context)
    assert [score.task for score in every] == ["rte", "sst2"]
    for score in every:
        model = type(world.load(score.task)).from_pretrained(merged / score.task).eval()
        assert score.headline == accuracy(model, world, score.task)
    (one,) = scores(world, merged, context, ["sst2"])
    assert one.metrics == every[1].metrics


def test_a_merge_brings_its_labels_and_others_can_be_given(world, context, tmp_path):
    model = world.load("sst2")
    permute(model, [1, 0])
    more = {
        "model": str(save(model, tmp_path / "model", ["A", "B"])),
        "labels": {"A": "positive", "B": "negative"},
    }
    recipe = read_recipe(
        world.recipe(tmp_path / "recipe.yaml", method="average", models={"sst2": more})
    )
    merge_recipe(recipe, tmp_path / "merged", context)
    merge_recipe(
        read_recipe(world.recipe(tmp_path / "plain.yaml", method="average")),
        tmp_path / "plain",
        context,
    )
    (score,) = scores(world, tmp_path / "merged", context, ["sst2"])
    (plain,) = scores(world, tmp_path / "plain", context, ["sst2"])
    assert score.headline == plain.headline
    assert score.headline != 0.5
    (other,) = scores(
        world, tmp_path / "merged", context, ["sst2"], labels={"A": "negative", "B": "positive"}
    )
    assert other.headline == pytest.approx(1 - score.headline)


def permuted(world, tmp_path, task, order):
    model = world.load(task)
    permute(model, order)
    return save(model, tmp_path / "permuted", [f"LABEL_{number}" for number in range(len(order))])


@pytest.mark.parametrize(
    ("task", "order", "line"),
    [
        ("sst2", [1, 0], "labels: {LABEL_0: positive, LABEL_1: negative}"),
        (
            "mnli",
            [1, 2, 0],
            "labels: {LABEL_0: neutral, LABEL_1: contradiction, LABEL_2: entailment}",
        ),
    ],
)
def test_permuted_labels_are_found(task, order, line, world, context, tmp_path):
    (score,) = scores(world, permuted(world, tmp_path, task, order), context, [task])
    assert score.headline < 0.1
    (warning,) = context.report.warnings
    assert (
        f"permuted: {task}: accuracy is below chance; the model's labels look permuted: on 48 "
        "training examples" in warning
    )
    assert f"`{line}`" in warning


def test_following_the_warning_mends_it(world, context, tmp_path):
    folder = permuted(world, tmp_path, "sst2", [1, 0])
    (score,) = scores(
        world, folder, context, ["sst2"], labels={"LABEL_0": "positive", "LABEL_1": "negative"}
    )
    assert score.headline == 1
    assert context.report.warnings == []


def test_a_score_below_chance_needs_no_training_data(world, context, tmp_path):
    write_split(tmp_path / "data", "sst2", "validation", columns_of("sst2", 30, seed=1))
    folder = permuted(world, tmp_path, "sst2", [1, 0])
    (score,) = scores(world, folder, context, ["sst2"], data=str(tmp_path / "data"))
    assert score.headline == 0
    assert context.report.warnings == [f"{folder}: sst2: accuracy 0.0% is far below chance"]


def test_a_limit_may_be_larger_than_the_split(world, context):
    (score,) = scores(world, world.model("sst2"), context, ["sst2"], limit=1000)
    assert score.examples == 40
    assert context.report.warnings == []


def test_a_task_of_ones_own(world, context, tmp_path, monkeypatch):
    task = {
        "name": "reviews",
        "columns": ["sentence"],
        "labels": ["negative", "positive"],
        "metrics": ["accuracy"],
    }
    file = write_yaml(tmp_path / "opinions.yaml", task)  # it need not be called as its data
    for name, source in (("reviews", "sst2"), ("rte", "rte")):
        shutil.copytree(f"{world.data}/{source}", tmp_path / "data" / name)
    data = str(tmp_path / "data")
    recipe = world.recipe(
        tmp_path / "recipe.yaml", data=data, method="average", models={"sst2": {"task": str(file)}}
    )
    merge_recipe(read_recipe(recipe), tmp_path / "merged", context)
    assert [score.task for score in scores(world, tmp_path / "merged", context, data=data)] == [
        "reviews",
        "rte",
    ]
    (score,) = scores(world, tmp_path / "merged", context, [str(file)], data=data)
    assert score.task == "reviews"


def test_what_does_not_fit_is_said_before_the_first_model_runs(
    world, context, merged, tmp_path, monkeypatch
):
    monkeypatch.setattr("fmn.models.load_model", lambda path: pytest.fail("loaded"))
    with pytest.raises(ParamsError, match="is one model: say which task it is measured on"):
        scores(world, world.model("sst2"), context)
    with pytest.raises(ParamsError, match=r"no task 'mnli' in the merge .*; there are: rte, sst2"):
        scores(world, merged, context, ["sst2", "mnli"])
    with pytest.raises(DataError, match=r"the model's labels .* do not match those of task rte"):
        scores(world, world.model("sst2"), context, ["sst2", "rte"])
    shutil.copytree(f"{world.data}/rte", tmp_path / "data" / "rte")
    with pytest.raises(DataError, match=r"no directory .*sst2.* \(there: rte\)"):
        scores(world, merged, context, data=str(tmp_path / "data"))
    write_split(tmp_path / "data", "sst2", "validation", {"sentence": ["a cat"], "label": [7]})
    with pytest.raises(DataError, match="has label 7, outside task sst2's 0 negative, 1 positive"):
        scores(world, merged, context, data=str(tmp_path / "data"))


def test_a_merge_that_lost_a_directory(world, context, merged):
    shutil.rmtree(merged / "rte")
    with pytest.raises(
        DataError, match=r"lacks the directory of task rte that its recipe\.yaml names; merge again"
    ):
        merged_entries(merged)


def test_a_model_without_a_task_head(world, context, tmp_path):
    folder = shutil.copytree(world.model("sst2"), tmp_path / "model")
    BertModel.from_pretrained(folder).save_pretrained(folder)
    with pytest.raises(
        CheckpointError,
        match=r"model is a BertModel; task .* needs a model for sequence classification",
    ):
        scores(world, folder, context, ["sst2"])


def test_label_names_of_three_tasks_are_read(world, context):
    assert all(
        scores(world, world.model(task), context, [task])[0].headline == 1 for task in LABELS
    )
