"""What a change makes computed again, and what it leaves alone."""

import os
import shutil
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from fmn.checkpoint import read, write
from fmn.merging import get_rule, register_rule, rules
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.run import run_zoo
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import Memo
from tests.steps.conftest import flip, reference
from tests.steps.world import LABELS, save

NOTHING = {}
ONE_MODEL = {"fisher": 1, "merge": 6, "evaluate": 7}
"""What depends on a model: its Fisher, the three sets with it by two methods, the evaluations of
both, and its own."""


def another_model(lab):
    model = lab.world.load("sst2")
    model.bert.pooler.dense.weight.data *= 1.01
    folder = save(model, lab.folder / "another", LABELS["sst2"])
    lab.described["models"].append({"model": str(folder), "task": "sst2", "name": "another"})


def move_a_checkpoint(lab):
    place = lab.folder / "elsewhere" / "renamed"
    place.parent.mkdir()
    lab.entry("sst2")["model"] = str(lab.world.model("sst2").rename(place))


def move_the_data(lab):
    lab.described["data"] = str(shutil.move(lab.world.data, lab.folder / "corpus"))


def another_head(lab):
    file = lab.world.model("sst2") / "model.safetensors"
    tensors, metadata = read(file)
    tensors = {name: tensor + (name == "classifier.bias") for name, tensor in tensors.items()}
    file.unlink()
    write(file, {name: tensor.astype("float32") for name, tensor in tensors.items()}, metadata)


def change_a_row(lab, split):
    file = f"{lab.world.data}/sst2/{split}.parquet"
    table = pq.read_table(file)
    texts = table["sentence"].to_pylist()
    pq.write_table(table.set_column(0, "sentence", [[texts[0] + " mat", *texts[1:]]]), file)


def pack_the_data_otherwise(lab):
    for split in ("train", "validation"):
        file = f"{lab.world.data}/sst2/{split}.parquet"
        table = pq.read_table(file)
        pq.write_table(
            table.append_column("idx", [list(range(len(table)))]), file, compression="gzip"
        )


def config(lab, **changes):
    lab.edit(lab.world.model("sst2") / "config.json", lambda content: content.update(changes))


