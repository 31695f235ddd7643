"""Methods that need a parent, parameters or Gram matrices, from params.yaml to the catalog."""

import shutil
from dataclasses import replace

import pytest
import torch
import yaml
from transformers import BertConfig, BertForSequenceClassification

from fmn.catalog import Catalog, model_card
from fmn.catalog.catalog import differences
from fmn.checkpoint import open_checkpoint
from fmn.errors import CatalogError, CheckpointError, FisherError, ParamsError
from fmn.params import MemorySettings
from fmn.recipe import read_recipe
from fmn.report import read_report, render
from fmn.steps.recipe import merge_recipe
from fmn.steps.rederive import get_merge, verify_merge, verify_scores
from fmn.steps.zoo.leaderboard import zoo_report
from fmn.steps.zoo.run import run_zoo
from tests.steps.conftest import flip, make_lab, reference
from tests.steps.test_merge import refuse_to_compute
from tests.steps.test_rederive import backbone
from tests.steps.world import SIZES, files, save

ON_PARENT = [
    "task-arithmetic",
    "ties",
    "dare-linear",
    "dare-ties",
    "model-stock",
    "tsv-m",
    "iso-c",
    "regmean-free",
    "della",
    "breadcrumbs",
    "consensus-ta",
]
METHODS = [*ON_PARENT, "slerp", "regmean"]


def parent_of(folder, seed=0):
    """Write what the small world's models were before they were taught."""
    torch.manual_seed(seed)
    return save(BertForSequenceClassification(BertConfig(**SIZES)), folder)


def of_a_parent(lab):
    """Describe pairs by every method."""
    lab.described["parent"] = str(parent_of(lab.folder / "parent"))
    lab.say("merge", methods=METHODS, sizes=[2])
    return lab


def run_all(lab):
    assert of_a_parent(lab).computed() == {"fisher": 3, "merge": 39, "evaluate": 42}
    assert lab.warnings == []
    return lab


@pytest.fixture(scope="module")
def elsewhere(world, tmp_path_factory):
    """Pairs by every method, run; to stay as they are."""
    return run_all(make_lab(tmp_path_factory.mktemp("methods"), world))


@pytest.fixture
def zoo(lab, elsewhere):
    """The same with a copy of the store, whose records name the parent that is elsewhere."""
    shutil.copytree(elsewhere.folder / "store", lab.folder / "store")
    return of_a_parent(lab)


@pytest.fixture
def zoo_run_here(lab):
    """The same, whose records name its own parent."""
    return run_all(lab)


def recomputed(lab):
    counts = lab.computed()
    assert lab.computed() == {}
    return counts


def merges(count):
    return {"merge": count, "evaluate": count}


def test_what_is_computed_again_is_what_depends_on_it(zoo):
    defaults = {"scale": None, "density": None, "seed": None, "alpha": None}
    zoo.say("merge", parameters=defaults)
    assert recomputed(zoo) == {}
    zoo.say("merge", parameters={"alpha": 0.9, "seed": 0})  # what holds where nothing is said
    assert recomputed(zoo) == {}
    zoo.say("merge", parameters={"alpha": 0.5})
    assert recomputed(zoo) == merges(3)
    zoo.say("merge", parameters={"density": 0.6})
    assert recomputed(zoo) == merges(15)
    zoo.say("merge", parameters={"seed": 3})
    assert recomputed(zoo) == merges(9)
    zoo.say("merge", parameters={"scale": 0.7})
    assert recomputed(zoo) == merges(27)
    zoo.say("merge", parameters={})
    zoo.say("fisher", samples=8)
    assert recomputed(zoo) == {"fisher": 3, **merges(3)}
    zoo.say("fisher", labels="expected", placement="before-activation")
    assert recomputed(zoo) == {}


def test_the_parent_is_a_part_of_the_merges_that_use_it(zoo):
    moved = shutil.move(zoo.folder / "parent", zoo.folder / "moved")
    zoo.described["parent"] = {"model": str(moved)}
    assert recomputed(zoo) == {}
    flip(zoo.folder / "moved" / "model.safetensors")
    plan = zoo.plan()
    assert plan.steps["merge"].reasons == {"the parent changed": 3 * len(ON_PARENT)}
    assert recomputed(zoo) == merges(3 * len(ON_PARENT))


def test_a_zoo_says_why_a_parameter_matters(zoo):
    zoo.say("merge", parameters={"density": 0.6})
    assert zoo.plan().steps["merge"].reasons == {
        "merge density: 0.1 → 0.6": 6,
        "merge density: 0.2 → 0.6": 3,
        "merge density: 0.5 → 0.6": 3,
        "merge density: 0.9 → 0.6": 3,
    }


def test_merges_that_others_make_stay_whoever_names_a_parent(ran):
    ran.described["parent"] = str(parent_of(ran.folder / "parent"))
    assert recomputed(ran) == {}


