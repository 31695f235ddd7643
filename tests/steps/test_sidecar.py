"""Fishers beside their models: whoever merges the model needs neither its data nor the store that
it was computed into."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fmn import checkpoint
from fmn.checkpoint import open_checkpoint, weights_digest
from fmn.errors import FisherError, FmnError
from fmn.recipe import read_recipe
from fmn.statistics import get_statistic
from fmn.steps.recipe import merge_recipe
from fmn.steps.sidecar import Sidecar, beside, publish, pull
from fmn.store import Memo, open_store
from tests.steps.conftest import flip, reference

FILE = "fisher/mask.rte.safetensors"


MASK = get_statistic("mask")


@pytest.fixture
def published(ran):
    """A zoo that was run, whose Fishers lie beside their models."""
    for task in ("sst2", "rte", "mnli"):
        publish(str(ran.world.model(task)), None, ran.store, Memo())
    return ran


def opened(lab, task="rte"):
    return open_checkpoint(lab.world.model(task))


def recipe(lab, name="recipe.yaml", **settings):
    return read_recipe(lab.world.recipe(lab.folder / name, **settings))


def digest(folder: Path) -> str:
    tensors = open_checkpoint(folder / "rte").tensors
    return weights_digest(
        {name: tensor for name, tensor in tensors.items() if name.startswith("bert.")}
    )


def test_it_is_the_fisher_of_the_store_with_its_record(published):
    sidecar = beside(opened(published), MASK, "rte", Memo())
    record = published.store.get("fisher", sidecar.key)
    assert sidecar.record == record
    stored = checkpoint.read(published.store.path(record.outputs["fisher"]))
    assert weights_digest(sidecar.measurement().tensors) == weights_digest(stored[0])
    assert sidecar.measurement().metadata == stored[1]


def test_the_record_has_the_fields_that_earlier_versions_know(published):
    text = checkpoint.read(opened(published).path / "fisher" / "mask.rte.safetensors")[1]["record"]
    fields = {"kind", "key", "inputs", "names", "value", "outputs", "made"}
    assert json.loads(text).keys() == fields


def test_a_model_is_the_same_with_a_fisher_beside_it(published):
    assert published.computed() == {}


def test_a_recipe_finds_it_and_needs_no_data(published, tmp_path):
    plain = recipe(published)
    merge_recipe(plain, tmp_path / "with-data", published.context())
    shutil.rmtree(Path(published.world.data))
    merge_recipe(plain, tmp_path / "without", published.context())
    assert digest(tmp_path / "without") == digest(tmp_path / "with-data")


def test_what_the_recipe_leaves_open_is_the_published_fishers(published, tmp_path):
    shutil.rmtree(Path(published.world.data))
    open_recipe = recipe(published, fisher={})
    assert open_recipe.fisher.samples != 16  # what it would compute
    merge_recipe(open_recipe, tmp_path / "merged", published.context())


def test_what_was_taken_is_in_the_resolved_recipe(published, tmp_path):
    """Its defaults would be other Fishers: merged again, by a recipe that finds none beside the
    models, it is the same."""
    merge_recipe(recipe(published, fisher={}), tmp_path / "merged", published.context())
    again = read_recipe(tmp_path / "merged" / "recipe.yaml")
    for entry in again.models:
        assert entry.fisher == beside(opened(published, entry.task), MASK, entry.task, Memo()).file
    merge_recipe(again, tmp_path / "again", published.context())
    assert digest(tmp_path / "again") == digest(tmp_path / "merged")


def test_a_task_with_fewer_rows_than_the_zoo_asks_for(published):
    published.say("fisher", samples=10_000)
    step = published.open().step(reference("fisher", "rte", "mask-fisher"))
    step.run(published.store, published.context())
    publish(
        str(published.world.model("rte")),
        None,
        published.store,
        Memo(),
        samples=step.inputs["settings"]["samples"],
    )
    assert isinstance(published.open().step(reference("fisher", "rte", "mask-fisher")), Sidecar)


def test_what_the_recipe_says_must_be_so(published, tmp_path):
    shutil.rmtree(Path(published.world.data))
    for number, settings in enumerate(
        (
            {"samples": 8},
            {"placement": "before-activation"},
            {"labels": "expected"},
            {"replacement": True},
            {"nodes": ["layers"]},
        )
    ):
        with pytest.raises(FmnError):  # it would have to be computed, and there are no data
            merge_recipe(
                recipe(published, f"{number}.yaml", fisher=settings),
                tmp_path / "merged",
                published.context(),
            )


def test_nodes_that_an_association_needs_and_the_fisher_lacks(published, tmp_path):
    context = published.context()
    file = recipe(published, parameters={"association": "layers"})
    with pytest.raises(FmnError, match="association layers needs a mask Fisher of nodes layers"):
        merge_recipe(file, tmp_path / "merged", context)


def test_a_label_map_that_the_fisher_was_not_computed_with(published, tmp_path):
    shutil.rmtree(Path(published.world.data))
    permuted = {"rte": {"labels": {"entailment": "not_entailment", "not_entailment": "entailment"}}}
    with pytest.raises(FmnError):
        merge_recipe(recipe(published, models=permuted), tmp_path / "merged", published.context())


def test_a_zoo_takes_it_where_there_are_no_training_data(published):
    for task in ("sst2", "rte", "mnli"):
        (Path(published.world.data) / task / "train.parquet").unlink()
    shutil.rmtree(published.folder / "store")
    tally = published.run()
    assert dict(tally.computed) == {"fisher": 3, "merge": 8, "evaluate": 11}
    assert published.computed() == {}


def test_the_key_is_the_one_that_it_was_computed_under(published):
    steps = [
        published.open().step(reference("fisher", task, "mask-fisher"))
        for task in ("sst2", "rte", "mnli")
    ]
    keys = {step.key for step in steps}
    for task in ("sst2", "rte", "mnli"):
        (Path(published.world.data) / task / "train.parquet").unlink()
    assert {
        published.open().step(reference("fisher", task, "mask-fisher")).key
        for task in ("sst2", "rte", "mnli")
    } == keys


def test_it_is_taken_into_a_store_byte_for_byte(published, tmp_path):
    (step,) = pull(opened(published), Memo(), statistic=MASK, task=None)
    other = open_store(tmp_path / "other", cache=tmp_path / "cache")
    assert not step.run(other, published.context()).cached
    assert other.get("fisher", step.key) == published.store.get(
        "fisher", step.key
    )  # who computed it, too
    assert step.run(other, published.context()).cached


def test_one_of_other_weights_is_refused_and_not_used(published, tmp_path):
    flip(published.world.model("rte") / "model.safetensors")
    with pytest.raises(
        FisherError,
        match=r"is of weights \w{12}, but the model's are \w{12}; compute and publish it again",
    ):
        pull(opened(published), Memo(), statistic=MASK, task="rte")
    merge_recipe(
        recipe(published), tmp_path / "merged", published.context()
    )  # there are data to compute it from
    (warning,) = (line for line in published.warnings if "is of weights" in line)
    assert warning.endswith("; computing the mask Fisher")
    shutil.rmtree(Path(published.world.data))
    with pytest.raises(FmnError):
        merge_recipe(recipe(published), tmp_path / "again", published.context())


def test_a_zoo_says_that_what_lies_beside_a_model_is_not_its_fisher(published):
    flip(published.world.model("rte") / "model.safetensors")
    assert published.computed()["fisher"] == 1  # from the data
    (Path(published.world.data) / "rte" / "train.parquet").unlink()
    with pytest.raises(FisherError, match="is of weights"):
        published.open()


def test_half_a_file_is_no_reason_not_to_compute(published, tmp_path):
    file = published.world.model("rte") / FILE
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(FisherError, match=r"not a complete safetensors file .*publish it again"):
        beside(opened(published), MASK, "rte", Memo())
    merge_recipe(recipe(published), tmp_path / "merged", published.context())
    assert published.computed() == {}


def rewritten(lab, change_tensors=lambda t: t, change_metadata=lambda m: m) -> None:
    file = lab.world.model("rte") / FILE
    tensors, metadata = checkpoint.read(file)
    tensors, metadata = {n: t.copy() for n, t in tensors.items()}, dict(metadata)
    with checkpoint.new_file(file, replace=True) as staging:
        checkpoint.write(staging, change_tensors(tensors), change_metadata(metadata))


def test_a_damaged_one_is_refused(published):
    def change(tensors):
        tensors["layer.0.attention"][0] *= 2
        return tensors

    rewritten(published, change)
    with pytest.raises(FisherError, match="is damaged: it is not what its record says"):
        beside(opened(published), MASK, "rte", Memo())


def test_a_record_that_was_changed_is_refused(published):
    def change(metadata):
        record = json.loads(metadata["record"])
        record["inputs"]["settings"]["samples"] = 99
        return {**metadata, "record": json.dumps(record)}

    rewritten(published, change_metadata=change)
    with pytest.raises(FisherError, match="has no record of what it is"):
        beside(opened(published), MASK, "rte", Memo())


def test_a_file_that_was_not_published_is_refused(published):
    rewritten(
        published,
        change_metadata=lambda metadata: {n: v for n, v in metadata.items() if n != "record"},
    )
    with pytest.raises(
        FisherError, match="has no record of what it is; publish it again with 'fmn fisher push'"
    ):
        beside(opened(published), MASK, "rte", Memo())


def test_there_is_none(ran):
    assert beside(opened(ran), MASK, "rte", Memo()) is None
    with pytest.raises(FisherError, match="no mask Fisher is beside"):
        pull(opened(ran), Memo(), statistic=MASK, task=None)


def test_several_are_told_apart(ran):
    ran.say("fisher", samples=8)
    ran.run()
    model = str(ran.world.model("rte"))
    with pytest.raises(
        FisherError,
        match=(
            r"has several of .* \(mask Fisher, 2\): rte of 16 samples \(\w{8}\), rte of 8 "
            r"samples"
        ),
    ):
        publish(model, None, ran.store, Memo())
    assert "8 samples" in publish(model, None, ran.store, Memo(), samples=8)
    key = ran.open().step(reference("fisher", "rte", "mask-fisher")).key
    assert f"8 samples ({key[:12]})" in publish(model, None, ran.store, Memo(), key=key[:8])
    with pytest.raises(
        FisherError, match=r"has no such mask Fisher of .*; compute it first: fmn fisher "
    ):
        publish(model, None, ran.store, Memo(), samples=9)


def test_a_dry_run_writes_nothing(ran):
    line = publish(str(ran.world.model("rte")), None, ran.store, Memo(), dry_run=True)
    assert line.startswith(
        f"{ran.world.model('rte') / FILE}: would be the mask Fisher of rte, 16 samples"
    )
    assert not (ran.world.model("rte") / "fisher").exists()


def test_it_is_sent_to_a_repository_of_the_hub(ran, hub, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
    line = publish(str(ran.world.model("rte")), "hf://team/rte", ran.store, Memo())
    assert "the mask Fisher of rte, 16 samples" in line
    assert list(hub.files) == [FILE]
    file = ran.world.model("rte") / FILE  # as the hub's client downloads it with the model
    file.parent.mkdir()
    file.write_bytes(hub.files[FILE])
    (step,) = pull(opened(ran), Memo(), statistic=MASK, task="rte")
    assert step.record == ran.store.get("fisher", step.key)
