"""A merge of the catalog is made again from its record: taken home, or checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from fmn.catalog import Catalog
from fmn.checkpoint import open_checkpoint, weights_digest
from fmn.errors import CatalogError, DataError, FmnError, MergeError, OutputError
from fmn.recipe import read_recipe
from fmn.report import read_report
from fmn.steps.recipe import merge_recipe
from fmn.steps.rederive import get_merge, merge_step, verify_merge, verify_scores
from fmn.steps.zoo.leaderboard import zoo_report
from fmn.store import Record
from tests.steps.conftest import flip, object_of
from tests.steps.world import files


@pytest.fixture
def own(lab):
    """A zoo that was run where it is: its records name the models and data of this very test."""
    lab.say("merge", methods=["mask-fisher"], combinations=[["sst2", "rte"]])
    lab.run()
    return lab


def entry_of(lab, names=("rte", "sst2"), method="mask-fisher"):
    catalog = Catalog(lab.store)
    return catalog, next(
        e for e in catalog.entries.values() if tuple(e.parts) == names and e.method == method
    )


def backbone(folder: Path) -> str:
    tensors = open_checkpoint(folder).tensors
    return weights_digest(
        {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    )


def test_a_merge_is_taken_home_with_the_recorded_weights_and_a_card(ran, tmp_path):
    catalog, entry = entry_of(ran)
    out = tmp_path / "taken"
    assert get_merge(catalog, entry.id[:8], out, ran.context()) == entry
    assert backbone(out / "rte") == entry.record.value["backbone"]
    merge_recipe(
        read_recipe(ran.world.recipe(tmp_path / "recipe.yaml", tasks=("rte", "sst2"))),
        tmp_path / "merged",
        ran.context(),
    )
    direct = {
        name: content
        for name, content in files(tmp_path / "merged").items()
        if name != "recipe.yaml"
    }
    taken = {
        name: content
        for name, content in files(out).items()
        if name not in ("recipe.yaml", "README.md")
    }
    assert taken == direct
    recipe = read_recipe(out / "recipe.yaml")
    assert (recipe.data, recipe.fisher.samples, recipe.fisher.seed) == (
        catalog.fishers(entry)["rte"].names["data"],
        16,
        0,
    )
    merge_recipe(recipe, tmp_path / "again", ran.context())
    assert backbone(tmp_path / "again" / "rte") == entry.record.value["backbone"]
    model = AutoModelForSequenceClassification.from_pretrained(out / "rte")
    assert model.config.id2label == ran.world.load("rte").config.id2label
    card = (out / "README.md").read_text()
    assert entry.id in card
    assert entry.parts["rte"].weights in card


def test_a_merge_that_the_store_keeps_needs_no_models(ran, tmp_path):
    ran.say("merge", methods=["average", "mask-fisher"], keep="all")
    ran.run()
    catalog, entry = entry_of(ran)
    assert entry.kept
    shutil.rmtree(ran.folder / "world")
    get_merge(catalog, entry.id, tmp_path / "taken", ran.context())
    assert backbone(tmp_path / "taken" / "sst2") == entry.record.value["backbone"]
    assert torch.isfinite(
        AutoModelForSequenceClassification.from_pretrained(
            tmp_path / "taken" / "sst2"
        ).classifier.weight
    ).all()


def test_where_what_the_store_keeps_is_damaged_it_is_derived(ran, tmp_path):
    ran.say("merge", methods=["average", "mask-fisher"], keep="all")
    ran.run()
    catalog, entry = entry_of(ran)
    shard = max(
        catalog.store.objects.entries(entry.kept.outputs["model"].md5).items(),
        key=lambda one: one[0].endswith("config.json"),
    )
    object_of(catalog.store, shard[1]).unlink()
    get_merge(catalog, entry.id, tmp_path / "taken", ran.context())
    assert backbone(tmp_path / "taken" / "sst2") == entry.record.value["backbone"]
    assert {path.name for path in (tmp_path / "taken").iterdir()} == {
        "README.md",
        "recipe.yaml",
        "backbone",
        "rte",
        "sst2",
    }


def test_models_that_moved_are_said(own, tmp_path):
    catalog, entry = entry_of(own)
    moved = shutil.move(own.world.model("rte"), tmp_path / "elsewhere")
    with pytest.raises(
        FmnError,
        match=r"model rte of the merge is not to be had: .*say where it is: --model rte=DIRECTORY",
    ):
        get_merge(catalog, entry.id, tmp_path / "taken", own.context())
    assert not (tmp_path / "taken").exists()
    get_merge(catalog, entry.id, tmp_path / "taken", own.context(), {"rte": str(moved)})
    assert backbone(tmp_path / "taken" / "rte") == entry.record.value["backbone"]


def test_models_that_changed_are_refused(own, tmp_path):
    catalog, entry = entry_of(own)
    flip(own.world.model("rte") / "model.safetensors")
    own.edit(
        own.world.model("sst2") / "config.json",
        lambda config: config.update(hidden_dropout_prob=0.3),
    )
    with pytest.raises(MergeError) as caught:
        get_merge(catalog, entry.id, tmp_path / "taken", own.context())
    assert "rte has other weights than model rte of the merge had" in str(caught.value)
    assert "sst2 has other configuration or tokenizer than model sst2" in str(caught.value)
    assert not list(tmp_path.glob("*taken*"))


def test_a_name_that_is_no_model_of_the_merge_is_refused(ran, tmp_path):
    catalog, entry = entry_of(ran)
    with pytest.raises(CatalogError, match="the merge has no model 'mnli'; it has: rte, sst2"):
        get_merge(catalog, entry.id, tmp_path / "taken", ran.context(), {"mnli": "x"})


def test_a_directory_that_is_there_is_left_alone(ran, tmp_path):
    catalog, entry = entry_of(ran)
    with pytest.raises(OutputError, match="exists already"):
        get_merge(catalog, entry.id, tmp_path, ran.context())


def test_the_fisher_is_named_if_it_is_gone(ran, tmp_path):
    catalog, entry = entry_of(ran)
    catalog.store.drop(catalog.fishers(entry)["rte"].address)
    with pytest.raises(
        FmnError, match="the mask Fisher of rte is not in the store; publish it beside"
    ):
        get_merge(catalog, entry.id, tmp_path / "taken", ran.context())


def test_verifying_derives_and_compares(ran):
    catalog, entry = entry_of(ran)
    assert verify_merge(catalog, entry, ran.context()) == entry.record.value["backbone"]
    assert verify_scores(catalog, entry, ran.context()) == []


def tampered(catalog, record, change) -> Catalog:
    content = record.model_dump()
    change(content)
    catalog.store.files.write(record.path, Record.model_validate(content).to_bytes())
    catalog.refresh()
    return catalog


def test_a_record_that_says_other_weights_is_found_out(ran):
    catalog, entry = entry_of(ran)
    tampered(catalog, entry.record, lambda content: content["value"].update(backbone="0" * 64))
    with pytest.raises(MergeError, match="derived again, its weights are"):
        verify_merge(catalog, catalog[entry.id], ran.context())


def test_a_record_that_says_other_scores_is_found_out(ran):
    catalog, entry = entry_of(ran)
    right = entry.scores["rte"].value
    tampered(
        catalog,
        entry.evaluations[0].record,
        lambda content: content["value"]["scores"]["rte"].update(accuracy=0.999),
    )
    (change,) = verify_scores(catalog, catalog[entry.id], ran.context())
    assert (change.name, change.metric, change.recorded, change.current) == (
        "rte",
        "accuracy",
        0.999,
        right,
    )


def test_scores_are_measured_on_the_same_data_or_not_at_all(own, tmp_path):
    catalog, entry = entry_of(own)
    data = shutil.move(Path(own.world.data) / "rte", tmp_path / "rte")
    with pytest.raises(DataError):
        verify_scores(catalog, entry, own.context())
    shutil.copytree(Path(own.world.data), tmp_path / "data")
    shutil.copytree(data, tmp_path / "data" / "rte")
    assert verify_scores(catalog, entry, own.context(), data=str(tmp_path / "data")) == []
    shutil.copy(
        tmp_path / "data" / "rte" / "train.parquet",
        tmp_path / "data" / "rte" / "validation.parquet",
    )
    with pytest.raises(
        DataError,
        match=(
            "does not have the rte data that the merge was measured on; say where they are: --data"
        ),
    ):
        verify_scores(catalog, entry, own.context(), data=str(tmp_path / "data"))


def test_a_label_map_and_weights_come_from_the_record(lab, tmp_path):
    names = {"entailment": "not_entailment", "not_entailment": "entailment"}
    lab.entry("rte")["labels"] = names
    lab.say("merge", methods=["average"], weights={"sst2": 3.0})
    lab.run()
    catalog, entry = entry_of(lab, method="average")
    assert entry.parts["sst2"].weight == 3.0
    assert entry.parts["rte"].labels == names
    assert verify_scores(catalog, entry, lab.context()) == []
    get_merge(catalog, entry.id, tmp_path / "taken", lab.context())
    assert {m.name: m.labels for m in read_recipe(tmp_path / "taken" / "recipe.yaml").models} == {
        "rte": names,
        "sst2": None,
    }


def test_another_version_of_the_method_is_said(ran, monkeypatch):
    catalog, entry = entry_of(ran)
    monkeypatch.setattr("fmn.steps.merge.ALGORITHM", 2)
    with pytest.raises(
        CatalogError, match=r"made \w+ in a way that this version has no more; use fmn"
    ):
        merge_step(catalog, entry, ran.context().memo)


def test_the_catalog_the_leaderboard_and_the_report_say_the_same(ran):
    report, catalog = zoo_report(ran.open(), ran.store), Catalog(ran.store)
    board = {(frozenset(row.scores), row.method): report.mean(row) for row in report.rows}
    listed = {
        (frozenset(entry.parts), entry.method): entry.mean() for entry in catalog.entries.values()
    }
    shown = {
        (frozenset(member.name for member in merge.members), merge.method): merge.mean
        for merge in read_report(catalog).merges
    }
    assert len(board) == 8
    assert listed == pytest.approx(board)
    assert shown == pytest.approx(board)
