"""A merge as a step: only its record is kept, and anyone derives it again."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from fmn.checkpoint import as_array, open_checkpoint, weights_digest
from fmn.errors import MergeError
from fmn.recipe import read_recipe
from fmn.steps.evaluate import EvaluateMergeStep
from fmn.steps.kind import Reference
from fmn.steps.recipe import merge_recipe
from fmn.steps.step import NeedsError
from fmn.steps.zoo.leaderboard import drop_surpassed, to_keep, zoo_report
from fmn.steps.zoo.run import run_steps
from fmn.store import Draft, collect, garbage, verify
from tests.steps.conftest import Notes, flip, object_of, reference
from tests.steps.world import LABELS, files

PAIR = reference("merge", "sst2", "rte", "mask-fisher")

DERIVE = """
import sys
from pathlib import Path
from fmn.checkpoint import weights_digest
from fmn.params import read_params
from fmn.steps.context import Context
from fmn.steps.kind import Reference
from fmn.steps.zoo.graph import Graph
from fmn.steps.zoo.zoo import open_zoo
from fmn.store import open_store
context = Context(device="cpu")
zoo = open_zoo(read_params(Path(sys.argv[1])), context.memo)
step = Graph(zoo).step(Reference("merge", ("sst2", "rte"), "mask-fisher"))
print(weights_digest(step.derive(open_store(sys.argv[2]), context).backbone))
"""


def test_nothing_but_the_record_is_stored(ran):
    records = ran.store.find("merge", ran.store.keys("merge"))
    assert len(records) == 8
    assert all(record.outputs == {} for record in records.values())
    assert len(ran.store.objects.all()) == 3 + 11  # the Fishers, and what was predicted


def test_another_process_with_a_fresh_cache_derives_the_same_bytes(ran, tmp_path):
    step = ran.open().step(PAIR)
    expected = ran.store.get("merge", step.key).value["backbone"]
    assert weights_digest(step.derive(ran.store, ran.context()).backbone) == expected
    environment = {
        "FMN_CACHE": str(tmp_path / "fresh"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }
    arguments = [sys.executable, "-c", DERIVE, ran.folder / "params.yaml", ran.folder / "store"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == expected


def test_a_merge_to_disk_has_the_recorded_weights(ran):
    out = ran.folder / "merged"
    merge_recipe(read_recipe(ran.world.recipe(ran.folder / "recipe.yaml")), out, ran.context())
    backbone = {
        name: tensor
        for name, tensor in open_checkpoint(out / "rte").tensors.items()
        if name.startswith("bert.")
    }
    record = ran.store.get("merge", ran.open().step(PAIR).key)
    assert record.value == {
        "backbone": weights_digest(backbone),
        "bytes": sum(t.nbytes for t in backbone.values()),
    }
    assert {name: entry["task"] for name, entry in record.names["models"].items()} == {
        "sst2": "sst2",
        "rte": "rte",
    }


def tampered(ran, reference=PAIR):
    """Let the record of a merge say other weights."""
    store, step = ran.store, ran.open().step(reference)
    record = store.get("merge", step.key)
    other = record.model_copy(update={"value": {**record.value, "backbone": "0" * 64}})
    store.files.write(record.path, other.to_bytes())
    return step


def test_other_weights_than_the_record_says_are_refused_and_never_measured(ran, monkeypatch):
    step = tampered(ran)
    with pytest.raises(
        MergeError,
        match=rf"its record says 000000000000.*: 'fmn catalog verify --mend {step.key[:12]}' rep",
    ):
        step.derive(ran.store, ran.context())
    weights = iter(["1" * 64, "2" * 64] * 2)
    with monkeypatch.context() as patch:  # a machine that never derives the same
        patch.setattr("fmn.steps.merge.weights_digest", lambda tensors: next(weights))
        with pytest.raises(MergeError, match="derived again"):
            step.derive(ran.store, ran.context(), mend=True)
    ran.say("evaluate", limit=20)
    ran.say("merge", keep="all")
    graph = ran.open()
    steps = [graph.step(PAIR._replace(kind=kind)) for kind in ("evaluate", "publish")]
    with monkeypatch.context() as patch:
        patch.setattr(
            "fmn.evaluation.evaluate", lambda *a, **k: pytest.fail("measured other weights")
        )
        patch.setattr("fmn.steps.merge.MergeStep.draft", broken)
        tally = run_steps(steps, ran.store, ran.context())
    assert [failure["step"] for failure in tally.failed] == [
        "evaluation of sst2 + rte by mask-fisher",
        "model of sst2 + rte by mask-fisher",
    ]
    assert (tally.computed, tally.skipped) == ({}, {})
    assert ran.store.keys("publish") == set()


def broken(self, store, context, folder):
    return Draft(value={"backbone": "3" * 64})


def test_a_run_that_derives_a_merge_mends_the_record_that_says_other_weights(ran):
    before = ran.store.get("merge", ran.open().step(PAIR).key)
    step = tampered(ran)
    ran.say("evaluate", limit=20)
    notes = Notes()
    evaluation = ran.open().step(PAIR._replace(kind="evaluate"))
    run_steps([evaluation], ran.store, replace(ran.context(), report=notes), strict=True)
    mended = ran.store.get("merge", step.key)
    assert (mended.value, mended.read) == (before.value, before.read)
    assert [f"the record {step.key[:12]} was replaced" in line for line in notes.warnings] == [True]
    record = ran.store.get("evaluate", evaluation.key)
    assert record.read == {"merge": {step.key: mended.content}}


def test_a_fisher_with_a_flipped_bit_enters_no_merge(ran):
    """Also where its size, time and inode are as they were."""
    step = ran.open().step(PAIR)
    record = ran.store.get("fisher", step.members[0].statistic_key("mask-fisher"))
    file = object_of(ran.store, record.outputs["fisher"].md5)
    ran.store.path(record.outputs["fisher"])
    stat = file.stat()
    flip(file)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_ino == stat.st_ino
    assert step.draft(ran.store, ran.context(), ran.folder).value == (
        ran.store.get("merge", step.key).value
    )
    assert verify(ran.store) == []


def test_a_merge_without_a_record_is_needed(lab):
    with pytest.raises(NeedsError, match=r"needs the merge sst2 \+ rte by mask-fisher"):
        lab.open().step(PAIR).derive(lab.store, lab.context())


def test_an_evaluation_on_another_machine_needs_only_the_records(ran):
    """The models lie elsewhere there, and nothing is cached."""
    (ran.folder / "world").rename(ran.folder / "theirs")
    for entry in ran.described["models"]:
        entry["model"] = entry["model"].replace("/world/", "/theirs/")
    ran.described["data"] = str(ran.folder / "theirs" / "data")
    ran.say("evaluate", limit=20)
    step, store = ran.open().step(PAIR._replace(kind="evaluate")), ran.store
    tally = run_steps([step], store, ran.context(), strict=True)
    assert tally.computed == {"evaluate": 1}
    assert isinstance(step, EvaluateMergeStep)
    record = store.get("evaluate", step.key)
    assert set(record.value["scores"]) == {"sst2", "rte"}
    assert record.value["examples"] == {"sst2": 20, "rte": 20}


def kept(ran):
    """Return the merges that the store keeps as models."""
    records = ran.store.find("publish", ran.store.keys("publish"))
    return {
        (frozenset(record.names["models"]), record.names["method"]): record
        for record in records.values()
    }


def check_out(ran, names, method):
    record = kept(ran)[frozenset(names), method]
    ran.store.objects.check_out(record.outputs["model"], ran.folder / "out")
    return ran.folder / "out"


def test_a_kept_merge_loads_and_is_what_a_merge_to_disk_is(ran):
    ran.say("merge", keep="all")
    assert ran.computed() == {"publish": 8}
    assert len(kept(ran)) == 8
    out = check_out(ran, ("sst2", "rte"), "mask-fisher")
    merge_recipe(
        read_recipe(ran.world.recipe(ran.folder / "recipe.yaml")),
        ran.folder / "merged",
        ran.context(),
    )
    by_hand = files(ran.folder / "merged")
    published = {
        str(f.relative_to(out)): f.read_bytes() for f in sorted(out.rglob("*")) if f.is_file()
    }
    assert {name: published[name] for name in by_hand if name != "recipe.yaml"} == {
        name: content for name, content in by_hand.items() if name != "recipe.yaml"
    }
    for task in ("sst2", "rte"):
        model = AutoModelForSequenceClassification.from_pretrained(out / task)
        other = AutoModelForSequenceClassification.from_pretrained(ran.folder / "merged" / task)
        assert tuple(model.config.id2label.values()) == LABELS[task]
        assert all(
            torch.equal(tensor, other.state_dict()[name])
            for name, tensor in model.state_dict().items()
        )
    assert ran.computed() == {}


@pytest.mark.parametrize(("keep", "count"), [("none", 0), ("best", 4), ("all", 8)])
def test_keep_says_which_merges_stay(keep, count, ran):
    ran.say("merge", keep=keep)
    assert ran.computed() == ({"publish": count} if count else {})
    report = zoo_report(ran.open(), ran.store)
    best = {(frozenset(row.scores), row.method) for row in report.best()}
    assert len(kept(ran)) == count
    assert (set(kept(ran)) >= best) == (count > 0)
    assert verify(ran.store) == []


def test_a_surpassed_merge_is_dropped_and_its_objects_are_garbage(ran):
    ran.say("merge", keep="best", combinations=[["sst2", "rte"]], methods=["average"])
    ran.run()
    (surpassed,) = kept(ran).values()
    parts = ran.store.objects.parts(surpassed.outputs["model"].md5)
    assert not parts & set(garbage(ran.store, [], grace=0).objects)
    ran.described["merge"]["methods"] = ["average", "mask-fisher"]
    graph, store = ran.open(), ran.store
    report = zoo_report(graph, store)
    better = max(report.rows, key=lambda row: (row.method == "mask-fisher", report.mean(row)))
    keep = [Reference("publish", tuple(better.scores), better.method)]
    run_steps([graph.step(keep[0])], store, ran.context(), strict=True)
    assert len(kept(ran)) == 2
    assert drop_surpassed(graph, keep, store) == 1
    assert [method for _, method in kept(ran)] == ["mask-fisher"]
    waste = garbage(ran.store, [], grace=0)
    still = ran.store.objects.parts(next(iter(kept(ran).values())).outputs["model"].md5)
    assert set(waste.objects) == parts - still
    assert waste.objects  # the backbone at least
    collect(ran.store, waste)
    assert verify(ran.store) == []
    assert drop_surpassed(graph, keep, store) == 0


def test_the_run_itself_drops_what_another_method_surpassed(ran, monkeypatch):
    ran.say("merge", keep="best", combinations=[["sst2", "rte"]], methods=["average"])
    ran.run()
    ran.described["merge"]["methods"] = ["average", "mask-fisher"]
    best = zoo_report(ran.open(), ran.store).best()
    if best[0].method == "average":  # scores of so small a world may tie: let the other win
        mean = "fmn.steps.zoo.leaderboard.ZooReport.mean"
        monkeypatch.setattr(mean, lambda self, row: float(row.method == "mask-fisher"))
    ran.run()
    assert [method for _, method in kept(ran)] == ["mask-fisher"]


def test_nothing_is_dropped_unless_the_best_are_asked_for(ran):
    ran.say("merge", keep="all")
    ran.run()
    ran.say("merge", keep="none")
    ran.run()
    assert len(kept(ran)) == 8
    ran.say("merge", keep="best", combinations=[["sst2", "rte"]])
    ran.run()
    assert len(kept(ran)) == 7  # other sets are nobody's business
    graph = ran.open()
    assert len(to_keep(graph, zoo_report(graph, ran.store))) == 1


def test_a_body_has_nothing_left_of_the_merge_before(ran):
    graph, context, store = ran.open(), ran.context(), ran.store
    own = graph.zoo.members["sst2"].source.checkpoint
    before = {
        name: as_array(tensor).copy() for name, tensor in context.model(own).state_dict().items()
    }
    first = graph.step(PAIR).derive(store, context)
    body = first.put_into(context.body(own))
    assert any("pooler" in name for name in first.backbone)
    changed = [
        name
        for name, tensor in body.state_dict().items()
        if not np.array_equal(as_array(tensor), before[name])
    ]
    assert any("pooler" in name for name in changed)
    again = context.body(own)
    assert again is body  # made once
    assert all(
        np.array_equal(as_array(tensor), before[name])
        for name, tensor in again.state_dict().items()
    )
    assert all(
        np.array_equal(as_array(tensor), before[name])
        for name, tensor in context.model(own).state_dict().items()
    )


def test_a_body_is_of_its_own_dtype_again(ran):
    ran.say("merge", dtype="bfloat16")
    ran.run()
    graph, context = ran.open(), ran.context()
    own = graph.zoo.members["sst2"].source.checkpoint
    merged = graph.step(PAIR).derive(ran.store, context).put_into(context.body(own))
    assert {tensor.dtype for tensor in merged.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in context.body(own).parameters()} == {torch.float32}
    assert {tensor.dtype for tensor in context.model(own).parameters()} == {torch.float32}


def test_a_part_that_others_lack_is_a_models_own_whatever_was_merged_before(ran):
    graph, context, store = ran.open(), ran.context(), ran.store
    own = graph.zoo.members["sst2"].source.checkpoint
    whole, partial = (graph.step(PAIR).derive(store, context) for _ in range(2))
    lacking = [name for name in partial.backbone if "pooler" in name]
    for name in lacking:
        del partial.backbone[name]
    whole.put_into(context.body(own))
    state = partial.put_into(context.body(own)).state_dict()
    assert len(lacking) == 2
    for name, tensor in state.items():
        expected = (
            partial.backbone[name]
            if name in partial.backbone
            else as_array(context.model(own).state_dict()[name])
        )
        assert np.array_equal(as_array(tensor), expected), name