def test_the_catalog_derives_measures_and_describes_them(zoo_run_here, tmp_path):
    zoo = zoo_run_here
    catalog = Catalog(zoo.store)
    entries = {
        entry.method: entry
        for entry in catalog.entries.values()
        if list(entry.parts) == ["rte", "sst2"]
    }
    assert set(entries) == set(METHODS)
    for method, entry in entries.items():
        assert verify_merge(catalog, entry, zoo.context()) == entry.record.value["backbone"]
        assert verify_scores(catalog, entry, zoo.context()) == []
        card = model_card(entry, catalog.statistics(entry))
        out = tmp_path / method
        get_merge(catalog, entry.id, out, zoo.context())
        assert backbone(out / "rte") == entry.record.value["backbone"]
        recipe = yaml.safe_load(card.split("```yaml")[1].split("```")[0])
        (tmp_path / f"{method}.yaml").write_text(yaml.safe_dump(recipe))
        merge_recipe(
            read_recipe(tmp_path / f"{method}.yaml"), tmp_path / f"{method} again", zoo.context()
        )
        assert backbone(tmp_path / f"{method} again" / "rte") == entry.record.value["backbone"]
    parent = open_checkpoint(zoo.described["parent"])
    assert entries["ties"].parameters == {"scale": 1.0, "density": 0.2, "dtype": "same"}
    assert entries["ties"].parent == {
        "model": str(parent.name),
        "revision": None,
        "digest": parent.digest(),
    }
    assert entries["slerp"].parent is None
    assert {row.method for row in zoo_report(zoo.open(), zoo.store).rows} == set(METHODS)
    page = read_report(catalog)
    assert {merge.method for merge in page.merges} == set(METHODS)
    assert {"scale": "1.0", "density": "0.2", "dtype": "same", "heads": "merged"} in [
        merge.parameters for merge in page.merges
    ]
    assert "ties" in render(page)
    assert differences([entries["ties"], entries["dare-ties"]])["density"] == ["0.2", "0.1"]


def test_what_a_method_needs_may_depend_on_its_parameters(lab, tmp_path):
    lab.described["parent"] = str(parent_of(lab.folder / "parent"))
    metric = {"method": "tsv-m", "parameters": {"metric": ["none", "both"]}}
    farther = {"method": "mask-fisher", "parameters": {"distance": [1.0, 1.3]}}
    lab.say("merge", methods=["tsv-m"], sizes=[3])
    assert lab.computed() == {"merge": 1, "evaluate": 4}
    lab.say("merge", methods=[metric, farther], sizes=[3])
    assert lab.computed() == {"fisher": 6, "merge": 3, "evaluate": 3}
    assert lab.warnings == []
    assert {row.method for row in zoo_report(lab.open(), lab.store).rows} == {
        "tsv-m, metric none",
        "tsv-m, metric both",
        "mask-fisher, distance 1",
        "mask-fisher, distance 1.3",
    }
    catalog = Catalog(lab.store)
    for entry in catalog.entries.values():
        plain = not {"distance", "metric"} & entry.parameters.keys()
        assert (entry.parent is None) == (plain and entry.method == "mask-fisher")
        assert len(catalog.statistics(entry).get("sst2", {})) == (
            2 if "metric" in entry.parameters else entry.method == "mask-fisher"
        )
        assert verify_merge(catalog, entry, lab.context()) == entry.record.value["backbone"]
        out = tmp_path / entry.id
        get_merge(catalog, entry.id, out, lab.context())
        card = (out / "README.md").read_text().split("```yaml")[1].split("```")[0]
        (tmp_path / "recipe.yaml").write_text(card)
        merge_recipe(read_recipe(tmp_path / "recipe.yaml"), tmp_path / "again", lab.context())
        assert backbone(tmp_path / "again" / "rte") == entry.record.value["backbone"]
        shutil.rmtree(tmp_path / "again")


def test_a_parent_that_is_elsewhere_or_another_is_said(zoo_run_here, tmp_path):
    zoo = zoo_run_here
    catalog = Catalog(zoo.store)
    entry = next(entry for entry in catalog.entries.values() if entry.method == "ties")
    moved = shutil.move(zoo.folder / "parent", zoo.folder / "moved")
    with pytest.raises(
        Exception,
        match=(
            r"parent: no directory .*say where the parent of the merge is: --model "
            r"parent=DIRECTORY"
        ),
    ):
        verify_merge(catalog, entry, zoo.context())
    verify_merge(catalog, entry, zoo.context(), {"parent": str(moved)})
    flip(zoo.folder / "moved" / "model.safetensors")
    with pytest.raises(Exception, match=r"parent: .* the recipe was resolved with other weights"):
        verify_merge(catalog, entry, zoo.context(), {"parent": str(moved)})
    slerp = next(entry for entry in catalog.entries.values() if entry.method == "slerp")
    with pytest.raises(CatalogError, match="the merge has no model 'parent'"):
        verify_merge(catalog, slerp, zoo.context(), {"parent": str(moved)})