CHANGES = {
    "nothing": (lambda lab: None, NOTHING),
    "a fourth model": (another_model, {"fisher": 1, "merge": 14, "evaluate": 15}),
    "one model less": (lambda lab: lab.described["models"].pop(), NOTHING),
    "the order of the models": (lambda lab: lab.described["models"].reverse(), NOTHING),
    "a weight in merge.weights": (
        lambda lab: lab.say("merge", weights={"rte": 0.5}),
        {"merge": 6, "evaluate": 6},
    ),
    "a weight of a model": (
        lambda lab: lab.entry("rte").update(weight=0.5),
        {"merge": 6, "evaluate": 6},
    ),
    "a weight of 1": (lambda lab: lab.say("merge", weights={"rte": 1}), NOTHING),
    "fewer sets": (lambda lab: lab.say("merge", sizes=[2]), NOTHING),
    "the same sets by name": (
        lambda lab: lab.say("merge", combinations=[["mnli", "sst2"], ["rte", "sst2"]]),
        NOTHING,
    ),
    "another scale of the Fishers": (
        lambda lab: lab.say("merge", parameters={"normalize": "l2"}),
        {"merge": 4, "evaluate": 4},
    ),
    "another association": (
        lambda lab: lab.say("merge", parameters={"association": "value"}),
        {"merge": 4, "evaluate": 4},
    ),
    "another dtype": (lambda lab: lab.say("merge", dtype="bfloat16"), {"merge": 8, "evaluate": 8}),
    "other samples": (
        lambda lab: lab.say("fisher", samples=8),
        {"fisher": 3, "merge": 4, "evaluate": 4},
    ),
    "another seed": (
        lambda lab: lab.say("fisher", samples=16, seed=1),
        {"fisher": 3, "merge": 4, "evaluate": 4},
    ),
    "other labels": (
        lambda lab: lab.say("fisher", samples=16, labels="expected"),
        {"fisher": 3, "merge": 4, "evaluate": 4},
    ),
    "draws with replacement": (
        lambda lab: lab.say("fisher", samples=16, replacement=True),
        {"fisher": 3, "merge": 4, "evaluate": 4},
    ),
    "no replacement by name": (
        lambda lab: lab.say("fisher", samples=16, replacement=False),
        NOTHING,
    ),
    "more nodes": (
        lambda lab: lab.say("fisher", samples=16, nodes=["layers"]),
        {"fisher": 3, "merge": 4, "evaluate": 4},
    ),
    "the default nodes by name": (
        lambda lab: lab.say("fisher", samples=16, nodes=["feed-forward", "attention"]),
        NOTHING,
    ),
    "the default labels by name": (
        lambda lab: lab.say("fisher", samples=16, labels="true"),
        NOTHING,
    ),
    "the batch size of Fishers": (lambda lab: lab.say("fisher", samples=16, batch_size=5), NOTHING),
    "the dtype of Fishers": (
        lambda lab: lab.say("fisher", samples=16, dtype="bfloat16"),
        {"fisher": 3, "merge": 4, "evaluate": 4},
    ),
    "the default dtype of Fishers by name": (
        lambda lab: lab.say("fisher", samples=16, dtype="same"),
        NOTHING,
    ),
    "the batch size of evaluations": (
        lambda lab: lab.say("evaluate", limit=30, batch_size=7),
        NOTHING,
    ),
    "the limit of evaluations": (lambda lab: lab.say("evaluate", limit=20), {"evaluate": 11}),
    "the length in evaluations": (
        lambda lab: lab.say("evaluate", limit=30, max_length=9),
        {"evaluate": 11},
    ),
    "the runner": (
        lambda lab: lab.say("runner", kind="dask", workers=3, batch=7, timeout=1, retries=0),
        NOTHING,
    ),
    "the devices": (lambda lab: lab.say("runner", devices=["cpu", "cpu"]), NOTHING),
    "the memory": (
        lambda lab: lab.say(
            "runner", memory={"checkpointing": True, "device_map": {"cpu": "10KB"}}
        ),
        NOTHING,
    ),
    "a checkpoint's place": (move_a_checkpoint, NOTHING),
    "the data's place": (move_the_data, NOTHING),
    "one byte of the weights": (
        lambda lab: flip(lab.world.model("sst2") / "model.safetensors"),
        ONE_MODEL,
    ),
    "another head": (another_head, ONE_MODEL),
    "a row of the training data": (
        lambda lab: change_a_row(lab, "train"),
        {"fisher": 1, "merge": 3, "evaluate": 3},
    ),
    "a row of the validation data": (lambda lab: change_a_row(lab, "validation"), {"evaluate": 7}),
    "how the data is stored": (pack_the_data_otherwise, NOTHING),
    "a label map": (
        lambda lab: lab.entry("sst2").update(
            labels={"negative": "positive", "positive": "negative"}
        ),
        {"fisher": 1, "merge": 3, "evaluate": 7},
    ),
    "a label map that says what holds": (
        lambda lab: lab.entry("sst2").update(
            labels={"negative": "negative", "positive": "positive"}
        ),
        NOTHING,
    ),
    "the tokenizer": (
        lambda lab: lab.edit(
            lab.world.model("sst2") / "tokenizer_config.json",
            lambda content: content.update(model_max_length=39),
        ),
        ONE_MODEL,
    ),
    "the configuration": (lambda lab: config(lab, layer_norm_eps=1e-6), ONE_MODEL),
    "what a configuration says by the way": (
        lambda lab: config(lab, _name_or_path="x", transformers_version="4.0", _commit_hash="f"),
        NOTHING,
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_computed_again_is_what_depends_on(change, ran):
    make, expected = CHANGES[change]
    make(ran)
    assert ran.computed() == expected
    assert ran.computed() == NOTHING


def test_the_device_does_not_matter(ran):
    assert ran.computed(device="auto") == NOTHING


def test_per_batch_aggregation_depends_on_the_batch_size(ran):
    ran.say("fisher", samples=16, aggregation="per-batch")
    every = {"fisher": 3, "merge": 4, "evaluate": 4}
    assert ran.computed() == every
    ran.say("fisher", batch_size=5)
    assert ran.computed() == every


def test_samples_beyond_what_there_is_are_all_the_same(ran):
    ran.say("fisher", samples=48)
    assert ran.computed() == {"fisher": 3, "merge": 4, "evaluate": 4}
    ran.say("fisher", samples=1000)
    assert ran.computed() == NOTHING


def test_another_method_recomputes_no_fisher(ran, monkeypatch):
    monkeypatch.setattr(rules._RULES, "_items", {**rules._RULES._items})
    register_rule(replace(get_rule("mask-fisher"), name="halves"))
    ran.say("merge", methods=["halves"])
    assert ran.computed() == {"merge": 4, "evaluate": 4}


def test_a_method_of_another_fisher_leaves_those_that_are_there(ran):
    ran.say("merge", methods=["average", "mask-fisher", "fisher"])
    before = ran.store.keys("fisher")
    assert ran.computed() == {"fisher": 3, "merge": 4, "evaluate": 4}
    new = ran.store.find("fisher", ran.store.keys("fisher") - before)
    assert {record.inputs["of"] for record in new.values()} == {"diagonal-fisher"}


def test_a_given_fisher_is_an_input_like_any_other(ran, tmp_path):
    graph, store = ran.open(), ran.store
    step = graph.step(reference("fisher", "rte", "mask-fisher"))
    step.save(tmp_path / "rte.safetensors", ran.context(), store)
    ran.entry("rte")["fisher"] = str(tmp_path / "rte.safetensors")
    assert ran.computed() == {"merge": 3, "evaluate": 3}
    shutil.move(tmp_path / "rte.safetensors", tmp_path / "moved.safetensors")
    ran.entry("rte")["fisher"] = str(tmp_path / "moved.safetensors")
    assert ran.computed() == NOTHING


def test_the_same_model_under_two_names_has_one_fisher(lab):
    lab.described["models"].append(
        {"model": str(lab.world.model("sst2")), "task": "sst2", "name": "twin"}
    )
    assert lab.computed()["fisher"] == 3


def test_digests_are_remembered_until_a_file_changes(ran, tmp_path, monkeypatch):
    for file in (
        *ran.world.root.rglob("*.safetensors"),
        *ran.world.root.rglob("*.parquet"),
        *ran.world.root.rglob("*.json"),
    ):
        os.utime(file, (1e9, 1e9))
    memo, params = Memo(tmp_path / "memo.sqlite", small=-1), ran.params
    open_zoo(params, memo)
    read_again = []
    digest = type(next(iter(ran.open().zoo.members.values())).source.checkpoint).digest
    monkeypatch.setattr(
        "fmn.checkpoint.Checkpoint.digest",
        lambda self: read_again.append(self.path.name) or digest(self),
    )
    monkeypatch.setattr("fmn.evaluation.load_split", lambda *a: pytest.fail("read data again"))
    zoo = open_zoo(params, Memo(tmp_path / "memo.sqlite", small=-1))
    assert read_again == []
    assert run_zoo(Graph(zoo), ran.store, ran.context()).computed == {}
    flip(ran.world.model("rte") / "model.safetensors")
    open_zoo(params, Memo(tmp_path / "memo.sqlite", small=-1))
    assert set(read_again) == {"rte"}
