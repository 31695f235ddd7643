"""Models that write text: fine-tuned on completions, merged by their mask Fishers, measured by the
tokens they get right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertLMHeadModel

from fmn.catalog import Catalog
from fmn.checkpoint import open_checkpoint
from fmn.errors import CheckpointError, MergeError
from fmn.evaluation import (
    Task,
    chosen_by,
    encode,
    get_task,
    interval,
    load_split,
    read_predictions,
    resampled,
)
from fmn.fisher import mask_fisher
from fmn.params import Params, read_params
from fmn.recipe import FisherSettings
from fmn.schema import parse
from fmn.statistics import get_statistic
from fmn.steps.context import Context
from fmn.steps.rederive import verify_merge, verify_scores
from fmn.steps.statistic import StatisticStep
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.run import run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import open_store
from tests.evaluation.conftest import make_tokenizer
from tests.steps.world import SIZES, World, teach, write_split, write_yaml

ANSWERS = {
    "echo": {"cat": "cat", "dog": "dog", "film": "film"},
    "swap": {"cat": "dog", "dog": "film", "film": "cat"},
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fine-tunes of one parent that answer a word in two ways, and their params.yaml."""
    folder = tmp_path_factory.mktemp("writers")
    tokenizer = make_tokenizer()
    for name, answers in ANSWERS.items():
        prompts = [
            f"the {word} {verb} " for word in answers for verb in ("sat", "ran", "was", "on")
        ]
        completions = [answers[prompt.split()[1]] for prompt in prompts]
        for split in ("train", "validation"):
            write_split(folder / "data", name, split, {"prompt": prompts, "answer": completions})
        write_yaml(
            folder / f"{name}.yaml",
            {"name": name, "columns": ["prompt"], "completion": "answer", "metrics": ["accuracy"]},
        )
        torch.manual_seed(0)
        model = BertLMHeadModel(BertConfig(**SIZES, is_decoder=True)).eval()
        teach(
            model,
            encode(tokenizer, load_split(str(folder / "data"), task(folder, name), "train"), 32),
        )
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_yaml(
        folder / "params.yaml",
        {
            "store": str(folder / "store"),
            "data": str(folder / "data"),
            "models": [
                {"model": str(folder / name), "task": str(folder / f"{name}.yaml")}
                for name in ANSWERS
            ],
            "merge": {"methods": ["average", "mask-fisher"]},
        },
    )
    return folder


def task(folder: Path, name: str) -> Task:
    return get_task(str(folder / f"{name}.yaml"))


def params(zoo: Path) -> Params:
    return read_params(zoo / "params.yaml")


def test_a_zoo_of_language_models_is_merged_measured_and_derived_again(
    zoo: Path, context: Context
) -> None:
    store = open_store(zoo / "store", cache=zoo / "cache")
    assert dict(run_zoo(Graph(open_zoo(params(zoo), context.memo)), store, context).computed) == {
        "fisher": 2,
        "merge": 2,
        "evaluate": 4,
    }
    assert dict(run_zoo(Graph(open_zoo(params(zoo), context.memo)), store, context).computed) == {}
    catalog = Catalog(store)
    best = catalog.best(["echo", "swap"])
    assert all(
        0 < score.value <= 1 and score.metrics.keys() == {"accuracy"}
        for score in best.scores.values()
    )
    assert all(score.individual == {"accuracy": 1} for score in best.scores.values()), (
        "each model knows its own task by heart"
    )
    verify_merge(catalog, best, context)
    assert verify_scores(catalog, best, context) == []