@pytest.mark.parametrize("method", METHODS)
def test_the_resolved_recipe_gives_the_same_bytes_again(method, world, tmp_path, context):
    parent = {"parent": str(parent_of(tmp_path / "parent"))} if method in ON_PARENT else {}
    recipe = world.recipe(tmp_path / "recipe.yaml", method=method, **parent)
    merge_recipe(read_recipe(recipe), tmp_path / "first", context)
    merge_recipe(read_recipe(tmp_path / "first" / "recipe.yaml"), tmp_path / "second", context)
    assert files(tmp_path / "first") == files(tmp_path / "second")
    content = yaml.safe_load((tmp_path / "first" / "recipe.yaml").read_text())
    assert ("parent" in content) == bool(parent)
    if parent:
        assert content["parent"]["digest"] == open_checkpoint(tmp_path / "parent").digest()
        flip(tmp_path / "parent" / "model.safetensors")
        with pytest.raises(
            CheckpointError, match=r"parent: .* the recipe was resolved with other weights"
        ):
            merge_recipe(
                read_recipe(tmp_path / "first" / "recipe.yaml"), tmp_path / "third", context
            )


def test_resolved_recipes_of_methods_without_parameters_say_nothing_new(world, tmp_path, context):
    merge_recipe(
        read_recipe(world.recipe(tmp_path / "recipe.yaml", method="average")),
        tmp_path / "merged",
        context,
    )
    content = yaml.safe_load((tmp_path / "merged" / "recipe.yaml").read_text())
    assert content["parameters"] == {"association": "paper", "normalize": "none"}
    assert "parent" not in content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": ["ties"]}, "sst2 \\+ rte: method ties needs the parent of the models"),
        (
            {"methods": ["mask-fisher"], "parameters": {"distance": [1.0, 1.3]}},
            "method mask-fisher needs the parent of the models",
        ),
        (
            {"methods": ["average", "slerp"], "sizes": "all"},
            "sst2 \\+ rte \\+ mnli: method slerp merges 2 models, here are 3",
        ),
        (
            {"methods": ["average"], "parameters": {"density": 0.5}},
            "parameters: average has no parameter density",
        ),
        (
            {"methods": ["ties"], "parameters": {"density": 0}},
            "parameters: density: 0 is impossible; expected a number above 0",
        ),
    ],
)
def test_zoos_that_ask_for_the_impossible(changes, message, lab, monkeypatch):
    monkeypatch.setattr(
        "fmn.steps.zoo.zoo.open_source", lambda *a: pytest.fail("a model was opened")
    )
    lab.say("merge", **changes)
    with pytest.raises(ParamsError, match=message) as error:
        lab.open()
    assert "\n" not in str(error.value)


def test_unequal_weights_are_refused_by_model_stock(lab):
    lab.described["parent"] = str(parent_of(lab.folder / "parent"))
    lab.say("merge", methods=["model-stock"], sizes=[2], weights={"mnli": 2})
    with pytest.raises(
        ParamsError,
        match="sst2 \\+ mnli: method model-stock knows no weights, here are 1, 2; give all",
    ):
        lab.open()


def test_a_model_that_is_not_the_parent_is_said_by_plans_and_runs(lab):
    torch.manual_seed(5)
    stranger = BertForSequenceClassification(BertConfig(**{**SIZES, "initializer_range": 3.0}))
    lab.described["parent"] = str(save(stranger, lab.folder / "stranger"))
    lab.say("merge", methods=["average"], sizes=[2])
    (line,) = lab.open().zoo.doubts
    assert "is it the model that they are fine-tunes of?" in line
    lab.run()
    assert lab.warnings == [line]


def test_settings_that_contradict_each_other_are_refused_before_anything_is_computed(
    lab, monkeypatch
):
    lab.say("merge", methods=["mask-fisher", "fisher"], sizes=[2])
    refuse_to_compute(monkeypatch)
    with pytest.raises(FisherError, match="checkpointing and device maps are for mask Fishers"):
        run_zoo(
            lab.open(),
            lab.store,
            replace(lab.context(), memory=MemorySettings(checkpointing=True)),
        )
    lab.say("fisher", aggregation="per-batch", labels="expected")
    with pytest.raises(FisherError, match="aggregation per-batch squares one gradient per batch"):
        lab.run()


def test_gram_matrices_do_not_depend_on_labels_or_batches(zoo):
    step = zoo.open().step(reference("fisher", "rte", "gram"))
    other = replace(
        step, settings=step.settings.model_copy(update={"batch_size": 3, "labels": "sampled"})
    )
    assert other.key == step.key
    assert step.title == "Gram matrices of rte"
    assert set(step.inputs["settings"]) == {"samples", "seed", "max_length"}
