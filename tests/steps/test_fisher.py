import json

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from fmn import diagonal_fisher, mask_fisher
from fmn.checkpoint import open_checkpoint
from fmn.errors import ArchitectureError, CheckpointError, DataError, FisherError
from fmn.evaluation import encode, get_task, load_split, sample
from fmn.recipe import FisherSettings
from fmn.statistics import get_statistic
from fmn.steps.statistic import StatisticStep, id2label
from fmn.store import Memo
from tests.evaluation.conftest import make_tokenizer
from tests.steps.world import LABELS, SIZES, permute, save, write_split


def step(world, task="sst2", kind="mask", model=None, labels=None, data=None, **settings):
    opened = open_checkpoint(model or world.model(task))
    options = FisherSettings(**{"samples": 16, **settings})
    return StatisticStep(
        opened, get_task(task), data or world.data, get_statistic(kind), options, Memo(), labels
    )


def close(one, other):
    pairs = list(zip(one.tensors(), other.tensors(), strict=True))
    assert pairs
    for (name, tensor), (other_name, expected) in pairs:
        assert name == other_name
        torch.testing.assert_close(tensor, expected, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("task", LABELS)
@pytest.mark.parametrize(
    ("kind", "compute"), [("mask", mask_fisher), ("diagonal", diagonal_fisher)]
)
def test_is_the_fisher_of_the_rows_that_were_drawn(task, kind, compute, world, context):
    rows = encode(
        make_tokenizer(), sample(load_split(world.data, get_task(task), "train"), 16, seed=3), 128
    )
    by_hand = compute(world.load(task), [batch for _, batch in rows.batches(1)])
    computed = step(world, task, kind, seed=3).compute(context)
    close(computed, by_hand)
    assert computed.examples == 16
    assert computed.labels == ("true" if kind == "mask" else "expected")
    assert list(context.report.bars.values()) == [(16, 16)]
    assert context.report.warnings == []


def test_no_seed_takes_the_first_in_file_order(world, context):
    first = encode(
        make_tokenizer(), load_split(world.data, get_task("sst2"), "train").take(range(16)), 128
    )
    close(
        step(world, seed=None).compute(context),
        mask_fisher(world.load("sst2"), [batch for _, batch in first.batches(16)]),
    )


@pytest.mark.parametrize("kind", ["mask", "diagonal"])
def test_the_batch_size_changes_nothing_beyond_rounding(kind, world, context):
    close(
        step(world, kind=kind, batch_size=1).compute(context),
        step(world, kind=kind, batch_size=7).compute(context),
    )


def test_per_batch_aggregation_takes_batches_in_file_order(world, context):
    rows = encode(
        make_tokenizer(), load_split(world.data, get_task("sst2"), "train").take(range(16)), 128
    )
    by_hand = mask_fisher(
        world.load("sst2"), [b for _, b in rows.batches(5, order="file")], aggregation="per-batch"
    )
    close(step(world, seed=None, batch_size=5, aggregation="per-batch").compute(context), by_hand)


@pytest.mark.parametrize(
    ("names", "labels"), [(True, None), (False, {"LABEL_0": "positive", "LABEL_1": "negative"})]
)
def test_a_model_whose_labels_are_permuted_has_the_same_fisher(
    names, labels, world, context, tmp_path
):
    model = world.load("sst2")
    permute(model, [1, 0])
    folder = save(
        model, tmp_path / "model", LABELS["sst2"][::-1] if names else ["LABEL_0", "LABEL_1"]
    )
    close(step(world, model=folder, labels=labels).compute(context), step(world).compute(context))


def test_three_labels_in_a_cycle(world, context, tmp_path):
    model = world.load("mnli")
    permute(model, [1, 2, 0])
    folder = save(model, tmp_path / "model", [LABELS["mnli"][k] for k in (1, 2, 0)])
    close(step(world, "mnli", model=folder).compute(context), step(world, "mnli").compute(context))
    # the test above could not fail if labels did not matter
    wrong = save(model, tmp_path / "wrong", LABELS["mnli"])
    with pytest.raises(AssertionError):
        close(
            step(world, "mnli", model=wrong).compute(context), step(world, "mnli").compute(context)
        )


def test_says_what_it_was_computed_from(world, context):
    fisher = step(world, max_length=9, seed=5).compute(context)
    assert fisher.model == open_checkpoint(world.model("sst2")).digest()
    drawn = encode(
        make_tokenizer(), sample(load_split(world.data, get_task("sst2"), "train"), 16, seed=5), 9
    )
    assert json.loads(fisher.data) == {
        "task": "sst2",
        "split": "train",
        "seed": 5,
        "max_length": 9,
        "digest": drawn.digest(),
    }


def test_more_than_there_are_is_said_once(world, context):
    wanting = step(world, samples=1000)
    assert len(wanting.prepare(context)) == 48
    assert wanting.compute(context).examples == 48
    assert context.report.warnings == [
        "sst2/train has only 48 examples; took all of them, not 1000"
    ]


def test_a_regression(world, context, tmp_path):
    columns = {
        "sentence1": ["a cat", "the dog sat", "a"],
        "sentence2": ["a dog", "it ran", "mat"],
        "label": [1.0, 4.5, 0.0],
    }
    write_split(tmp_path, "stsb", "train", columns)
    model = BertForSequenceClassification(BertConfig(**SIZES, num_labels=1)).eval()
    save(model, tmp_path / "model")
    rows = encode(make_tokenizer(), load_split(str(tmp_path), get_task("stsb"), "train"), 128)
    fisher = step(
        world, "stsb", model=tmp_path / "model", data=str(tmp_path), samples=3, seed=None
    ).compute(context)
    close(fisher, mask_fisher(model, [batch for _, batch in rows.batches(3)]))


def refuse_to_compute(monkeypatch):
    for name in ("fmn.fisher.mask_fisher", "fmn.fisher.diagonal_fisher", "fmn.models.load_model"):
        monkeypatch.setattr(name, lambda *a, **k: pytest.fail("expensive work started"))


def test_what_does_not_fit_is_said_before_the_model_is_loaded(
    world, context, tmp_path, monkeypatch
):
    refuse_to_compute(monkeypatch)
    with pytest.raises(DataError, match="task mnli has the 3 labels"):
        step(world, "mnli", model=world.model("sst2")).compute(context)
    with pytest.raises(
        DataError, match=r"task stsb has one number \(a regression\), but the model has 3 outputs"
    ):
        step(world, "stsb", model=world.model("mnli")).compute(context)
    with pytest.raises(
        DataError,
        match=r"the model's labels \(entailment, not_entailment\) do not match those of task sst2",
    ):
        step(world, "sst2", model=world.model("rte")).compute(context)
    with pytest.raises(DataError, match="is not a directory"):
        step(world, data=str(tmp_path / "nowhere")).compute(context)
    opened = open_checkpoint(world.model("sst2"))
    strange = type(opened)(
        opened.name,
        opened.path,
        {**opened.config, "model_type": "brt"},
        opened.tensors,
        opened.weight_files,
    )
    with pytest.raises(ArchitectureError, match="unknown model family 'brt'; did you mean 'bert'"):
        StatisticStep(
            strange, get_task("sst2"), world.data, get_statistic("mask"), FisherSettings(), Memo()
        ).compute(context)


@pytest.mark.parametrize("kind", ["mask", "diagonal"])
def test_a_broken_model_is_named(kind, world, context, tmp_path):
    model = world.load("sst2")
    model.bert.encoder.layer[0].intermediate.dense.weight.data[0, 0] = float("nan")
    folder = save(model, tmp_path / "broken")
    with pytest.raises(FisherError, match=r"broken: the (mask|diagonal) Fisher is not finite"):
        step(world, model=folder, kind=kind).compute(context)


def test_label_names_that_are_left_out_and_broken_ones(world):
    opened = open_checkpoint(world.model("mnli"))

    def names(**changes):
        config = {
            name: value
            for name, value in (dict(opened.config) | changes).items()
            if value is not None
        }
        return id2label(
            type(opened)(opened.name, opened.path, config, opened.tensors, opened.weight_files)
        )

    assert names() == {"0": "entailment", "1": "neutral", "2": "contradiction"}
    assert names(id2label=None) == {0: "LABEL_0", 1: "LABEL_1"}
    assert names(id2label=None, num_labels=3) == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    for broken in (["a", "b"], {"first": "a"}):
        with pytest.raises(
            CheckpointError,
            match=r"config\.json: id2label is .*; expected a name for each output's number",
        ):
            names(id2label=broken)


def test_one_pass_of_tokenization_serves_models_that_share_a_tokenizer(world, context, monkeypatch):
    step(world).prepare(context)
    monkeypatch.setattr(
        "fmn.evaluation.encoding.encode", lambda *a, **k: pytest.fail("encoded again")
    )
    step(world, kind="diagonal").prepare(context)