def test_scores_of_texts_have_intervals_and_can_be_parted(
    zoo: Path, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Examples are drawn and parted whole, with all their tokens."""
    store = open_store(zoo / "store", cache=tmp_path / "cache")
    run_zoo(Graph(open_zoo(params(zoo), context.memo)), store, context)
    described = params(zoo)
    halves = described.model_copy(
        update={"evaluate": described.evaluate.model_copy(update={"select": 0.5})}
    )
    monkeypatch.setattr("fmn.evaluation.evaluate", lambda *_, **__: pytest.fail("predicted"))
    run_zoo(Graph(open_zoo(halves, context.memo)), store, context)
    whole, parts = (Graph(open_zoo(each, context.memo)) for each in (described, halves))
    for each in whole.of("evaluate"):
        record, part = (store.get("evaluate", graph.step(each).key) for graph in (whole, parts))
        assert record and part
        predicted = read_predictions(store.path(record.outputs["predictions"]))
        for name, scores in record.value["scores"].items():
            split = predicted[name].splits[""]
            assert split.lengths is not None and len(split) == 12
            right = split.predicted == split.references
            assert scores["accuracy"] == right.mean()
            drawn = resampled(["accuracy"], split.predicted, split.references, split.lengths)
            assert drawn["accuracy"] is not None
            ends = interval(drawn["accuracy"])
            assert tuple(record.value["intervals"][name]["accuracy"]) == ends
            commonest = np.bincount(split.references).max() / len(right)
            assert record.value["chance"][name]["accuracy"] == commonest
            tokens = np.repeat(chosen_by(12, 0.5), split.lengths)
            assert part.value["scores"][name]["accuracy"] == right[~tokens].mean()
            assert part.value["selection"]["scores"][name]["accuracy"] == right[tokens].mean()
            assert part.value["examples"][name] == 6


def test_its_fisher_is_that_of_the_completions_tokens(zoo: Path, context: Context) -> None:
    checkpoint = open_checkpoint(zoo / "echo")
    step = StatisticStep(
        checkpoint,
        task(zoo, "echo"),
        str(zoo / "data"),
        get_statistic("mask"),
        FisherSettings(samples=12, seed=None),
        context.memo,
    )
    examples = encode(
        make_tokenizer(), load_split(str(zoo / "data"), task(zoo, "echo"), "train"), 128
    )
    batches = []
    for ids, targets in zip(examples.input_ids, examples.targets or (), strict=True):
        batches.append(
            {"input_ids": torch.tensor(ids)[None], "labels": torch.tensor(targets)[None]}
        )
    model = BertLMHeadModel.from_pretrained(zoo / "echo")
    ours, theirs = step.compute(context).nodes, mask_fisher(model, batches).nodes
    assert ours.keys() == theirs.keys()
    for node, values in ours.items():
        torch.testing.assert_close(values, theirs[node], rtol=1e-4, atol=1e-12)


def test_the_completion_is_part_of_the_key(zoo: Path, context: Context) -> None:
    def key(task: Task) -> str:
        return StatisticStep(
            checkpoint,
            task,
            str(zoo / "data"),
            get_statistic("mask"),
            FisherSettings(),
            context.memo,
        ).key

    checkpoint = open_checkpoint(zoo / "echo")
    whole = Task(name="echo", columns=(), labels=(), completion="answer", metrics=("accuracy",))
    assert key(task(zoo, "echo")) != key(whole)


@pytest.mark.parametrize(("of", "labels"), [("mask", "true"), ("diagonal", "sampled")])
def test_the_expectation_over_a_vocabulary_is_not_taken_unasked(
    zoo: Path, context: Context, of: str, labels: str
) -> None:
    checkpoint = open_checkpoint(zoo / "echo")
    step = StatisticStep(
        checkpoint,
        task(zoo, "echo"),
        str(zoo / "data"),
        get_statistic(of),
        FisherSettings(samples=2),
        context.memo,
    )
    assert step.inputs["settings"]["labels"] == labels == step.compute(context).labels


def test_models_that_do_not_do_what_the_task_asks_for(
    zoo: Path, world: World, context: Context
) -> None:
    def prepare(model: Path, task: Task) -> None:
        StatisticStep(
            open_checkpoint(model),
            task,
            str(zoo / "data"),
            get_statistic("mask"),
            FisherSettings(),
            context.memo,
        ).prepare(context)

    with pytest.raises(
        CheckpointError,
        match=r"is a BertForSequenceClassification; task echo needs a model that writes text",
    ):
        prepare(world.model("sst2"), task(zoo, "echo"))
    with pytest.raises(
        CheckpointError,
        match=r"is a BertLMHeadModel; task sst2 needs a model for sequence classification",
    ):
        prepare(zoo / "echo", get_task("sst2"))


def test_layers_are_fitted_to_models_that_classify(zoo):
    content = params(zoo).model_dump(exclude_unset=True)
    content["merge"] = {"methods": [{"method": "layerwise", "parameters": {"start": "average"}}]}
    with pytest.raises(MergeError, match="model echo: method layerwise fits layers to models"):
        open_zoo(parse(Params, content, "zoo"), Context().memo)
